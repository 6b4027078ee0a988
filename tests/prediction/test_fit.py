"""Checkpoints that do not belong to the settings beside them are refused before anything of their size is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from semiseg.errors import InputError
from semiseg.prediction.fit import check_finite, checked_task
from semiseg.runs.checkpoint import Checkpoint

TASK: dict[str, Any] = {"classes": 3, "channels": 1, "spatial_dims": 3, "class_voxels": [9, 4, 2], "unlabelled": 2}


class _Plan:
    classes, channels, spatial_dims = 3, ("CT",), 3


def _found(task: object, weights: int = 100) -> Checkpoint:
    return Checkpoint(Path("final.json"), 0, {"method.x": torch.zeros(weights)}, {"task": task})


def test_the_task_of_the_run_is_taken() -> None:
    assert checked_task(_found(TASK), _Plan, nn.Linear(9, 9)).class_voxels == [9, 4, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 4},
        {"channels": 2},
        {"spatial_dims": 2},
        {"class_voxels": [9, 4]},
        {"class_voxels": [9, 4, -1]},
        {"class_voxels": None},
        {"class_voxels": [9, 4, 1 << 70]},
        {"unlabelled": "2"},
        {"more": 1},
    ],
)
def test_another_task_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"final\.json: task: expected"):
        checked_task(_found({**TASK, **change}), _Plan, nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"came None"):
        checked_task(_found(None), _Plan, nn.Linear(2, 2))  # type: ignore[arg-type]


def test_settings_of_a_larger_network_than_the_weights_fill_are_refused() -> None:
    with torch.device("meta"):
        network = nn.Linear(1 << 20, 1 << 20)
    with pytest.raises(InputError, match=r"expected the \d+ weights of a network .* came 100 numbers"):
        checked_task(_found(TASK), _Plan, network)  # type: ignore[arg-type]


def test_weights_that_are_no_numbers_are_refused() -> None:
    network = nn.Linear(2, 2)
    check_finite(_found(TASK), network)
    nn.init.constant_(network.weight, float("nan"))
    with pytest.raises(InputError, match="expected finite weights, came others in weight"):
        check_finite(_found(TASK), network)
