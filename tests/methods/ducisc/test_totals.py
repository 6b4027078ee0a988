from __future__ import annotations

import torch

from semiseg.methods.base import Loss
from semiseg.methods.ducisc.totals import self_normalised


def test_gradient_is_that_of_the_sum_of_logarithms():
    x = torch.tensor([0.3, 1.7, 5.0], dtype=torch.float64, requires_grad=True)
    shares = {"a": 1.0, "b": 0.25, "c": 0.0}
    terms = dict(zip(shares, x.square().unbind(), strict=True))
    loss = Loss(terms, self_normalised(terms, shares)).total
    assert loss.item() == 1.25
    wanted = torch.autograd.grad(sum(share * terms[name].log() for name, share in shares.items()), x, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, x), wanted)


def test_terms_without_value_get_no_weight():
    terms = {"zero": torch.zeros(()), "negative": torch.tensor(-1.0), "undefined": torch.tensor(torch.nan)}
    assert {name: w.item() for name, w in self_normalised(terms, dict.fromkeys(terms, 1.0)).items()} == dict.fromkeys(
        terms, 0.0
    )
