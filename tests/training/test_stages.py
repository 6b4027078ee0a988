"""Methods in stages: what a stage counts, what it starts with, and exact resume across the change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from semiseg.methods.base import Stage
from semiseg.runs import checkpoint
from semiseg.settings.load import load_config
from semiseg.settings.run import OptimiserConfig, RunConfig
from semiseg.training import train as module
from semiseg.training.optim import learning_rate
from semiseg.training.stages import spans
from semiseg.training.train import train
from semiseg.training.validate import Validation
from tiny import TINY_RUN, tiny_dataset

STEPS, CHANGE = 12, 6
SMALL = {
    "method": "cml",
    "options": {"pretraining": CHANGE / STEPS},
    "steps": STEPS,
    "labelled": 3,
    "validation": 1,
    **TINY_RUN,
    "optimiser": {"schedule": "poly"},
    "select": "best",
    "validate_every": 4,
    "checkpoint_every": 4,
    "log_every": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("tiny"), cases=8, labelled=5)


def _config(data: Path, **settings: object) -> RunConfig:
    return load_config(None, {"data": data, **SMALL, **settings})


def _falling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores by which the first validation of a stage is its best one."""
    monkeypatch.setattr(module, "validate", lambda session: Validation(1.0 / session.progress.step, {}))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run whose pre-training was best at step 4 of 6."""
    with pytest.MonkeyPatch.context() as patch:
        _falling(patch)
        return train(_config(data), tmp_path_factory.mktemp("runs") / "whole", show=False).path


def _files(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: load_file(path) for path in sorted((run / "checkpoints").glob("*.safetensors"))}


def _same(one: Path, other: Path) -> bool:
    first, second = _files(one), _files(other)
    return first.keys() == second.keys() and all(
        tensors.keys() == second[name].keys() and all(torch.equal(tensors[key], second[name][key]) for key in tensors)
        for name, tensors in first.items()
    )


def test_spans_cover_all_steps_and_leave_out_empty_stages() -> None:
    a, b, c = Stage("a", 0.25), Stage("b", 0.0), Stage("c", 0.75)
    found = spans((a, b, c), 10)
    assert [(span.stage.name, span.first, span.end) for span in found] == [("a", 0, 2), ("c", 2, 10)]
    assert [span.before for span in found] == [None, a]
    assert [(span.stage.name, span.end) for span in spans((a, c), 1)] == [("c", 1)]
    with pytest.raises(ValueError, match=r"\['a'\] end at step 2 of 10"):
        spans((a,), 10)


def test_what_the_schedule_counts() -> None:
    config, steps = OptimiserConfig(schedule="cosine", warmup=2), 10
    first, second, third = spans((Stage("a", 0.3, "constant"), Stage("b", 0.4, "stage"), Stage("c", 0.3)), steps)
    assert [first.rate(config, step, steps) / config.base_lr for step in range(3)] == [0.5, 1.0, 1.0]
    assert [second.rate(config, step, steps) for step in range(3, 7)] == [
        learning_rate(config, step, 4) for step in range(4)
    ]
    assert third.rate(config, 8, steps) == learning_rate(config, 8, steps)


def test_each_stage_trains_at_its_rate_with_its_terms(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["lr"] for line in steps[:CHANGE]] == [1e-3] * CHANGE
    assert [line["lr"] for line in steps[CHANGE:]] == pytest.approx([1e-3 * (1 - k / 6) ** 0.9 for k in range(6)])
    assert ["unlabelled" in line["loss"] for line in steps] == [False] * CHANGE + [True] * CHANGE
    assert [line["step"] for line in lines if "validation" in line] == [4, 6, 8, 12]


def test_best_weights_of_the_run_are_those_of_the_last_stage(whole: Path) -> None:
    assert checkpoint.load(whole / "checkpoints", "best_pretraining").step == 4
    assert checkpoint.load(whole / "checkpoints", "best").step == 8
    progress = checkpoint.latest(whole / "checkpoints").state["progress"]  # type: ignore[union-attr]
    assert (progress["best_score"], progress["best_step"]) == (1 / 8, 8)


@pytest.mark.parametrize(("hand_over", "select"), [("best", "best"), ("last", "best"), ("best", "last")])
def test_self_training_starts_with_weights_and_optimiser_of_the_right_moment(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hand_over: str, select: str
) -> None:
    _falling(monkeypatch)
    real, ends, starts = module.train_step, [], []

    def noted(session, journal, step, batch):  # type: ignore[no-untyped-def]
        if step == CHANGE:
            state = checkpoint.pack(session.method, session.optimisers)
            starts.append({name: value.clone() for name, value in state.items()})
            assert session.progress.best_score == -1.0
        real(session, journal, step, batch)
        if step == CHANGE - 1:
            state = checkpoint.pack(session.method, session.optimisers)
            ends.append({name: value.clone() for name, value in state.items()})

    monkeypatch.setattr(module, "train_step", noted)
    options = {"pretraining": CHANGE / STEPS, "hand_over": hand_over}
    train(_config(data, options=options, select=select, steps=STEPS), tmp_path, show=False)
    (start,), (end,) = starts, ends
    assert any(name.startswith("optimiser.") for name in start)
    from_best = hand_over == select == "best"
    expected = load_file(tmp_path / "checkpoints" / "best_pretraining.safetensors") if from_best else end
    assert start.keys() == expected.keys()
    assert all(torch.equal(start[name], expected[name]) for name in start)
    assert from_best == any(not torch.equal(start[name], end[name]) for name in start)


@pytest.mark.parametrize("moments", [(3, 4), (7,), (8, 9), (5, 7, 12)])
def test_stopped_around_the_change_and_continued_is_bit_identical(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moments: tuple[int, ...]
) -> None:
    _falling(monkeypatch)
    real, calls = module.train_step, []

    def interrupted(*args: object) -> None:
        calls.append(args)
        if len(calls) in moments:
            raise KeyboardInterrupt
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_step", interrupted)
    for _ in moments:
        with pytest.raises(KeyboardInterrupt):
            train(_config(data), tmp_path, show=False)
    assert train(_config(data), tmp_path, show=False).finished
    assert _same(tmp_path, whole)


def test_a_checkpoint_of_the_change_itself_continues_bit_identical(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _falling(monkeypatch)
    config = _config(data, checkpoint_every=CHANGE)
    train(config, tmp_path / "whole", show=False)
    real, calls = module.train_step, []

    def interrupted(*args: object) -> None:
        calls.append(args)
        if len(calls) == CHANGE + 1:
            raise KeyboardInterrupt
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "stopped", show=False)
    assert checkpoint.latest(tmp_path / "stopped" / "checkpoints").step == CHANGE  # type: ignore[union-attr]
    assert train(config, tmp_path / "stopped", show=False).finished
    assert _same(tmp_path / "stopped", tmp_path / "whole")
