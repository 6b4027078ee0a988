"""Terms of weight 0 are logged and train nothing, whatever they hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import nn

from semiseg.batches.batch import Batch
from semiseg.methods.base import Clock, Loss, Method, Task, entry
from semiseg.methods.ducisc.totals import self_normalised
from semiseg.networks import build_network
from semiseg.training.session import Stepper


class Two(Method):
    """One parameter in a sound term, one in a term that breaks down (the root of 0 has an infinite slope)."""

    def __init__(self, weight: object) -> None:
        nn.Module.__init__(self)
        self.sound, self.broken, self.weight = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1)), weight

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        terms = {"sound": (2 * self.sound).sum(), "broken": (self.broken.sqrt() * math.inf).sum()}
        yield Loss(terms, {"broken": self.weight})  # type: ignore[dict-item]


BATCH, CLOCK = Batch(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long)), Clock(0, 10, 0, 10)


def step(method: Method, batch: Batch = BATCH) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Total and logged terms of the first loss, after its backward."""
    found = Stepper(method)(method.step(batch, CLOCK))
    assert found is not None
    found[1].backward()
    return found[1], found[2]


def test_a_term_that_is_not_finite_does_not_spoil_an_update_in_which_it_has_no_weight() -> None:
    method = Two(0.0)
    total, terms = step(method)
    assert total.item() == 2.0
    assert set(terms) == {"sound", "broken"}
    assert not torch.isfinite(terms["broken"])
    assert method.sound.grad is not None
    assert method.sound.grad.item() == 2.0


def test_parameters_of_weightless_terms_alone_have_a_gradient_of_zero() -> None:
    """Distributed training waits for the gradient of every parameter."""
    method = Two(0)
    step(method)
    assert method.broken.grad is not None
    assert method.broken.grad.item() == 0.0


def test_a_weight_that_is_a_tensor_is_not_looked_at_on_the_host() -> None:
    loss = next(Two(torch.zeros(())).step(BATCH, CLOCK))
    assert not loss.weightless
    assert not torch.isfinite(loss.total)


def test_a_loss_without_any_weight_is_zero() -> None:
    loss = Loss({"a": torch.tensor(math.nan, requires_grad=True)}, {"a": 0})
    assert loss.total.item() == 0.0
    loss.total.backward()


@pytest.mark.parametrize("name", ["ssnet", "dst", "urpc", "lefed", "cml", "micd", "mean_teacher"])
def test_every_parameter_has_a_gradient_where_the_unsupervised_weight_is_zero(name: str) -> None:
    build = partial(
        build_network, "unet", channels=1, classes=2, spatial_dims=2, filters=(4, 8), strides=((1, 1), (2, 2))
    )
    options = {"unlabelled_weight": 0} if name == "cml" else {"weight": 0}
    torch.manual_seed(0)
    method = entry(name).build(options, Task(2, 1, 2, (9, 3), 8), build).train()
    batch = Batch(torch.randn(4, 1, 16, 16), torch.randint(2, (2, 16, 16)), tuple("abcd"))
    step(method, batch)
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_sums_of_ingredients_leave_out_what_has_no_weight() -> None:
    broken = torch.tensor(math.inf, requires_grad=True)
    weights = self_normalised({"sound": torch.tensor(2.0), "broken": broken}, {"sound": 1.0, "broken": 0})
    assert Loss({"sound": torch.tensor(2.0), "broken": broken}, weights).total.item() == 1.0
