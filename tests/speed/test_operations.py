"""Counted operations of training, beside counts made by other means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from semiseg.networks import build_network
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.speed.operations import step_flops, trained_parameters
from tiny import tiny_dataset

PATCH = 80.2e9
"""A forward pass of the left-atrium papers' V-Net on a patch of 112 x 112 x 80, by torch.utils.flop_counter."""


def _run(name: str, **settings: Any) -> RunConfig:
    return load_config(None, {"data": "scans", "preset": name, **settings})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Plan of two classes in 3D, and a split."""
    plan, split = _plan(tmp_path_factory.mktemp("operations"))
    return plan.model_copy(update={"class_names": ("background", "atrium")}), split


class Passes:
    """Forward passes of a left-atrium patch that a step costs."""

    def __init__(self, plan: Any, split: Any) -> None:
        self._made = plan, split

    def __call__(self, method: str, name: str = "la", **settings: Any) -> float:
        return step_flops(_run(name, method=method, labelled=8, **settings), *self._made) / PATCH


@pytest.fixture
def passes(prepared: tuple[Any, Any]) -> Passes:
    return Passes(*prepared)


def test_forward_and_backward_are_threepasses(passes: Passes) -> None:
    """The first layer needs no gradient of its input: 2.99."""
    assert passes("supervised") == pytest.approx(4 * 2.99, rel=0.02)


def test_passes_of_teachers_are_counted_once(passes: Passes) -> None:
    # The consistency starts late in this preset; the step is one of the last fifth.
    assert passes("mean_teacher") == pytest.approx(4 * 2.99 + 2, rel=0.02)
    assert passes("cps") == pytest.approx(8 * 2.99, rel=0.02)


def test_the_monte_carlo_passes_of_uamt(passes: Passes) -> None:
    """2403 GFLOP per step: 4 patches forwards and backwards, 2 + 16 passes of the teacher."""
    assert passes("uamt") * PATCH == pytest.approx(2403e9, rel=0.02)


def test_stages_count_by_their_share(passes: Passes) -> None:
    alone, together = (passes("cml", options={"pretraining": share}) for share in (0.99, 0.01))
    half = passes("cml", options={"pretraining": 0.5})
    assert half == pytest.approx((alone + together) / 2, rel=0.02)


def test_more_filters_and_larger_patches_cost_more(passes: Passes) -> None:
    small = passes("supervised")
    assert passes("supervised", network={"options": {"filters": 32}}) == pytest.approx(4 * small, rel=0.05)
    assert passes("supervised", batch={"patch": [112, 112, 160]}) == pytest.approx(2 * small, rel=0.01)


def test_counting_leaves_random_numbers_and_threads_alone(passes: Passes) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    passes("supervised", network={"options": {"filters": 8}})
    assert torch.equal(torch.rand(2), expected)
    assert torch.get_num_threads() == threads


def _plan(tmp_path: Path) -> tuple[Any, Any]:
    """Plan and split of a small dataset."""
    from semiseg import prepare
    from semiseg.datasets.splits import Split

    store = prepare(tiny_dataset(tmp_path / "data", cases=4, labelled=2), workers=1)
    return store.plan, Split(labelled=("case_000", "case_001"), unlabelled=("case_002", "case_003"))


def test_parameters_are_those_that_are_trained(tmp_path: Path) -> None:
    """A teacher adds none, a second decoder less than a second network."""
    plan, split = _plan(tmp_path)

    def count(method: str) -> int:
        network = {"name": "vnet", "options": {"filters": 4}}
        return trained_parameters(_config(tmp_path, method=method, network=network), plan, split)

    one = count("supervised")
    built = build_network("vnet", channels=1, classes=plan.classes, spatial_dims=3, filters=4)
    assert one == sum(each.numel() for each in built.parameters())
    assert count("mean_teacher") == count("ducisc-paper") - _heads(plan.classes, 4) == one
    assert count("cps") == 2 * one
    assert one < count("lefed") < 2 * one


def _heads(classes: int, filters: int) -> int:
    """Parameters of the heads at strides 2, 4 and 8."""
    return sum(filters * 2**k * classes + classes for k in (1, 2, 3))


def test_operations_of_a_step_follow_plan_and_batch(tmp_path: Path) -> None:
    plan, split = _plan(tmp_path)

    def count(method: str = "cps", **batch: Any) -> float:
        sizes = {"patch": [16, 16, 16], "labelled": 2, "unlabelled": 2, **batch}
        return step_flops(_config(tmp_path, method=method, batch=sizes), plan, split)

    assert count() == pytest.approx(2 * count("supervised", labelled=4), rel=0.02)
    assert count("supervised") == pytest.approx(count("supervised", unlabelled=0))
    assert count(patch=[16, 16, 32]) == pytest.approx(2 * count(), rel=0.05)
    assert count(labelled=4, unlabelled=4) == pytest.approx(2 * count(), rel=0.02)


def _config(tmp_path: Path, **settings: Any) -> RunConfig:
    return load_config(None, {"data": tmp_path / "data", "labelled": 2, **settings})
