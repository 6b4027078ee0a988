"""The printed table: numbers, units and rules."""

from __future__ import annotations

from rich.table import Table

from semiseg.evaluation.scores import Row, Scores
from semiseg.evaluation.tables import plain, rich_table
from semiseg.metrics.base import columns
from semiseg.metrics.mask_scores import MaskScores, empty_scores

ABSENT = empty_scores(0, 0, (4, 4, 4), (1, 1, 1), "diagonal")
MISSED = empty_scores(0, 9, (4, 4, 7), (1, 1, 1), "diagonal")


def scored(dice):
    of_unit = {"%": 0.5, "mm": 3.0, "voxel": 2.0}
    values = {name: of_unit[column.unit] for name, column in columns().items()}
    return MaskScores({**values, "dice": dice}, 10, 10)


def scores(*rows, names=("background", "left", "right"), **options):
    return Scores(rows, names, "diagonal", options.get("largest", False))


def line(text, start):
    return next(found for found in text.splitlines() if found.startswith(start))


def test_numbers_units_and_rules():
    text = plain(
        scores(
            *(Row("a", 1, scored(0.8)), Row("a", 2, ABSENT)),
            *(Row("b", 1, scored(0.9)), Row("b", 2, MISSED)),
        )
    )
    heading, left, right, mean = (line(text, start) for start in ("class", "left", "right", "mean  "))
    for word in ("Dice %", "95HD mm", "ASD voxel", "empty P/T"):
        assert word in heading
    assert "85.00 ± 7.07" in left
    assert left.split()[-2:] == ["2", "0/0"]
    assert right.split()[1:5] == ["0.00", "0.00", "9.00", "9.00"]
    assert right.split()[-2:] == ["1", "2/1"]
    assert "42.50" in mean
    assert "'diagonal'" in text
    assert "pooled" in text
    assert "\x1b" not in text


def test_one_class_has_no_mean_row():
    text = plain(scores(Row("a", 1, scored(0.8)), names=("background", "atrium")))
    assert "80.00" in line(text, "atrium")
    assert text.count("80.00") == 1


def test_undefined_is_a_dash():
    text = plain(scores(Row("a", 1, ABSENT), names=("background", "atrium")))
    assert line(text, "atrium").split() == ["atrium", *"------", "0", "1/1"]


def test_rich_table_carries_the_definitions():
    table = rich_table(scores(Row("a", 1, scored(0.8)), names=("background", "atrium"), largest=True))
    assert isinstance(table, Table)
    assert "only: yes" in str(table.caption)


def test_one_unit_and_stamps():
    found = Scores(
        (Row("a", 1, scored(0.8)),), ("background", "a"), "official", False, {"stamps": ["test-selected"]}, unit="voxel"
    )
    text = plain(found)
    assert "95HD voxel" in text
    assert " mm" not in text.splitlines()[0]
    assert "NOT AN HONEST RESULT: test-selected" in text
    assert "NOT AN HONEST RESULT: test-selected" in str(rich_table(found).caption)
    assert found.to_json()["stamps"] == ["test-selected"]
    assert "NOT AN HONEST" not in plain(scores(Row("a", 1, scored(0.8)), names=("background", "a")))


def test_patients_are_counted_beside_the_cases():
    rows = [Row(case, label, scored(0.1 * i)) for i, case in enumerate(("a1", "a2", "b1")) for label in (1, 2)]
    whose = {"a1": "a1", "a2": "a1", "b1": "b1"}
    known = Scores(tuple(rows), ("background", "left", "right"), "diagonal", False, {"patients": whose})
    assert "over 3 cases of 2 patients; P prediction" in plain(known)
    assert (known.to_json()["cases"], known.to_json()["patients"]) == (3, 2)
    assert known.by_patient("dice").tolist() == [0.05, 0.2]
    assert known.by_patient("dice", 1).tolist() == [0.05, 0.2]
    assert "over 3 cases; P prediction" in plain(scores(*rows))
    assert scores(*rows).to_json()["patients"] is None
    for damaged in (7, {"a1": ["x"]}):
        assert not Scores(
            tuple(rows), ("background", "left", "right"), "diagonal", False, {"patients": damaged}
        ).patients
