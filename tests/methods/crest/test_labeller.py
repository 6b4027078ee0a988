from __future__ import annotations

import numpy as np
import pytest
import torch

from semiseg.methods.crest.labeller import PseudoLabeller
from semiseg.networks import build_network

RATES = [0.2, 0.5, 1.0]


@pytest.fixture
def nets():
    torch.manual_seed(0)
    options = {"channels": 1, "classes": 3, "spatial_dims": 2, "filters": (4, 8), "strides": ((1, 1), (2, 2))}
    return [build_network("unet", **options, init=init).eval() for init in ("kaiming", "xavier")]


@pytest.fixture
def pool():
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(2, 1, 16, 16, generator=generator), torch.rand(2, 16, 16, generator=generator) < 0.8)
        for _ in range(3)
    ]


def test_nothing_is_kept_at_first(nets, pool):
    _, keep = PseudoLabeller(nets, torch.tensor(RATES))(pool[0][0])
    assert not keep.any()


def test_the_surest_share_of_every_class_is_kept(nets, pool):
    labeller = PseudoLabeller(nets, torch.tensor(RATES))
    labeller.follow(nets, pool)
    images, counted = (torch.cat(parts) for parts in zip(*pool, strict=True))
    labels, keep = labeller(images)
    with torch.no_grad():
        mean = torch.stack([net(images) for net in nets]).mean(0).softmax(1)
    confidence, expected = mean.max(1)
    assert torch.equal(labels, expected)
    for c, rate in enumerate(RATES):
        own = (labels == c) & counted
        assert own.sum() > 30
        np.testing.assert_allclose(keep[own].float().mean(), rate, atol=0.02)
        if rate < 1:
            assert confidence[own & keep].min() > confidence[own & ~keep].max()


def test_it_keeps_what_it_was_and_never_trains(nets, pool):
    labeller = PseudoLabeller(nets, torch.tensor(RATES)).train()
    labeller.follow(nets, pool)
    before, _ = labeller(pool[0][0])
    for net in nets:
        for parameter in net.parameters():
            parameter.data.neg_()
    assert torch.equal(labeller(pool[0][0])[0], before)
    assert not any(module.training for module in labeller.modules())
    assert not any(parameter.requires_grad for parameter in labeller.parameters())


def test_a_class_that_is_never_predicted_keeps_nothing(nets, pool):
    nets[0].load_state_dict(nets[1].state_dict())
    for net in nets:
        for name, parameter in net.named_parameters():
            if parameter.shape == (3,) and "bias" in name:
                parameter.data[2] = -1e4
    labeller = PseudoLabeller(nets, torch.tensor(RATES))
    labeller.follow(nets, pool)
    assert labeller.threshold[2] == 1
    assert (labeller.threshold[:2] < 1).all()
