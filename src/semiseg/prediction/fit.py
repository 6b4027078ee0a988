"""Whether a checkpoint belongs to the run whose settings say what it is loaded into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from semiseg.errors import InputError, shown
from semiseg.methods.base import Task
from semiseg.preparing.plan import Plan
from semiseg.runs.checkpoint import Checkpoint

_MOST_VOXELS = 1 << 62


def checked_task(found: Checkpoint, plan: Plan, network: nn.Module) -> Task:
    """The task of a checkpoint, known to be that of the run, with enough weights for `network`.

    Settings that ask for more memory than the weights fill are refused before anything of that size is built.

    Args:
        found: the checkpoint.
        plan: of the run.
        network: as the run's settings have it, without memory (`meta`).

    Raises:
        InputError: it is of another task, or smaller than the network.
    """
    task = found.state.get("task")
    if isinstance(task, dict):
        task = {"one_piece": [], "steps": 0, **task}  # what runs of earlier versions did not ask
    wanted = {"classes": plan.classes, "channels": len(plan.channels), "spatial_dims": plan.spatial_dims}
    if (
        not isinstance(task, dict)
        or task.keys() != {field.name for field in fields(Task)}
        or any(task[name] != value for name, value in wanted.items())
        or not _are_counts(task)
        or not _are_flags(task["one_piece"], plan.classes)
    ):
        raise InputError(
            f"{found.path}: task: expected {shown(wanted)} as in the run's plan.json, and voxels "
            f"per class, came {shown(task)}: restore the files of the run"
        )
    needed = sum(parameter.numel() for parameter in network.parameters())
    given = sum(tensor.numel() for tensor in found.tensors.values())
    if needed > given:
        raise InputError(
            f"{found.path}: expected the {needed} weights of a network as config.yaml and plan.json have it, came "
            f"{given} numbers: restore the files of the run"
        )
    return Task(**task)


def check_finite(found: Checkpoint, method: nn.Module) -> None:
    """Refuse weights that would label every voxel alike without a word.

    Raises:
        InputError: a parameter has values that are no numbers.
    """
    broken = [name for name, value in method.named_parameters() if not value.isfinite().all()]
    if broken:
        raise InputError(f"{found.path}: expected finite weights, came others in {broken[0]}: train again")


def _are_flags(values: Any, classes: int) -> bool:
    return isinstance(values, list) and len(values) in (0, classes) and all(type(value) is bool for value in values)


def _are_counts(task: Mapping[str, Any]) -> bool:
    """Whether voxels per class and unlabelled cases are what they are called."""
    voxels = task["class_voxels"]
    counts = (
        [*voxels, task["unlabelled"], task["steps"]]
        if isinstance(voxels, list) and len(voxels) == task["classes"]
        else [None]
    )
    return all(type(count) is int and 0 <= count < _MOST_VOXELS for count in counts)
