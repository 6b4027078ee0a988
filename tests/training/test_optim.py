"""Learning rates against the papers' formulas; updates that are skipped where the loss is not finite."""

from __future__ import annotations

import math

import pytest
import torch

from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import guarded_step, learning_rate, make_optimiser


@pytest.mark.parametrize(
    ("settings", "step", "expected"),
    [
        ({"schedule": "constant"}, 77, 0.01),
        ({"schedule": "poly"}, 0, 0.01),
        ({"schedule": "poly"}, 75, 0.01 * 0.25**0.9),
        ({"schedule": "cosine"}, 50, 0.005),
        ({"schedule": "step", "every": 30, "factor": 0.1}, 60, 0.0001),
        ({"schedule": "constant", "warmup": 10}, 4, 0.005),
    ],
)
def test_learning_rate(settings: dict[str, object], step: int, expected: float) -> None:
    assert learning_rate(OptimiserConfig(name="sgd", **settings), step, 100) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "positions"),
    [
        ({"unit": "epoch"}, [0, 0, 0, 1, 1, 1, 2, 2]),
        ({"unit": "epoch", "lag": True}, [0, 0, 0, 0, 0, 0, 1, 1]),
        ({"lag": True}, [0, 0, 1, 2, 3, 4, 5, 6]),
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_what_is_counted_by_a_loop_that_keeps_its_rate(settings: dict[str, object], positions: list[int]) -> None:
    """Eight steps in epochs of three; the loop sets its rate as official ones do, and its length is given."""
    config = OptimiserConfig(name="sgd", lr=0.5, power=0.9, length=10, **settings)
    expected = [0.5 * (1 - position / 10) ** 0.9 for position in positions]
    assert [learning_rate(config, step, 8, 3) for step in range(8)] == pytest.approx(expected, rel=1e-12)


def test_the_schedule_ends_with_the_run_or_where_it_is_told() -> None:
    whole = OptimiserConfig(name="sgd", lr=1, unit="epoch", power=1.0)
    assert [learning_rate(whole, step, 7, 3) for step in (0, 3, 6)] == pytest.approx([1, 2 / 3, 1 / 3])
    short = OptimiserConfig(name="sgd", lr=1, length=4, power=1.0)
    assert [learning_rate(short, step, 100) for step in (3, 4, 50)] == pytest.approx([0.25, 0, 0])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_update_equals_the_plain_optimiser(name: str) -> None:
    torch.manual_seed(0)
    start = torch.randn(5)
    ours, plain = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    config = OptimiserConfig(name=name, lr=0.01, clip=None)
    optimiser = make_optimiser(config, [ours])
    if name == "sgd":
        reference: torch.optim.Optimizer = torch.optim.SGD(
            [plain], lr=0.01, momentum=0.9, nesterov=True, weight_decay=3e-5
        )
    else:
        reference = torch.optim.AdamW([plain], lr=0.01, weight_decay=3e-5)
    for _ in range(4):
        for parameter, stepper in ((ours, optimiser), (plain, reference)):
            parameter.grad = None
            loss = (parameter**3).sum()
            loss.backward()
            if stepper is optimiser:
                assert guarded_step(optimiser, loss, None) == 0
            else:
                stepper.step()
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_updates_leave_everything_alone(name: str, bad: float) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = make_optimiser(OptimiserConfig(name=name), [parameter])
    for factor in (1.0, bad, 1.0):
        before = parameter.detach().clone()
        optimiser.zero_grad()
        loss = (parameter * torch.tensor([1.0, 1.0, factor])).sum()
        loss.backward()
        skipped = guarded_step(optimiser, loss, 12.0)
        assert skipped == (0.0 if factor == 1 else 1.0)
        assert torch.equal(parameter, before) == (factor != 1)
    assert parameter.isfinite().all()


def test_gradients_are_clipped() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimiser = make_optimiser(
        OptimiserConfig(name="sgd", momentum=0, nesterov=False, weight_decay=0, lr=1, clip=5), [parameter]
    )
    loss = (parameter * torch.tensor([30.0, 40.0])).sum()
    loss.backward()
    guarded_step(optimiser, loss, 5.0)
    torch.testing.assert_close(parameter.detach(), torch.tensor([-3.0, -4.0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("again", [False, True])
def test_a_first_update_that_is_skipped_leaves_no_momentum_behind(name: str, bad: float, again: bool) -> None:
    """The same holds for the first update after the state was forgotten, as at the start of a stage."""
    config = OptimiserConfig(name=name, lr=0.1, weight_decay=0)
    found = []
    for factors in ((bad, 1.0), (1.0,)):
        _litter((64, 64))
        parameter = torch.nn.Parameter(torch.zeros(64, 64))
        optimiser = make_optimiser(config, [parameter])
        if again:
            _update(optimiser, parameter, 1.0)
            parameter.detach().zero_()
            optimiser.state.clear()
        for factor in factors:
            _litter((64, 64))
            _update(optimiser, parameter, factor)
        found.append(parameter.detach())
    torch.testing.assert_close(*found, rtol=0.5, atol=0)  # AdamW counts the step that was left out
    assert found[0].abs().max() < 0.3


def _update(optimiser: torch.optim.Optimizer, parameter: torch.nn.Parameter, factor: float) -> None:
    optimiser.zero_grad()
    loss = (parameter * factor).sum()
    loss.backward()
    guarded_step(optimiser, loss, None)


def _litter(shape: tuple[int, ...]) -> None:
    """Memory that is handed out next holds large numbers."""
    [torch.full(shape, 1e30) for _ in range(200)].clear()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_parameters_may_have_their_first_gradient_late(name: str) -> None:
    early, late = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    alone = torch.nn.Parameter(torch.ones(3))
    config = OptimiserConfig(name=name, weight_decay=0)
    both, other = make_optimiser(config, [early, late]), make_optimiser(config, [alone])
    for used in ((early,), (early, late)):
        both.zero_grad()
        loss = torch.stack([p.square().sum() for p in used]).sum()
        loss.backward()
        guarded_step(both, loss, None)
    loss = alone.square().sum()
    loss.backward()
    guarded_step(other, loss, None)
    assert torch.equal(late, alone), "its first update is the first of its own"


@pytest.mark.parametrize(
    ("settings", "norm_decays"),
    [
        ({"name": "adamw"}, False),
        ({"name": "adamw", "decay_all": True}, True),
        ({"name": "sgd"}, True),
        ({"name": "sgd", "decay_all": False}, False),
    ],
)
def test_kernels_decay_and_norms_and_biases_only_where_asked(settings: dict[str, object], norm_decays: bool) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    before = [p.detach().clone() for p in net.parameters()]
    optimiser = make_optimiser(OptimiserConfig(lr=0.5, weight_decay=0.2, **settings), net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    guarded_step(optimiser, torch.zeros(()), None)
    shrunk = [0.9 if p.ndim > 1 or norm_decays else 1.0 for p in before]
    nesterov = 1.9 if settings["name"] == "sgd" else 1.0
    for parameter, old, factor in zip(net.parameters(), before, shrunk, strict=True):
        torch.testing.assert_close(parameter.detach(), old * (1 - (1 - factor) * nesterov))


def test_weight_decay_is_the_usual_one_where_it_is_left_open() -> None:
    assert OptimiserConfig().decay == OptimiserConfig(name="sgd").decay == 3e-5
    assert OptimiserConfig(weight_decay=0).decay == 0
