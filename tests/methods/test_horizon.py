"""Averages of every method reach back over a share of a short run, and as far as in the papers in a long one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from semiseg.ingredients.class_sampling import ClassConfidence
from semiseg.ingredients.class_weights import CountedWeights, DiffDW
from semiseg.ingredients.ema import Teacher
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.prior import PredictionPrior
from semiseg.methods.base import Task, entry, registry
from semiseg.methods.ducisc.thresholds import SelfAwareThresholds
from semiseg.networks import build_network

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
DECAYS = {Teacher: "decay", CountedWeights: "momentum", SelfAwareThresholds: "momentum", PredictionPrior: "momentum"}
DECAYS |= {DiffDW: "keep", ClassConfidence: "momentum"}
REMEMBER = [name for name in registry() if issubclass(entry(name).cls.Config, HorizonOptions)]


def reaches(name: str, steps: int) -> list[float]:
    """Updates over which the averages of the method reach back."""
    build = partial(build_network, "unet", channels=1, classes=3, spatial_dims=2, filters=(4, 8))
    method = entry(name).build({}, Task(3, 1, 2, (90, 9, 1), 5, steps), build)
    found = [(module, key) for module in method.modules() for kind, key in DECAYS.items() if isinstance(module, kind)]
    return [1 / (1 - getattr(module, key)) for module, key in found]


@pytest.mark.parametrize("name", REMEMBER)
def test_reach_of_averages(name):
    unknown = reaches(name, 0)
    share = entry(name).configure({}).horizon
    for steps in (100, 1000, 15_000):
        for found, constant in zip(reaches(name, steps), unknown, strict=True):
            if share is None:
                assert found == constant
            else:
                assert found <= max(share * steps, 1) + 1e-6 or found == pytest.approx(constant)
                assert found <= constant + 1e-6
    for found, constant in zip(reaches(name, 10**6), unknown, strict=True):
        assert found == pytest.approx(constant)


def test_teachers_of_short_runs_are_young():
    for name in ("mean_teacher", "uamt", "micd", "ducisc", "basak"):
        assert reaches(name, 200)[0] == pytest.approx(10)
        assert reaches(name, 15_000)[0] == pytest.approx(100)


@pytest.mark.parametrize("name", ["micd-paper", "ducisc-official", "ducisc-paper", "cld-knee", "dst-paper"])
def test_variants_of_papers_keep_their_constants(name):
    assert reaches(name, 100) == reaches(name, 0)


def test_the_page_names_every_method_that_remembers():
    text = PAGE.read_text(encoding="utf-8")
    part = text[text.index("## Constants and shares") :]
    for name in REMEMBER:
        if "-" not in name:
            assert f"`{name}`" in part, name
