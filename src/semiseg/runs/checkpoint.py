"""Checkpoints that survive a kill: tensors as safetensors, the rest as JSON, the JSON written last.

A checkpoint counts only when its JSON is there and holds the checksums of the tensors and of itself. The last two are
kept, and a damaged newest one falls back to the one before it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from semiseg.errors import InputError, shown
from semiseg.methods.base import Method
from semiseg.system.documents import parse_json, read_text
from semiseg.system.files import replacing, sha256, write_json

_log = logging.getLogger(__name__)

KEPT = 2
"""Checkpoints of steps that a run keeps, so that a damaged one has one before it."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors and JSON state of one moment of a run, both by name, and where they were read."""

    path: Path
    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, name: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write `<name>.safetensors`, then `<name>.json` with `state` and the checksums."""
    path = folder / f"{name}.safetensors"
    with replacing(path) as temporary:
        _write_tensors({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, temporary)
        whole = json.loads(json.dumps({**state, "sha256": sha256(temporary)}))  # as it will be read
    write_json(folder / f"{name}.json", {**whole, "state_sha256": digest(whole)})


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # a full disk, in the words of another library
        raise OSError(str(error)) from error


def digest(state: Mapping[str, Any]) -> str:
    """sha256 of what the JSON of a checkpoint holds, its own checksum excepted."""
    text = json.dumps({key: value for key, value in state.items() if key != "state_sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def save_step(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write the checkpoint of `step`, and `prune`."""
    save(folder, f"step_{step:07d}", tensors, {**state, "step": step})
    prune(folder, step)


def prune(folder: Path, step: int) -> None:
    """Of the checkpoints up to the one of `step`, keep the last two; tensors that a kill left without their JSON go."""
    newest = f"step_{step:07d}"
    for old in sorted(record for record in folder.glob("step_*.json") if record.stem <= newest)[:-KEPT]:
        old.unlink(missing_ok=True)
    kept = {record.stem for record in folder.glob("step_*.json")}
    for weights in folder.glob("step_*.safetensors"):
        if weights.stem not in kept:
            weights.unlink(missing_ok=True)


def load(folder: Path, name: str) -> Checkpoint:
    """The checkpoint `name`.

    Raises:
        InputError: it is missing, incomplete or was changed after it was written.
    """
    record, weights = folder / f"{name}.json", folder / f"{name}.safetensors"
    try:
        state = parse_json(read_text(record))
        for path, found, expected in (
            (record, digest(state), state["state_sha256"]),
            (weights, sha256(weights), state["sha256"]),
        ):
            if found != expected:
                raise InputError(f"{path}: the content does not match its checksum; the file was changed or is damaged")
        return Checkpoint(record, int(state.get("step", 0)), load_file(weights), state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, SafetensorError) as error:
        raise InputError(f"{folder / name}: no usable checkpoint ({error})") from None


def latest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a step, or None; damaged ones are passed over with a warning."""
    for record in sorted(folder.glob("step_*.json"), reverse=True):
        try:
            return load(folder, record.stem)
        except InputError as error:
            _log.warning("%s; trying the one before it", error)
    return None


def pack(method: nn.Module, optimisers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """All tensors of method and optimisers under flat names."""
    tensors = {f"method.{name}": value for name, value in method.state_dict().items()}
    for group, optimiser in optimisers.items():
        for index, slots in optimiser.state_dict()["state"].items():
            tensors |= {
                f"optimiser.{group}.{index}.{key}": value for key, value in slots.items() if torch.is_tensor(value)
            }
    return tensors


def restore(found: Checkpoint, name: str, method: Method, optimisers: Mapping[str, Optimizer]) -> None:
    """Give the method called `name`, and optimisers, what a checkpoint holds for them.

    Raises:
        InputError: the checkpoint is one of another method, network or optimiser.
    """
    remedy = "put the run's own checkpoints back, or train into a new folder"
    if (was := found.state.get("method")) != name:
        raise InputError(f"{found.path}: expected a checkpoint of method {name}, came one of {was}: {remedy}")
    try:
        unpack(found.tensors, method, optimisers)
        method.load_extra_state(_counters(found.state["extra"], method.extra_state()))
    except (RuntimeError, ValueError, KeyError) as error:
        detail = str(error).splitlines()[0]
        raise InputError(f"{found.path}: does not fit the run's network or optimiser ({detail}): {remedy}") from None


def _counters(given: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """What a method counts besides its tensors, known to be of the kinds that it has itself."""
    if not isinstance(given, dict) or given.keys() != own.keys():
        raise ValueError(f"expected {shown(own)} or other numbers, came {shown(given)}")
    if any(type(given[name]) is not type(value) for name, value in own.items()):
        raise ValueError(f"expected {shown(own)} or other numbers, came {shown(given)}")
    return given


def unpack(tensors: Mapping[str, Tensor], method: nn.Module, optimisers: Mapping[str, Optimizer]) -> None:
    """Put back what `pack` gave."""
    method.load_state_dict(_below(tensors, "method."))
    for group, optimiser in optimisers.items():
        slots: dict[int, dict[str, Tensor]] = {}
        parameters = [parameter for part in optimiser.param_groups for parameter in part["params"]]
        for name, value in _below(tensors, f"optimiser.{group}.").items():
            index, _, key = name.partition(".")
            known = index.isdecimal() and int(index) < len(parameters)
            if not known or value.shape not in ((), parameters[int(index)].shape):
                raise ValueError(f"{shown(name)} has no place in the optimiser")
            slots.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
        _lay_out(optimiser)


def _lay_out(optimiser: Optimizer) -> None:
    """Give every moment the memory layout of its parameter: fused updates pair their elements in memory order."""
    for parameter, slots in optimiser.state.items():
        for key, value in slots.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                slots[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
