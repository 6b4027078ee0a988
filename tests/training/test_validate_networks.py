"""Validation of each network of a method by itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from semiseg.errors import InputError
from semiseg.reports.records import read_records
from semiseg.reports.training import validation
from semiseg.runs.folder import Run
from semiseg.settings.load import load_config
from semiseg.training.train import train
from tiny import TINY_RUN, tiny_dataset

SMALL = {
    **TINY_RUN,
    "labelled": 2,
    "validation": 1,
    "select": "best",
    "validate_every": 3,
    "steps": 9,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("tiny"), cases=6, labelled=4)


def _train(data: Path, output: Path, **settings: object) -> Run:
    return train(load_config(None, {"data": data, **SMALL, **settings}), output, show=False)


def _validations(run: Run) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    return [line["validation"] for line in lines if "validation" in line]


def test_the_teacher_is_scored_beside_the_student_and_each_as_if_it_predicted(data: Path, tmp_path: Path) -> None:
    old = {"horizon": None, "decay": 0.99}  # a teacher that is not the student after a few steps
    runs = {
        name: _train(
            data, tmp_path / name, method="mean_teacher", validate_networks=True, options={"predict_with": name, **old}
        )
        for name in ("student", "teacher")
    }
    by_student, by_teacher = (_validations(run) for run in runs.values())
    assert len(by_student) == 3
    assert [found["networks"] for found in by_student] == [found["networks"] for found in by_teacher]
    assert [found["networks"]["student"] for found in by_student] == [found["dice"] for found in by_student]
    assert [found["networks"]["teacher"] for found in by_student] == [found["dice"] for found in by_teacher]
    assert any(found["networks"]["student"] != found["networks"]["teacher"] for found in by_student)


@pytest.mark.parametrize("method", ["cml", "cps"])
def test_both_of_a_pair_are_scored(data: Path, tmp_path: Path, method: str) -> None:
    single = _train(data, tmp_path / "a", method=method, options={"predict_with": "a"})
    both = _train(data, tmp_path / "both", method=method, validate_networks=True)
    assert not any("networks" in found for found in _validations(single))
    first, second = _validations(both)[-1]["networks"].items()
    assert first[0].endswith("_a")
    assert second[0].endswith("_b")
    assert [next(iter(found["networks"].values())) for found in _validations(both)] == [
        found["dice"] for found in _validations(single)
    ]


def test_one_network_is_not_scored_twice(data: Path, tmp_path: Path) -> None:
    run = _train(data, tmp_path, method="supervised", validate_networks=True)
    assert all("networks" not in found for found in _validations(run))


@pytest.mark.parametrize(
    ("method", "names"),
    [("mean_teacher", {"student", "teacher"}), ("cps", {"prediction", "net_a", "net_b"})],
)
def test_the_report_draws_a_curve_per_network_and_their_average(
    data: Path, tmp_path: Path, method: str, names: set[str]
) -> None:
    run = _train(data, tmp_path / "run", method=method, validate_networks=True)
    _, chart = validation(read_records([run.path])).charts
    assert "mean Dice of each network" in chart.title
    assert set(re.findall(r'class="end">(\w+)</text>', chart.svg)) == names


def test_it_needs_validations(data: Path) -> None:
    with pytest.raises(InputError, match="validate_networks needs select: best"):
        load_config(None, {"data": data, "validate_networks": True})
