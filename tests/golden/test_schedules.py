"""Learning rates of whole runs against the numbers that official loops used, lags included."""

from __future__ import annotations

import numpy as np
import pytest

from golden_files import golden
from semiseg.methods.base import Stage
from semiseg.settings.presets import preset
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import learning_rate
from semiseg.training.stages import spans

STEPS_PER_EPOCH = 3


@pytest.mark.parametrize(("file", "key"), [("dhc", "sched_lr_used"), ("supervised", "sched_lr_used_in_epoch")])
def test_epochs_with_a_lag(file: str, key: str) -> None:
    """DHC's trainer: epochs 0 to E, the rate set at the end of each."""
    g = golden(file)
    last = int(g["sched_max_epoch"])
    config = OptimiserConfig(
        name="sgd", lr=float(g["sched_base_lr"]), schedule="poly", power=0.9, unit="epoch", lag=True, length=last
    )
    steps = (last + 1) * STEPS_PER_EPOCH
    for offset in range(STEPS_PER_EPOCH):
        rates = [
            learning_rate(config, epoch * STEPS_PER_EPOCH + offset, steps, STEPS_PER_EPOCH) for epoch in range(last + 1)
        ]
        np.testing.assert_allclose(rates, g[key], rtol=1e-7)


def test_epochs_without_a_lag() -> None:
    g = golden("micd")
    last = int(g["sched_max_epoch"])
    config = OptimiserConfig(name="sgd", lr=float(g["sched_base_lr"]), unit="epoch", length=last)
    epochs = g["sched_epoch"].tolist()
    rates = [learning_rate(config, epoch * STEPS_PER_EPOCH, 10**6, STEPS_PER_EPOCH) for epoch in epochs]
    np.testing.assert_allclose(rates, g["sched_lr_raw"], rtol=1e-12)


def test_steps_with_a_lag() -> None:
    """SSL4MIS sets after step i the rate of step i + 1, by the number i."""
    g = golden("mean_teacher")
    steps = int(g["sched_max_iterations"])
    config = OptimiserConfig(name="sgd", lr=float(g["sched_base_lr"]), lag=True, schedule="poly", power=0.9)
    assert learning_rate(config, 0, steps) == config.lr
    followers = [learning_rate(config, int(i) + 1, steps) for i in g["sched_iter"]]
    shown_after = g["sched_lr"]
    np.testing.assert_allclose(followers, shown_after, rtol=1e-9)


def test_self_training_of_cml() -> None:
    """The preset's rate in the second stage, counted from its start."""
    g = golden("cml")
    settings = preset("la").settings("cml", None, "honest")
    config, share = OptimiserConfig(**settings["optimiser"]), settings["options"]["pretraining"]
    steps = settings["steps"]
    stages = (Stage("pretraining", share, "constant"), Stage("selftraining", 1 - share, "stage"))
    before, after = spans(stages, steps)
    assert (before.end, steps - before.end) == (2000, 15000)
    assert {before.rate(config, step, steps) for step in (0, 1999)} == {0.01}
    rates = [after.rate(config, after.first + int(step) - 1, steps) for step in g["lr_la_selftrain_step"]]
    np.testing.assert_allclose(rates, g["lr_la_selftrain_value"], rtol=1e-9)
