"""Counted operations of training, beside counts made by other means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from semiseg.comparison.operations import step_flops, steps_of, trained_parameters, training_flops
from semiseg.networks import build_network
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from tiny import tiny_dataset

PATCH = 80.2e9
"""A forward pass of the left-atrium papers' V-Net on a patch of 112 x 112 x 80, by torch.utils.flop_counter."""


def _run(name: str, **settings: Any) -> RunConfig:
    return load_config(None, {"data": "scans", "preset": name, **settings})


def _passes(method: str, name: str = "la", **settings: Any) -> float:
    config = _run(name, method=method, labelled=8, **settings)
    found = training_flops(config, name)
    steps = steps_of(config, name)
    assert found is not None
    assert steps is not None
    return found / steps / PATCH


def test_forward_and_backward_are_three_passes() -> None:
    """The first layer needs no gradient of its input: 2.99."""
    assert _passes("supervised") == pytest.approx(4 * 2.99, rel=0.02)


def test_passes_of_teachers_are_counted_once() -> None:
    # The consistency starts late in this preset; the step is one of the last fifth.
    assert _passes("mean_teacher") == pytest.approx(4 * 2.99 + 2, rel=0.02)
    assert _passes("cps") == pytest.approx(8 * 2.99, rel=0.02)


def test_the_monte_carlo_passes_of_uamt() -> None:
    """2403 GFLOP per step: 4 patches forwards and backwards, 2 + 16 passes of the teacher."""
    assert _passes("uamt") * PATCH == pytest.approx(2403e9, rel=0.02)


def test_stages_count_by_their_share() -> None:
    alone, together = (_passes("cml", options={"pretraining": share}) for share in (0.99, 0.01))
    half = _passes("cml", options={"pretraining": 0.5})
    assert half == pytest.approx((alone + together) / 2, rel=0.02)


def test_more_filters_and_larger_patches_cost_more() -> None:
    small = _passes("supervised")
    assert _passes("supervised", network={"options": {"filters": 32}}) == pytest.approx(4 * small, rel=0.05)
    assert _passes("supervised", batch={"patch": [112, 112, 160]}) == pytest.approx(2 * small, rel=0.01)


def test_epochs_become_steps_by_the_published_lists(tmp_path: Path) -> None:
    assert steps_of(_run("amos", method="cps", labelled=10), "amos") == 201 * 103  # 206 unlabelled, 2 per step
    assert steps_of(_run("amos", method="supervised", labelled=10), "amos") == 1001 * 3
    assert steps_of(_run("amos", method="supervised"), "amos") == 1001 * 54
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"labelled": ["a"], "unlabelled": ["b", "c", "d"]}))
    assert steps_of(_run("amos", method="cps", split=split), "amos") == 201 * 2
    assert steps_of(_run("amos", method="cps", split=tmp_path / "none.json"), "amos") is None
    assert steps_of(_run("la", method="cps", labelled=8), "la") == 6000


def test_counting_leaves_random_numbers_and_threads_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    training_flops(_run("acdc", method="supervised", labelled=3), "acdc")
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
