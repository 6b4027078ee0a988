"""Small finished runs for tests of what comes after training; names are as nasty as file systems allow."""

from __future__ import annotations

import json
from pathlib import Path

import semiseg
from tiny import tiny_dataset

HOSTILE_CLASS = "</script><img src=x onerror=alert(1)>"
HOSTILE_CASE = "x<b onmouseover=alert(2)>&'"

SETTINGS = {
    "labelled": 3,
    "validation": 1,
    "test": 4,
    "select": "best",
    "validate_every": 2,
    "steps": 6,
    "log_every": 2,
    "accelerator": "cpu",
    "precision": "fp32",
    "network": {"options": {"filters": [4, 8]}},
    "batch": {"patch": [16, 16, 16], "labelled": 2, "unlabelled": 2},
}


def hostile_dataset(root: Path) -> Path:
    """Ten cases, eight labelled, one called `HOSTILE_CASE`; the second class is called `HOSTILE_CLASS`."""
    data = tiny_dataset(root, cases=10, labelled=8)
    description = json.loads((data / "dataset.json").read_text())
    description["labels"] = {"background": 0, "organ": 1, HOSTILE_CLASS: 2}
    (data / "dataset.json").write_text(json.dumps(description))
    return data


def scored_run(data: Path, output: Path, method: str, **settings: object) -> Path:
    """A run that is trained, predicted and evaluated."""
    run = semiseg.train(data, output, method=method, **{**SETTINGS, **settings})
    semiseg.predict(run.path, accelerator="cpu")
    semiseg.evaluate(run.path, workers=1)
    return run.path
