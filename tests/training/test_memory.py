"""What a run is said to take in memory, before it starts and when memory ran out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import semiseg
from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.methods.base import registry
from semiseg.preparing.plan import Plan
from semiseg.preparing.prepare import prepare
from semiseg.runs.build import Build
from semiseg.settings.load import load_config
from semiseg.system.memory import is_out_of_memory
from semiseg.training import session as session_module
from semiseg.training import train as train_module
from semiseg.training.memory import MemoryInputs, explained, step_bytes
from tiny import tiny_dataset

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of ...")
ERRORS = [
    FULL,
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
    np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f4")),
    MemoryError(),
]
SMALL = {"options": {"filters": [4, 8]}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a prepared dataset."""
    folder = tmp_path_factory.mktemp("memory")
    prepare(open_dataset(tiny_dataset(folder / "data", cases=4, labelled=2)), None)
    return folder


@pytest.fixture(scope="module")
def plan(root: Path) -> Plan:
    return Plan.load(root / "data" / "prepared" / "plan.json")


def _train(root: Path, method: str, **settings: Any) -> None:
    settings = {"network": SMALL, "labelled": 2, "steps": 1, "accelerator": "cpu", **settings}
    semiseg.train(root / "data", root / f"run_{len(list(root.iterdir()))}", method=method, **settings)


def _step(plan: Plan, **settings: Any) -> MemoryInputs:
    config = load_config(None, {"data": "data", "network": SMALL, "precision": "fp32", **settings})
    return MemoryInputs(Build(config, plan))


def _told(text: str) -> float:
    found = re.search(r"about ([\d.e-]+) GiB", text)
    assert found is not None
    return float(found[1])


def _advice(step: MemoryInputs) -> tuple[str, dict[str, float]]:
    """The message, and what is proposed with the memory that it is said to take."""
    with pytest.raises(InputError) as caught, explained(step, Path("run")):
        raise FULL
    (problem,) = caught.value.problems
    figures = re.findall(r"--set (\S+) \(about ([\d.e-]+) GiB\)", problem)
    return problem, {setting: float(figure) for setting, figure in figures}


def _refuse(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, error: BaseException) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, name, refuse)


def test_start_tells_the_memory_of_a_step(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _train(root, "supervised", show=True)
    one = _told(capsys.readouterr().out)
    _train(root, "cps", show=True)
    two = _told(capsys.readouterr().out)
    assert two > 2 * one > 0  # two networks, and the unlabelled patches


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_all_that_say_so_are_known(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(("module", "name"), [(train_module, "train_step"), (session_module, "make_optimisers")])
def test_memory_may_run_out_in_a_step_and_before_the_first_one(
    root: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    _refuse(monkeypatch, module, name, ERRORS[1])
    with pytest.raises(InputError, match=r"memory ran out \(\[enforce fail .* --set batch.patch="):
        _train(root, "supervised")


def test_other_errors_keep_their_traceback(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse(monkeypatch, train_module, "train_step", RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        _train(root, "supervised")


@pytest.mark.parametrize("convolves", [True, False])
def test_what_to_change_is_told_with_figures(plan: Plan, convolves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 only where the processor is let compute in it."""
    monkeypatch.setattr("semiseg.runs.precision.cpu_convolves_bf16", lambda: convolves)
    batch = {"labelled": 1, "unlabelled": 3, "patch": [16, 8, 8]}
    problem, proposed = _advice(_step(plan, method="mean_teacher", batch=batch))
    assert "memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB.)" in problem
    assert "1 labelled + 3 unlabelled patches of 16 x 8 x 8 voxels" in problem
    assert list(proposed) == [
        "batch.patch=[8,4,4]",
        "batch.unlabelled=1",
        "network.options.filters=[2,4]",
        *(["precision=bf16"] if convolves else []),
    ]
    assert all(0 < figure < _told(problem) for figure in proposed.values())


def test_half_precision_is_not_advised_to_methods_that_it_takes_a_part_of(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semiseg.runs.precision.cpu_convolves_bf16", lambda: True)
    batch = {"labelled": 1, "unlabelled": 1, "patch": [16, 8, 8]}
    _, proposed = _advice(_step(plan, method="lefed", batch=batch))
    assert "batch.patch=[8,4,4]" in proposed
    assert "precision=bf16" not in proposed
    assert "precision=bf16" in _advice(_step(plan, method="cps", batch=batch))[1]


def test_scans_on_the_device_count_and_can_be_left_out(plan: Plan) -> None:
    step = _step(plan, method="mean_teacher", batch={"patch": [16, 8, 8]})
    problem, proposed = _advice(replace(step, resident=3 << 30))
    assert "voxels, 3 GiB of scans and" in problem
    assert proposed.pop("speed.resident=off") < 0.1 < 3 <= min(proposed.values())
    assert step_bytes(replace(step, resident=3 << 30)) == step_bytes(step) + (3 << 30)


@pytest.mark.parametrize(
    ("network", "patch", "expected"),
    [
        (
            {"name": "vnet", "options": {"filters": 6}},
            [48, 64, 16],
            {"batch.patch=[16,32,16]", "network.options.filters=3"},
        ),
        ({"name": "vnet", "options": {"filters": 1}}, [32, 16, 16], set()),
        (
            {"name": "unet", "options": {"normalisation": "group", "filters": [16, 32]}},
            [8, 6, 4],
            {"batch.patch=[4,2,2]"},
        ),
    ],
)
def test_what_is_proposed_can_be_trained(
    plan: Plan, network: dict[str, Any], patch: list[int], expected: set[str]
) -> None:
    """Sides are multiples of what the network needs; nothing that it, or its normalisation, cannot take is proposed."""
    batch = {"labelled": 1, "unlabelled": 0, "patch": patch}
    problem, proposed = _advice(_step(plan, method="supervised", network=network, batch=batch, precision="bf16"))
    assert set(proposed) == expected
    assert expected or "none is left: take a machine with more memory" in problem


def test_batches_stay_multiples_of_the_processes(plan: Plan) -> None:
    step = _step(plan, method="cps", batch={"labelled": 2, "unlabelled": 6, "patch": [8, 8, 8]}, precision="bf16")
    _, proposed = _advice(MemoryInputs(step.build, processes=2))
    assert {setting for setting in proposed if "labelled" in setting} == {"batch.unlabelled=2"}


@pytest.mark.parametrize("method", sorted(registry()))
def test_every_method_has_an_estimate(plan: Plan, method: str) -> None:
    assert step_bytes(_step(plan, method=method)) > 1 << 18
