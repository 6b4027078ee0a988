"""Learning rates against the papers' formulas; updates that are skipped where the loss is not finite."""

from __future__ import annotations

import math

import pytest
import torch

from semiseg.config import OptimiserConfig
from semiseg.engine.optim import guarded_step, learning_rate, make_optimiser


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
