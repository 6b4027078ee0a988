"""Options of SS-Net, and its memory across a stop."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import partial

import pytest
import torch

from semiseg.batches.batch import Batch
from semiseg.ingredients.dices import DICES
from semiseg.ingredients.losses import soft_dice
from semiseg.methods.base import Clock, Task, entry
from semiseg.networks import build_network
from slow_losses import dice_ratios

CLASSES = 3


def make(dims=2, seed=0, **options):
    torch.manual_seed(seed)
    build = partial(
        build_network, "unet", channels=1, classes=CLASSES, spatial_dims=dims, filters=(4, 6), normalisation="batch"
    )
    task = Task(CLASSES, 1, dims, (100, 30, 10))
    return entry("ssnet").build({"ramp": "none", "memory": 4, **options}, task, build).train()


def batch(step=0, dims=2, absent=0):
    """Images whose brightness tells the class; labels without class `absent`, unless it is 0."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(CLASSES, (4, *(16, 16, 8)[:dims]), generator=generator)
    labels = torch.where((labels == absent) & (labels > 0), 0, labels)
    return Batch(labels.unsqueeze(1) + 0.1 * torch.randn(labels.unsqueeze(1).shape, generator=generator), labels[:2])


def train(method, optimiser, steps, **of_batch):
    found = []
    for step in steps:
        torch.manual_seed(1000 + step)
        losses = method.step(batch(step, **of_batch), Clock(step, 100, 0, 10))
        loss = next(losses)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        next(losses, None)
        found.append({name: term.item() for name, term in loss.terms.items()})
    return found


def optimiser_of(method):
    return torch.optim.SGD(method.groups()["main"], lr=0.1, momentum=0.9)


def test_a_stop_while_the_memory_fills_changes_nothing():
    """Class 2 is not among the labels at first, so that its memory is empty when the run stops."""
    first = make()
    optimiser = optimiser_of(first)
    terms = train(first, optimiser, range(15), absent=2)
    sizes = first.observations()["memory_sizes"].tolist()
    assert sizes[0] == sizes[2] == 0
    assert sizes[1] > 0
    assert terms[-1]["contrast"] > 0

    second = make(seed=9)
    resumed = optimiser_of(second)
    second.load_state_dict(deepcopy(first.state_dict()))
    second.load_extra_state(json.loads(json.dumps(first.extra_state())))
    resumed.load_state_dict(deepcopy(optimiser.state_dict()))
    assert train(first, optimiser, range(15, 30)) == train(second, resumed, range(15, 30))
    assert first.memory.kept[2] > 0, "the fill went on after the stop"
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_what_is_computed_again_for_the_gradient_moves_no_statistics(monkeypatch):
    def after_a_step():
        method = make()
        (terms,) = train(method, optimiser_of(method), [3])
        return terms, method.state_dict()

    terms, state = after_a_step()
    monkeypatch.setattr("semiseg.methods.ssnet.checkpoint", lambda function, rows, **_: function(rows))
    plain, expected = after_a_step()
    assert terms == plain
    for name, value in expected.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(state[name], value)


def test_the_projection_for_the_memory_uses_running_statistics_and_leaves_them():
    method = make()
    train(method, optimiser_of(method), range(5))
    norm = method.projection[1]
    before = norm.running_mean.clone()
    features = torch.randn(2, 4, 16, 16)
    labels = torch.ones(2, 16, 16, dtype=torch.long)
    method.memory.kept.zero_()
    method._remember(features[:, :, :1, :2], labels[:, :1, :2], labels[:, :1, :2])
    assert torch.equal(norm.running_mean, before)
    assert method.projection.training
    expected = method.eval().projection(features[:, :, :1, :2].movedim(1, -1).reshape(-1, 4))
    torch.testing.assert_close(method.memory.of(1), expected.detach())


@pytest.mark.parametrize("dice", DICES)
def test_supervised_dice(dice):
    logits = torch.randn(2, CLASSES, 6, 5, dtype=torch.float64)
    target = torch.randint(CLASSES, (2, 6, 5))
    ratios = dice_ratios(logits.numpy(), target.numpy(), 1e-9, squared=dice == "acdc")
    expected = {"acdc": 1 - ratios.mean(), "la": 1 - ratios[1:].mean(), "dhc": -ratios.mean()}[dice]
    assert soft_dice(logits, target, DICES[dice].supervised).item() == pytest.approx(expected)


@pytest.mark.parametrize(("dims", "expected"), [(2, 6.0), (3, 10.0)])
def test_magnitude(dims, expected):
    assert make(dims).magnitude == expected
    assert make(dims, magnitude=3.0).magnitude == 3.0


@pytest.mark.parametrize(
    ("term", "options"),
    [
        ("vat", {"magnitude": 1.0}),
        ("vat", {"reach": 0.1}),
        ("vat", {"dice": "la"}),
        ("supervised", {"dice": "dhc"}),
        ("contrast", {"selected": "highest"}),
        ("contrast", {"memory": 2}),
    ],
)
def test_options_change_their_term(term, options):
    found = [train(method, optimiser_of(method), range(12))[-1][term] for method in (make(), make(**options))]
    assert found[0] != found[1]


def test_weights_of_the_terms():
    losses = make(weight=0.5, contrast_weight=0.2).step(batch(), Clock(0, 100, 0, 10))
    assert next(losses).weights == {"vat": 0.5, "contrast": 0.1}
