"""Losses, gradients, images and state that are not finite: left out, counted, and told with their cases."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.methods.base import Loss, Method
from semiseg.methods.supervised import Supervised
from semiseg.preparing.prepare import prepare
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.training import train as module
from semiseg.training.train import train
from tiny import TINY_RUN, tiny_dataset

SMALL = {
    **TINY_RUN,
    "network": {"options": {"filters": [4, 8], "strides": [[1, 1, 1], [2, 2, 2]], "normalisation": "batch"}},
    "checkpoint_every": 4,
    "log_every": 2,
    "method": "supervised",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path / "data", cases=4, labelled=3)


def _config(data: Path, **settings: object) -> RunConfig:
    return load_config(None, {"data": data, "steps": 12, "labelled": 3, **SMALL, **settings})


def _spoil(monkeypatch: pytest.MonkeyPatch, factor: Callable[[int], float]) -> None:
    """Multiply the loss of each step."""
    real = Supervised.step

    def spoilt(self: Method, batch: Any, clock: Any) -> Iterator[Loss]:
        for loss in real(self, batch, clock):  # type: ignore[arg-type]
            yield Loss({name: term * factor(clock.step) for name, term in loss.terms.items()})

    monkeypatch.setattr(Supervised, "step", spoilt)


def _dump(run: Path) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found: dict[str, Any] = json.loads((run / "non_finite.json").read_text(), parse_constant=refuse)
    return found


def _finite(run: Path) -> bool:
    saved = [load_file(path) for path in (run / "checkpoints").glob("*.safetensors")]
    assert saved
    return all(bool(tensor.isfinite().all()) for tensors in saved for tensor in tensors.values())


def test_too_many_in_a_row_end_the_run_and_name_the_cases(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, lambda step: float("nan") if step >= 4 else 1.0)
    with pytest.raises(InputError, match="not finite for 6 updates in a row up to step 10") as caught:
        train(_config(data, max_skipped=5, seed=7), tmp_path / "run", show=False)
    (problem,) = caught.value.problems
    assert all(case in problem for case in ("case_000", "case_001", "case_002", "non_finite.json", "optimiser.lr"))
    dump = _dump(tmp_path / "run")
    assert (dump["step"], dump["in_a_row"], dump["seed"], dump["method"]) == (10, 6, 7, "supervised")
    assert [update["step"] for update in dump["updates"]] == [4, 5, 6, 7, 8, 9]
    first = dump["updates"][0]
    assert first["loss"] == {"supervised": "nan", "total": "nan"}
    assert first["learning_rate"] > 0
    assert len(first["patches"]) == 2
    for patch in first["patches"]:
        assert patch["case"].startswith("case_00")
        assert patch["labelled"]
        assert patch["finite"]
        assert len(patch["corner"]) == len(patch["window"]) == 3
    assert _finite(tmp_path / "run")


def test_gradients_that_overflow_are_left_out_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss itself is finite."""
    _spoil(monkeypatch, lambda step: 1e38)
    with pytest.raises(InputError, match="not finite for 4 updates in a row"):
        train(_config(data, max_skipped=3), tmp_path / "run", show=False)
    assert all(isinstance(update["loss"]["total"], float) for update in _dump(tmp_path / "run")["updates"])


def test_single_ones_are_counted_and_told_and_training_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _spoil(monkeypatch, lambda step: float("inf") if step % 3 == 1 else 1.0)
    with caplog.at_level(logging.WARNING):
        run = train(_config(data, max_skipped=2), tmp_path / "run", show=False)
    assert run.finished
    assert _finite(run.path)
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [line["skipped"] for line in lines] == [1, 1, 2, 3, 3, 4]
    assert [update["step"] for update in _dump(run.path)["updates"]] == [1, 4, 7, 10]
    assert sum("were left out, not finite" in record.message for record in caplog.records) == 4


def test_a_row_goes_on_over_a_restart(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _spoil(monkeypatch, lambda step: float("nan") if step >= 2 else 1.0)
    real = module.train_step

    def interrupted(session: Any, journal: Any, step: int, batch: Any) -> None:
        if step == 5:
            raise KeyboardInterrupt
        real(session, journal, step, batch)

    monkeypatch.setattr(module, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(_config(data, max_skipped=5), tmp_path / "run", show=False)
    monkeypatch.setattr(module, "train_step", real)
    with pytest.raises(InputError, match="not finite for 6 updates in a row up to step 8"):
        train(_config(data, max_skipped=5), tmp_path / "run", show=False)


def _break_image(data: Path, case: str) -> Path:
    """Infinite voxels in the prepared image of a case, as a failing disk might leave them."""
    store = prepare(open_dataset(data), None)
    path = store.root / "store" / f"{case}.image.npy"
    image = np.load(path)
    image[:, ::2] = np.inf
    np.save(path, image)
    return path


def test_a_prepared_image_that_is_broken_ends_the_run_and_is_named(data: Path, tmp_path: Path) -> None:
    """It has spoilt the running statistics of the normalisation, though every update with it was left out."""
    _break_image(data, "case_001")
    with pytest.raises(InputError) as caught:
        train(_config(data), tmp_path / "run", show=False)
    (problem,) = caught.value.problems
    assert "the prepared images of case_001 hold NaN or infinite voxels" in problem
    assert "running_mean" in problem
    patches = [patch for update in _dump(tmp_path / "run")["updates"] for patch in update["patches"]]
    assert {patch["case"] for patch in patches if not patch["finite"]} == {"case_001"}
    assert not list((tmp_path / "run").rglob("step_*.json"))
    (data / "prepared" / "store" / "case_001.json").unlink()  # the remedy of the message
    assert train(_config(data), tmp_path / "run", show=False).finished
    assert _finite(tmp_path / "run")


def test_processes_agree_on_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is broken in the other process alone, with gradients that are not."""
    from semiseg.settings.run import OptimiserConfig
    from semiseg.training import optim

    monkeypatch.setattr(optim, "batch_sum", lambda value: value + float("nan"))
    weight = torch.nn.Parameter(torch.ones(2))
    optimiser = optim.make_optimiser(OptimiserConfig(), [weight])
    loss = weight.sum()
    loss.backward()
    assert optim.guarded_step(optimiser, loss, None) == 1
    assert torch.equal(weight.detach(), torch.ones(2))
