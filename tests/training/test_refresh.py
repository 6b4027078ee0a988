"""Passes over the unlabelled scans: when they come, what they show, and exact resume around them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from semiseg.methods.adsh import Adsh
from semiseg.methods.crest import CReSTGenerations
from semiseg.runs.folder import Run
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.training import train as module
from semiseg.training.session import open_session
from semiseg.training.train import train
from tiny import TINY_RUN, tiny_dataset

STEPS, LENGTH = 12, 4
SMALL = {
    "method": "crest-generations",
    "options": {"generations": STEPS // LENGTH, "alpha": 0.1},
    "steps": STEPS,
    "labelled": 3,
    **TINY_RUN,
    "checkpoint_every": 3,
    "log_every": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("tiny"), cases=8, labelled=5)


def _config(data: Path, **settings: object) -> RunConfig:
    return load_config(None, {"data": data, **SMALL, **settings})


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of three generations."""
    return train(_config(data), tmp_path_factory.mktemp("runs") / "whole", show=False).path


def _same(one: Path, other: Path) -> bool:
    first, second = (load_file(run / "checkpoints" / "final.safetensors") for run in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _stop(monkeypatch: pytest.MonkeyPatch, moments: tuple[int, ...]) -> None:
    """Calls of the training step that are interrupted, counted over all attempts."""
    real, calls = module.train_step, []

    def interrupted(*args: object) -> None:
        calls.append(args)
        if len(calls) in moments:
            raise KeyboardInterrupt
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_step", interrupted)


def _continued(config: RunConfig, output: Path, stops: int) -> Path:
    for _ in range(stops):
        with pytest.raises(KeyboardInterrupt):
            train(config, output, show=False)
    assert train(config, output, show=False).finished
    return output


@pytest.mark.parametrize("moments", [(3,), (7,), (5, 6), (8, 13)])
def test_stopped_in_a_generation_and_continued_is_bit_identical(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moments: tuple[int, ...]
) -> None:
    _stop(monkeypatch, moments)
    assert _same(_continued(_config(data), tmp_path, len(moments)), whole)


def test_a_checkpoint_between_generations_continues_bit_identical(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stop(monkeypatch, (2 * LENGTH + 1,))
    assert _same(_continued(_config(data, checkpoint_every=LENGTH), tmp_path, 1), whole)


def test_the_last_generation_learns_from_voxels_of_the_one_before(whole: Path) -> None:
    final = load_file(whole / "checkpoints" / "final.safetensors")
    threshold = final["method.labeller.threshold"]
    assert ((threshold >= 0) & (threshold <= 1)).all()
    assert (threshold < 1).any(), "some class keeps some voxels"
    assert any(
        not torch.equal(value, final[name.replace("labeller.nets", "nets")])
        for name, value in final.items()
        if "labeller.nets" in name
    )


def _noted(monkeypatch: pytest.MonkeyPatch, cls: type) -> list[tuple[int, str, int, bool]]:
    """Step and stage of every refresh, how many voxels it was shown, and whether the method was in train mode."""
    real, found = cls.refresh, []

    def noted(self, pool, clock):  # type: ignore[no-untyped-def]
        tiles = list(pool)
        found.append((clock.step, clock.stage, sum(int(tile.counted.sum()) for tile in tiles), self.training))
        assert all(tile.images.shape[2:] == tile.counted.shape[1:] for tile in tiles)
        real(self, tiles, clock)

    monkeypatch.setattr(cls, "refresh", noted)
    return found


def test_every_generation_begins_with_all_unlabelled_scans(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _noted(monkeypatch, CReSTGenerations)
    train(_config(data), tmp_path, show=False)
    with open_session(_config(data), Run(tmp_path)) as session:
        voxels = sum(session.store.image(case)[0].size for case in session.split.unlabelled)
    expected = [(k * LENGTH, f"generation{k + 1}", voxels, False) for k in range(STEPS // LENGTH)]
    assert found == expected


def test_every_epoch_can_begin_with_them(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _noted(monkeypatch, Adsh)
    config = _config(data, method="adsh-paper", options={}, steps=8)
    train(config, tmp_path / "whole", show=False)
    with open_session(config, Run(tmp_path / "whole")) as session:
        epoch = session.batches.steps_per_epoch
    assert [step for step, *_ in found] == list(range(0, 8, epoch))
    assert len(found) > 2
    final = load_file(tmp_path / "whole" / "checkpoints" / "final.safetensors")
    assert not torch.equal(final["method.thresholds.0.value"], final["method.thresholds.1.value"])
    monkeypatch.undo()
    _stop(monkeypatch, (epoch + 1, epoch + 3))  # at the start of an epoch, which has just been refreshed; and inside
    assert _same(_continued(config, tmp_path / "stopped", 2), tmp_path / "whole")


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("adsh", {"capacity": 5}),
        ("adsh", {"capacity": 5, "exact": True}),
        ("basak", {"update_iter": 4}),
        ("cld", {"update_iter": 4}),
        ("simis", {}),
        ("crest", {}),
    ],
)
def test_stopped_inside_of_a_window_and_continued_is_bit_identical(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, options: dict[str, object]
) -> None:
    config = _config(data, method=method, options=options, steps=5, checkpoint_every=2)
    train(config, tmp_path / "whole", show=False)
    _stop(monkeypatch, (3,))
    assert _same(_continued(config, tmp_path / "stopped", 1), tmp_path / "whole")


def test_optimisers_of_new_networks_know_nothing_of_the_old_ones(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, known, starts = module.train_step, {}, {}

    def noted(session, journal, step, batch):  # type: ignore[no-untyped-def]
        known[step] = sum(len(optimiser.state) for optimiser in session.optimisers.values())
        starts[step] = next(session.method.nets[0].parameters()).detach().clone()
        real(session, journal, step, batch)

    monkeypatch.setattr(module, "train_step", noted)
    train(_config(data), tmp_path / "anew", show=False)
    assert [step for step, count in known.items() if count == 0] == [0, LENGTH, 2 * LENGTH]
    distances = [(starts[step] - starts[step - 1]).norm() for step in (LENGTH - 1, LENGTH, LENGTH + 1)]
    assert distances[1] > 2 * max(distances[0], distances[2]), "new weights at the start of a generation"


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(data: Path, whole: Path, tmp_path: Path) -> None:
    # Of gradients that are nearly zero AdamW makes whole steps, in either direction, by their rounding.
    plain = {"name": "sgd", "clip": None}
    config = _config(data, steps=6, options={"generations": 2, "alpha": 0.1}, optimiser=plain)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    one = train(config, tmp_path / "one", show=False).path
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "semiseg.cli", "train", "--config", str(tmp_path / "config.yaml")]
    subprocess.run(
        [*command, "--output", str(tmp_path / "two")],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    first, second = (load_file(run / "checkpoints" / "final.safetensors") for run in (one, tmp_path / "two"))
    for name, tensor in first.items():
        torch.testing.assert_close(
            second[name], tensor, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
