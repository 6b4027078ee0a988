"""No file is opened again for what was read from it before: the interpreter counts, in all processes of a command."""

from __future__ import annotations

import json
import sys
from collections import Counter

import pytest

from scripts import load_script
from tiny import tiny_dataset

_opened = load_script("benchmarks/opened.py")

SETTINGS = {
    "method": "mean_teacher",
    "steps": 2,
    "accelerator": "cpu",
    "network": {"options": {"filters": [4, 8]}},
    "batch": {"patch": [16, 16, 16], "labelled": 1, "unlabelled": 1},
}
CALLS = """
import json, sys
from pathlib import Path
import semiseg

def main():
    root, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    data, split = root / "data", root / "split.json"

    def verb(name):
        (root / f"begin_{name}").touch()

    verb("check")
    semiseg.check(data)
    verb("prepare")
    semiseg.prepare(data, root / "alone", workers=2)
    verb("prepare_again")
    semiseg.prepare(data, root / "alone")
    verb("train")
    semiseg.train(data, root / "run", split=split, **settings)
    verb("train_ready")
    semiseg.train(data, root / "ready", split=split, select="best", **settings)
    verb("preview")
    semiseg.preview(data, root / "seen", count=1, split=split, **settings)
    verb("predict")
    semiseg.predict(root / "run")
    verb("predict_scans")
    semiseg.predict(root / "run", data / "imagesTr", root / "labels")
    verb("predict_again")
    semiseg.predict(root / "run")
    verb("evaluate")
    semiseg.evaluate(root / "run")
    verb("compare")
    grid = {"methods": [settings.pop("method")], "labelled": [2], "test": 2, "seeds": 1, "steps": settings.pop("steps")}
    semiseg.compare(data, root / "grid", settings=settings, **grid)

if __name__ == "__main__":
    main()
"""
SPLIT = {"labelled": ["case_000"], "validation": ["case_001"], "test": ["case_002", "case_003"]}
SCANS = "data/imagesTr/", "data/labelsTr/", "run/predictions/case", "labels/case"
HEADER, CONTENT, VOXELS = 1, 1, 1
"""A scan is opened for the size of the work, for the hash of the file, and for its voxels; each once."""

Openings = dict[str, list[tuple[int, str]]]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Openings:
    """Processes and files that they opened to read, by verb."""
    root = tmp_path_factory.mktemp("opened")
    tiny_dataset(
        root / "data", cases=6, labelled=5, shape=(32, 32, 32)
    )  # files below 1 kB are looked at for pointers of Git LFS
    (root / "split.json").write_text(json.dumps(SPLIT))
    script = root / "calls.py"
    script.write_text(CALLS)
    found: Openings = {}
    verb = "start"
    for opening in _opened.openings([sys.executable, script, root, json.dumps(SETTINGS)], root):
        if opening.path.startswith("begin_"):
            verb = opening.path.removeprefix("begin_")
        elif opening.mode == "r" and not opening.path.endswith(".part"):
            found.setdefault(verb, []).append((opening.process, opening.path))
    return found


def times(read: Openings, verb: str) -> Counter[str]:
    """How often each file is opened, whatever the process."""
    return Counter(path for _, path in read[verb])


VERBS = (
    "check",
    "prepare",
    "prepare_again",
    "train",
    "train_ready",
    "preview",
    "predict",
    "predict_scans",
    "predict_again",
    "evaluate",
)


@pytest.mark.parametrize("verb", VERBS)
def test_documents_are_opened_once(read: Openings, verb: str) -> None:
    again = {path: count for path, count in times(read, verb).items() if count > 1 and not path.startswith(SCANS)}
    assert not again


@pytest.mark.parametrize("verb", VERBS)
def test_a_scan_is_opened_for_its_header_its_content_and_its_voxels(read: Openings, verb: str) -> None:
    counts = {path: count for path, count in times(read, verb).items() if path.startswith(SCANS)}
    assert max(counts.values(), default=0) <= HEADER + CONTENT + VOXELS


def test_each_case_of_the_store_is_opened_once(read: Openings) -> None:
    for verb in ("prepare_again", "train_ready"):
        store = "alone/store/" if verb == "prepare_again" else "data/prepared/store/"
        records = [path for path in times(read, verb) if path.startswith(store) and path.endswith(".json")]
        assert len(records) == 6, "every record, and each once as all documents"


@pytest.mark.parametrize("verb", ["prepare_again", "train_ready", "preview"])
def test_a_ready_store_needs_no_scan(read: Openings, verb: str) -> None:
    assert "data/dataset.json" in times(read, verb)
    assert not [path for path in times(read, verb) if path.startswith(SCANS)]


def test_the_cells_of_a_comparison_are_planned_on_what_is_open(read: Openings) -> None:
    """And each cell, in a process of its own, opens the data once for training, prediction and scores."""
    shared = ("data/dataset.json", "data/prepared/", "grid/splits/")
    counts = Counter((process, path) for process, path in read["compare"] if path.startswith(shared))
    assert {path for _, path in counts} >= {"data/dataset.json", "data/prepared/plan.json", "grid/splits/l2.json"}
    assert len({process for process, path in counts if path == "data/dataset.json"}) == 4, "the plan, and three cells"
    assert not {key: count for key, count in counts.items() if count > 1}
