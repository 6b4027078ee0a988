"""Worst-case heads and adversarial noise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from semiseg.ingredients.adversarial import (
    adversarial_direction,
    unit_noise,
    virtual_adversarial_loss,
    worst_case_loss,
)
from semiseg.ingredients.consistency import probability_mse


def logits(seed, batch=3):
    return torch.randn(batch, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


def distance(z, target):
    return (z.softmax(1) - target).square().mean()


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh(), nn.Conv2d(6, 4, 1)).train()


def test_noise_has_length_one_per_sample():
    noise = unit_noise(logits(0))
    torch.testing.assert_close(noise.flatten(1).norm(dim=1), torch.ones(3))
    assert not unit_noise(torch.zeros(2, 1, 3)).any()


def test_direction_is_the_steepest():
    net, images = small(), torch.randn(2, 1, 8, 8)
    start = 0.5 * unit_noise(torch.randn_like(images))
    target = net(images).softmax(1).detach()
    found = adversarial_direction(net, images, target, start, distance)

    def rise(direction):
        step = 1e-3 * direction
        ahead, behind = (distance(net(images + start + sign * step), target) for sign in (1, -1))
        return (ahead - behind).item()

    others = [rise(unit_noise(torch.randn_like(images))) for _ in range(20)]
    assert rise(found) > max(others)


def test_only_the_clean_pass_moves_statistics_and_the_search_gives_no_gradient():
    net, images = small(), torch.randn(2, 1, 8, 8)
    once = small()
    with torch.no_grad():
        once(images)
    torch.manual_seed(5)
    loss = virtual_adversarial_loss(net, images, distance, 2.0)
    assert torch.equal(net[1].running_mean, once[1].running_mean)
    assert all(p.grad is None for p in net.parameters())
    loss.backward()
    assert all(p.grad is not None for p in net.parameters())


def test_adversarial_noise_changes_more_than_random_noise():
    net, images = small(), torch.randn(2, 1, 8, 8)
    adversarial = virtual_adversarial_loss(net, images, distance, 2.0, reach=0.5)
    clean = net(images)
    random = [probability_mse(net(images + 2 * unit_noise(torch.randn_like(images))), clean).item() for _ in range(10)]
    assert adversarial > max(random)


@pytest.mark.parametrize("labelled", [0, 1, 3])
def test_worst_case(labelled):
    worst, labels = logits(1).requires_grad_(), logits(2).argmax(1)
    loss = worst_case_loss(worst, labels, labelled, 2.0)
    expected = torch.zeros(())
    if labelled:
        expected = expected + 2 * F.cross_entropy(worst[:labelled], labels[:labelled])
    if labelled < 3:
        p = worst.softmax(1).gather(1, labels.unsqueeze(1))[labelled:]
        expected = expected - (1 - p + 1e-6).log().clamp(max=0).mean()
    torch.testing.assert_close(loss, expected)
