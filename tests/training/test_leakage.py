"""Labels that a training may not see: which files are opened is told by the interpreter and by the kernel."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import semiseg
from semiseg.datasets.dataset import open_dataset
from semiseg.evaluation import runs
from semiseg.preparing.prepare import prepare
from semiseg.runs.folder import Run
from semiseg.scans.readers import read_label
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.training.train import train
from tiny import TINY_RUN, tiny_dataset, write_nifti

SPLIT = {
    "labelled": ["case_000", "case_001"],
    "unlabelled": ["case_002", "case_003", "case_004"],
    "validation": ["case_005"],
    "test": ["case_006", "case_007"],
}
HIDDEN = (*SPLIT["unlabelled"], *SPLIT["test"])
"""Cases whose labels are on the disk and none of the training's business."""
SETTINGS = {
    **TINY_RUN,
    "steps": 4,
    "select": "best",
    "validate_every": 2,
}

LISTENER = """
import json, os, sys
opened = set()
def hook(event, values):
    if event == "open" and isinstance(values[0], (str, os.PathLike)):
        opened.add(os.path.abspath(os.fspath(values[0])))
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])  # one core: all work that can be is done in this process
sys.addaudithook(hook)
from pathlib import Path
from semiseg.settings.load import load_config
from semiseg.training.train import train
if __name__ == "__main__":
    train(load_config(Path(sys.argv[1]), {}), Path(sys.argv[2]), show=False)
    print(json.dumps(sorted(opened)))
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Every case has a label on the disk."""
    root = tiny_dataset(tmp_path / "data", cases=8, labelled=8)
    (root / "split.json").write_text(json.dumps(SPLIT))
    return root


def _config(data: Path, **settings: object) -> RunConfig:
    return load_config(None, {"data": data, "method": "micd", "split": data / "split.json", **SETTINGS, **settings})


def test_the_training_process_opens_no_label_but_its_own(data: Path, tmp_path: Path) -> None:
    """Also where it finds the dataset unprepared: preparing it opens all labels, in another process."""
    (tmp_path / "config.yaml").write_text(_config(data).to_yaml())
    (tmp_path / "listener.py").write_text(LISTENER)
    command = [sys.executable, tmp_path / "listener.py", tmp_path / "config.yaml", tmp_path / "run"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    opened = [Path(name) for name in json.loads(answer.stdout.splitlines()[-1])]
    labels = {path.name for path in opened if path.name.endswith(".label.npy")}
    assert labels == {f"{case}.label.npy" for case in (*SPLIT["labelled"], *SPLIT["validation"])}
    assert not [path for path in opened if "labelsTr" in path.parts]
    assert {f"{case}.image.npy" for case in SPLIT["unlabelled"]} <= {path.name for path in opened}, "it did listen"


class Watch:
    """Names of the given files that any process opens from now on, as the kernel tells."""

    OPEN, NON_BLOCKING = 0x20, os.O_NONBLOCK

    def __init__(self, files: Iterable[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(self.NON_BLOCKING)
        self._names = {
            self._libc.inotify_add_watch(self._descriptor, os.fsencode(file), self.OPEN): file.name for file in files
        }
        assert min(self._names) > 0, os.strerror(ctypes.get_errno())

    def opened(self) -> set[str]:
        """Names of the files that were opened."""
        try:
            events = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return set()
        return {self._names[number] for number, *_ in struct.iter_unpack("iIII", events)}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the kernel")
@pytest.mark.parametrize("method", ["micd", "crest"])
def test_no_process_opens_hidden_labels_once_all_is_prepared(data: Path, tmp_path: Path, method: str) -> None:
    store = prepare(open_dataset(data), workers=1)
    files = [data / "labelsTr" / f"{case}.nii.gz" for case in store.cases]
    files += [store.root / "store" / f"{case}.label.npy" for case in store.cases]
    watch = Watch(files)
    train(_config(data, method=method), tmp_path / "run", show=False)
    semiseg.predict(tmp_path / "run", accelerator="cpu")
    assert watch.opened() == {f"{case}.label.npy" for case in (*SPLIT["labelled"], *SPLIT["validation"])}
    semiseg.evaluate(tmp_path / "run", workers=1)
    assert watch.opened() == {f"{case}.nii.gz" for case in SPLIT["test"]}


@pytest.mark.parametrize("method", ["micd", "dhc"])
def test_changed_labels_of_other_cases_change_no_bit_of_the_weights(data: Path, tmp_path: Path, method: str) -> None:
    prepare(open_dataset(data), workers=1)
    first = train(_config(data, method=method), tmp_path / "first", show=False)
    for case in HIDDEN:
        path = data / "labelsTr" / f"{case}.nii.gz"
        write_nifti(path, np.flip(2 - read_label(path).array, axis=1).astype(np.uint8))
    prepare(open_dataset(data), workers=1)
    second = train(_config(data, method=method), tmp_path / "second", show=False)
    for name in ("final", "best"):
        one, other = (load_file(run.checkpoints / f"{name}.safetensors") for run in (first, second))
        assert all(torch.equal(one[key], other[key]) for key in one.keys() | other.keys())
    path = data / "labelsTr" / f"{SPLIT['labelled'][0]}.nii.gz"
    write_nifti(path, np.flip(read_label(path).array, axis=1).copy())
    prepare(open_dataset(data), workers=1)
    third = train(_config(data, method=method), tmp_path / "third", show=False)
    one, other = (load_file(run.checkpoints / "final.safetensors") for run in (first, third))
    assert not all(torch.equal(one[key], other[key]) for key in one), "its own labels do count"


def test_two_evaluations_at_once_are_counted_as_two(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is held up between reading the count and writing it, long enough for the other."""
    prepare(open_dataset(data), workers=1)
    run: Run = train(_config(data, steps=1, select="last"), tmp_path / "run", show=False)
    semiseg.predict(run.path, accelerator="cpu")
    real, waiting = runs.write_json, threading.Barrier(2)

    def slow(path: Path, value: object) -> None:
        if path.name == "test_opened.json":
            try:
                waiting.wait(0.5)
            except threading.BrokenBarrierError:
                waiting.reset()
        real(path, value)

    monkeypatch.setattr(runs, "write_json", slow)
    threads = [threading.Thread(target=semiseg.evaluate, args=(run.path,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads((run.path / "test_opened.json").read_text()) == {"times": 2}
    scores = json.loads((run.path / "scores.json").read_text())
    assert scores["provenance"]["test_opened"] == 2
    assert "test labels opened" in semiseg.report(run.path).read_text()
