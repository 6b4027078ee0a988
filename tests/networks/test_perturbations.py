"""Features changed at random before auxiliary heads, and which heads see them."""

from __future__ import annotations

import pytest
import torch

from semiseg.networks import build_network
from semiseg.networks.perturbations import add_relative_noise, drop_activations, drop_attended, perturbed


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_half_of_the_activations() -> None:
    changed = drop_activations(torch.ones(2, 4, 40, 40))
    assert set(changed.unique().tolist()) == {0.0, 2.0}
    assert 0.45 < (changed == 0).float().mean() < 0.55


@pytest.mark.parametrize("dims", [2, 3])
def test_the_most_attended_positions_go(dims: int) -> None:
    x = torch.rand(3, 5, *(12,) * dims) + 0.1
    changed = drop_attended(x)
    attention = x.mean(1).flatten(1)
    kept = changed.ne(0).all(1).flatten(1)
    assert torch.equal(kept, changed.ne(0).any(1).flatten(1)), "positions go with all their channels"
    shares = attention / attention.amax(1, keepdim=True)
    assert shares[kept].max() < shares[~kept].min(), "one share for the whole batch"
    assert 0.7 <= shares[~kept].min() < 0.92
    assert torch.equal(changed[changed != 0], x[changed != 0])


def test_noise_is_relative_and_shared_by_the_samples() -> None:
    change = add_relative_noise(torch.ones(2, 3, 30, 30)) - 1
    assert torch.equal(change[0], change[1])
    assert 0.28 < change.abs().max() <= 0.3
    assert len(change[0].unique()) > 1000


def test_heads_of_further_scales_see_noise() -> None:
    x = torch.ones(2, 3, 6, 6)
    assert torch.equal(perturbed(x, 5)[0], perturbed(x, 5)[0]) is False
    assert (perturbed(x, 5) - 1).abs().max() <= 0.3


def test_only_side_heads_in_training_see_perturbed_features() -> None:
    options = {"filters": (2, 3, 4, 5), "dropout": 0.0, "deep_supervision": True, "side_kernel": 3}
    net = build_network("unet2d", channels=1, classes=3, spatial_dims=2, perturb_sides=True, **options).eval()
    x, heads = torch.randn(2, 1, 16, 16), ("head1", "head2")
    with torch.no_grad():
        logits, clean = net(x, heads)
        again, noisy = net(x, heads, dropout=True)
        assert torch.equal(logits, again)
        assert all(not torch.equal(clean[head], noisy[head]) for head in heads)
        assert torch.equal(net(x, heads)[1]["head1"], clean["head1"])


def test_parameters_of_the_acdc_network() -> None:
    """The official class has one more head, on the bottleneck, that is never used."""
    with torch.device("meta"):
        net = build_network("unet2d", channels=1, classes=4, spatial_dims=2, deep_supervision=True, side_kernel=3)
    assert sum(p.numel() for p in net.parameters()) + 4 * (256 * 9 + 1) == 1_831_060
