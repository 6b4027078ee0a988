from __future__ import annotations

import math

import pytest

from semiseg.ingredients.ramps import cosine_rampdown, lagged, linear_ramp, polynomial_decay, ramp_up, sigmoid_ramp
from semiseg.methods.base import Clock


def test_shapes():
    assert sigmoid_ramp(0, 10) == pytest.approx(math.exp(-5))
    assert sigmoid_ramp(5, 10) == pytest.approx(math.exp(-1.25))
    assert sigmoid_ramp(-3, 10) == sigmoid_ramp(0, 10)
    assert sigmoid_ramp(30, 10) == sigmoid_ramp(0, 0) == 1
    assert [linear_ramp(x, 4) for x in (0, 1, 4, 9)] == [0, 0.25, 1, 1]
    assert linear_ramp(0, 0) == 1
    assert [cosine_rampdown(x, 4) for x in (0, 2, 4)] == pytest.approx([1, 0.5, 0])
    assert [polynomial_decay(x, 4, 2.0) for x in (0, 2, 4)] == pytest.approx([1, 0.25, 0])
    assert [lagged(n) for n in (0, 1, 2)] == [0, 0, 1]


def test_units():
    clock = Clock(step=450, steps=900, epoch=11, epochs=21)
    assert ramp_up(clock, "run") == pytest.approx(sigmoid_ramp(0.5, 1))
    assert ramp_up(clock, "run", 0.75) == pytest.approx(sigmoid_ramp(0.5, 0.75))
    assert ramp_up(clock, "epochs") == pytest.approx(sigmoid_ramp(10, 20))
    assert ramp_up(clock, "epochs", 40) == pytest.approx(sigmoid_ramp(10, 40))
    assert ramp_up(clock, "units150") == pytest.approx(sigmoid_ramp(3, 200))
    assert ramp_up(clock, "units150", 40) == pytest.approx(sigmoid_ramp(3, 40))
    assert ramp_up(clock, "none") == 1


def test_a_single_epoch_has_full_weight():
    assert ramp_up(Clock(0, 5, 0, 1), "epochs") == 1
