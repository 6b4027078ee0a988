"""What every method adds, compares and perturbs survives the number format that it is trained in."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.adversarial import adversarial_direction, unit_noise, virtual_adversarial_loss
from semiseg.ingredients.consistency import probability_dice
from semiseg.ingredients.dices import DICES
from semiseg.methods.base import Clock, Method, Task, entry, registry
from semiseg.networks import build_network

STEPS, LATE, CLASSES = 100, 60, 3


def make(name: str, **options: Any) -> Method:
    torch.manual_seed(0)
    build = partial(
        build_network, "unet", channels=1, classes=CLASSES, spatial_dims=2, filters=(4, 8), normalisation="batch"
    )
    return entry(name).build(options, Task(CLASSES, 1, 2, (1000, 250, 60), 4, STEPS, (True,) * CLASSES), build).train()


def batch_of(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (4, 16, 16), generator=generator)
    images = (labels + 0.1 * torch.randn(labels.shape, generator=generator)).unsqueeze(1)
    return Batch(images, labels[:2], tuple("abcd"))


def clock(method: Method, step: int) -> Clock:
    return Clock(step, STEPS, step // 4, STEPS // 4, method.stages()[-1].name)


def trained(name: str, **options: Any) -> Method:
    """A method after some steps, so that its labels and features mean something."""
    method = make(name, **options)
    optimisers = {group: torch.optim.SGD(weights, 0.01, 0.9) for group, weights in method.groups().items()}
    for step in range(6):
        for loss in method.step(batch_of(step), clock(method, LATE + step)):
            if loss.total.requires_grad:
                optimisers[loss.group].zero_grad()
                loss.total.backward()
                optimisers[loss.group].step()
    return method


def gradients(method: Method, batch: Batch, step: int, half: bool) -> dict[tuple[str, int], Tensor]:
    """Gradient of every term of one step, by name and number of the loss; the method stays as it is."""
    method, found = deepcopy(method), {}
    weights = [p for p in method.parameters() if p.requires_grad]
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        for number, loss in enumerate(method.step(batch, clock(method, step))):
            for term, value in loss.terms.items():
                if value.requires_grad:
                    parts = torch.autograd.grad(
                        value, weights, retain_graph=True, allow_unused=True, materialize_grads=True
                    )
                    found[term, number] = torch.cat([part.flatten() for part in parts])
    return found


def cosine(a: Tensor, b: Tensor) -> float:
    return torch.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_term_pulls_the_same_way_in_half_precision(name: str) -> None:
    method, batch = trained(name), batch_of(9)
    exact, half = (gradients(method, batch, LATE + 6, half) for half in (False, True))
    assert exact.keys() == half.keys()
    assert all(cosine(exact[key], half[key]) > 0.9 for key in exact if exact[key].any())
    assert any(gradient.any() for gradient in exact.values())


def test_noise_below_the_steps_of_half_precision_is_lost_and_seen_to_be() -> None:
    method, batch = trained("pi_model", noise=0.001), batch_of(9)
    exact, half = (gradients(method, batch, LATE + 6, half)["consistency", 0] for half in (False, True))
    assert cosine(exact, half) < 0.9


def test_adversarial_noise_of_a_hundredth_per_voxel_survives_half_precision() -> None:
    """On a patch of 112 x 112 x 80 voxels noise of length 10 is 0.01 per voxel, where bf16 has steps of 0.004."""
    method, images = trained("supervised"), batch_of(9).images
    net, weights = method.net, list(method.parameters())
    magnitude = 0.01 * images[0].numel() ** 0.5
    distance = partial(probability_dice, form=DICES["la"].between, pooled=DICES["la"].pooled)
    found = []
    for half in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            target = torch.softmax(net(images).detach().float(), 1)
            start = magnitude * unit_noise(torch.rand_like(images) - 0.5)
            direction = adversarial_direction(net, images, target, start, distance)
            loss = virtual_adversarial_loss(net, images, distance, magnitude)
        found.append((direction, torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])))
    (direction, gradient), (direction_half, gradient_half) = found
    assert cosine(direction, direction_half) > 0.9
    assert cosine(gradient, gradient_half) > 0.9
