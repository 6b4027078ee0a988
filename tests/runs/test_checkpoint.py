"""Checkpoints: whole or not there, checked, and bit-exact."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from semiseg.errors import InputError
from semiseg.runs import checkpoint
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import guarded_step, make_optimiser


def _trained(name: str, steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimiser = make_optimiser(OptimiserConfig(name=name), module.parameters())
    _continue(module, optimiser, range(steps))
    return module, optimiser


def _continue(module: torch.nn.Module, optimiser: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimiser.zero_grad()
        loss = module(torch.randn(6, 4, generator=torch.Generator().manual_seed(step))).square().sum()
        loss.backward()
        guarded_step(optimiser, loss, 1.0)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_five_and_five_steps_equal_ten(tmp_path: Path, name: str) -> None:
    whole, _ = _trained(name, 10)
    first, first_optimiser = _trained(name, 5)
    checkpoint.save_step(tmp_path, 5, checkpoint.pack(first, {"main": first_optimiser}), {"extra": {}})
    second, second_optimiser = _trained(name, 0)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 5
    checkpoint.unpack(found.tensors, second, {"main": second_optimiser})
    _continue(second, second_optimiser, range(5, 10))
    for ours, theirs in zip(second.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_moments_come_back_in_the_layout_of_their_parameters(tmp_path: Path, name: str) -> None:
    def start() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(3)
        module = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return module, make_optimiser(OptimiserConfig(name=name), module.parameters())

    def proceed(module: torch.nn.Module, optimiser: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            optimiser.zero_grad()
            module(torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(step))).square().sum().backward()
            guarded_step(optimiser, torch.zeros(()), None)

    (whole, one), (resumed, other) = start(), start()
    proceed(whole, one, range(2))
    checkpoint.save_step(tmp_path, 2, checkpoint.pack(whole, {"main": one}), {"extra": {}})
    found = checkpoint.latest(tmp_path)
    assert found is not None
    checkpoint.unpack(found.tensors, resumed, {"main": other})
    proceed(whole, one, range(2, 4))
    proceed(resumed, other, range(2, 4))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True))


def _save(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoint.save_step(folder, step, {"method.x": torch.full((3,), float(step))}, {"extra": {}})


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    _save(tmp_path, 1, 2, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "step_0000002.json",
        "step_0000002.safetensors",
        "step_0000003.json",
        "step_0000003.safetensors",
    ]


@pytest.mark.parametrize("damage", ["flip", "cut", "no_json", "bad_json", "no_tensors"])
def test_a_damaged_newest_one_falls_back(tmp_path: Path, damage: str) -> None:
    _save(tmp_path, 1, 2)
    weights, record = tmp_path / "step_0000002.safetensors", tmp_path / "step_0000002.json"
    content = bytearray(weights.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "cut":
        weights.write_bytes(content[:-4])
    elif damage == "no_json":
        record.unlink()
    elif damage == "bad_json":
        record.write_text(record.read_text()[:20])
    else:
        weights.unlink()
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 1


def test_nothing_usable(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    with pytest.raises(InputError, match="no usable checkpoint"):
        checkpoint.load(tmp_path, "final")


def test_tampering_is_told(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "final", {"method.x": torch.ones(2)}, {})
    record = tmp_path / "final.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "sha256": "0" * 64}))
    with pytest.raises(InputError, match="does not match its checksum"):
        checkpoint.load(tmp_path, "final")


@pytest.mark.parametrize("change", [{"step": 7}, {"state_sha256": None}, {"extra": {"seen": 3}}])
def test_a_changed_record_is_told(tmp_path: Path, change: dict[str, object]) -> None:
    _save(tmp_path, 1)
    record = tmp_path / "step_0000001.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), **change}))
    with pytest.raises(InputError, match=r"step_0000001\.json: the content does not match its checksum"):
        checkpoint.load(tmp_path, "step_0000001")
    record.write_text("[]")
    assert checkpoint.latest(tmp_path) is None


def test_state_comes_back_whatever_its_keys_are(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "x", {"method.x": torch.ones(1)}, {"extra": {2: 0.1, 10: (1, 2), "a": None}})
    assert checkpoint.load(tmp_path, "x").state["extra"] == {"2": 0.1, "10": [1, 2], "a": None}


def test_what_kills_left_is_cleaned_away(tmp_path: Path) -> None:
    """A kill between the two files of a checkpoint, or between their removals, leaves tensors without a record."""
    (tmp_path / "step_0000001.safetensors").write_bytes(b"lost")
    _save(tmp_path, 2, 3, 4)
    assert sorted(p.stem for p in tmp_path.glob("*.safetensors")) == ["step_0000003", "step_0000004"]


class _Killed(BaseException):
    """Stands for a kill: nothing on the way catches it."""


def test_killed_at_any_moment_of_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before every rename and removal: what `latest` gives is whole, and either the new one or the one before."""
    rename, remove, left = os.replace, Path.unlink, [0]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise _Killed

    def replace(source: Path, target: Path) -> None:
        count()
        rename(source, target)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.suffix != ".part":
            count()
        remove(path, missing_ok)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(Path, "unlink", unlink)
    for moment in range(1, 5):  # two renames, two removals
        folder = tmp_path / str(moment)
        _save(folder, 1, 2)
        left[0] = moment
        with pytest.raises(_Killed):
            _save(folder, 3)
        found = checkpoint.latest(folder)
        assert found is not None
        assert found.step == (2 if moment <= 2 else 3)
        assert torch.equal(found.tensors["method.x"], torch.full((3,), float(found.step)))


def test_unwritable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        _save(tmp_path / "file", 1)


def test_moments_of_another_optimiser_are_refused(tmp_path: Path) -> None:
    module, optimiser = _trained("adamw", 2)
    good = checkpoint.pack(module, {"main": optimiser})
    for name, value in (
        ("optimiser.main.99.exp_avg", torch.ones(3)),
        ("optimiser.main.0.exp_avg", torch.ones(7)),
        ("optimiser.main.x.y", torch.ones(3)),
    ):
        with pytest.raises(ValueError, match="has no place in the optimiser"):
            checkpoint.unpack({**good, name: value}, module, {"main": optimiser})
    checkpoint.unpack(good, module, {"main": optimiser})


@pytest.mark.parametrize(
    "given", [None, [], {}, {"taken": 1}, {"taken": "1", "period": 2}, {"taken": 1, "period": None}]
)
def test_counters_of_another_kind_are_refused(given: object) -> None:
    own = {"taken": 0, "period": 3}
    assert checkpoint._counters({"taken": 5, "period": 1}, own) == {"taken": 5, "period": 1}
    with pytest.raises(ValueError, match="or other numbers, came"):
        checkpoint._counters(given, own)
