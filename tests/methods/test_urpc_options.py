"""Options of URPC."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import dice_ce
from semiseg.methods.base import Clock, Task, entry
from semiseg.networks import build_network


def make(filters=(4, 5, 6, 7), network="unet", dropout=0.1, **options):
    torch.manual_seed(0)
    build = partial(build_network, network, channels=1, classes=3, spatial_dims=2, filters=filters, dropout=dropout)
    return entry("urpc").build(options, Task(3, 1, 2, (1, 1, 1)), build).train()


def images():
    return torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("scales", "expected"), [(4, 3), (3, 3), (2, 2)])
def test_the_finest_heads_are_used(scales, expected):
    method = make(scales=scales, dropout=0.0)
    found = method._pyramid(images())
    assert len(found) == expected
    assert all(z.shape == (3, 3, 32, 32) for z in found)
    logits, heads = method.net(images(), ("head1", "head2"))
    assert torch.equal(found[-1], logits)
    torch.testing.assert_close(found[-2], F.interpolate(heads["head2"], scale_factor=2, mode="bilinear"))
    trained = [head.weight.requires_grad for head in method.net.heads]
    assert trained == [expected == 3, True], "heads that are not used are not trained"


def test_nearest_enlargement_repeats_voxels():
    found = make(enlarge="nearest")._pyramid(images())[0]
    assert torch.equal(found[..., ::4, ::4], found[..., 3::4, 3::4])


@pytest.mark.parametrize("network", ["unet", "unet2d", "unet3d", "vnet"])
def test_any_network(network):
    method = make(filters=2 if network == "vnet" else (2, 3, 4, 5), network=network)
    batch = Batch(images(), torch.ones(1, 32, 32, dtype=torch.long))
    loss = next(method.step(batch, Clock(0, 10, 0, 1)))
    loss.total.backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    assert loss.terms["consistency"] > 0
    with torch.no_grad():
        torch.testing.assert_close(method.eval().predict(images()), method.net(images()).softmax(1))


def test_supervised_loss_is_the_mean_over_the_heads():
    method = make(dropout=0.0)
    batch = Batch(images(), torch.ones(1, 32, 32, dtype=torch.long))
    expected = torch.stack([dice_ce(z[:1], batch.labels, "ssl4mis") for z in method._pyramid(batch.images)]).mean()
    torch.testing.assert_close(next(method.step(batch, Clock(0, 10, 0, 1))).terms["supervised"], expected)
