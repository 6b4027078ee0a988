"""Splits: what a file may say, and what a draw always keeps to."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from semiseg.datasets.dataset import Case, Dataset, open_dataset
from semiseg.datasets.splits import ROLES, Split, draw_split, load_split, save_split
from semiseg.errors import InputError

ROOT = Path("data")
SIDES = (("labelled", "unlabelled"), ("validation",), ("test",))


def _dataset(patients: list[str], unlabelled: int = 0, classes: int = 3) -> Dataset:
    """Cases c00, c01, ... of the given patients; the last `unlabelled` of them have no label file."""
    cases = {}
    for index, patient in enumerate(patients):
        case = f"c{index:02d}"
        label = None if index >= len(patients) - unlabelled else ROOT / f"{case}.nii.gz"
        cases[case] = Case(case, (ROOT / f"{case}_0000.nii.gz",), label, patient)
    names = ("background", *(f"class{k}" for k in range(1, classes)))
    return Dataset(ROOT, "d", ("t1",), names, ".nii.gz", cases)


SINGLE = _dataset([f"p{i}" for i in range(8)], unlabelled=3)
PAIRS = _dataset([f"p{i // 2}" for i in range(10)])


def _load(tmp_path: Path, written: Any, dataset: Dataset = SINGLE, **arguments: Any) -> Split:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(written))
    return load_split(path, dataset, **arguments)


def _problems(tmp_path: Path, written: Any, dataset: Dataset = SINGLE, **arguments: Any) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        _load(tmp_path, written, dataset, **arguments)
    assert all(problem.startswith(f"{tmp_path / 'split.json'}: ") for problem in caught.value.problems)
    return caught.value.problems


def test_a_full_file_is_read_and_ordered(tmp_path: Path) -> None:
    content = {"labelled": ["c01", "c00"], "unlabelled": ["c05"], "validation": ["c02"], "test": ["c03"], "note": "n"}
    split = _load(tmp_path, content)
    assert split == Split(("c00", "c01"), ("c05",), ("c02",), ("c03",), "n")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    split = Split(("c00",), ("c05",), ("c02",), ("c03",), "a note")
    save_split(split, tmp_path / "split.json")
    assert load_split(tmp_path / "split.json", SINGLE) == split


def test_digest_depends_on_roles_alone() -> None:
    split = Split(("a", "b"), ("c",), note="x")
    assert split.digest == Split(("b", "a"), ("c",), note="y").digest
    assert len(split.digest) == 64
    others = [Split(("a",), ("b", "c")), Split(("a", "b"), (), ("c",)), Split(("a", "b"), (), (), ("c",))]
    assert len({split.digest, *(other.digest for other in others)}) == 4


def test_cases_without_a_role_are_unlabelled_unless_their_patient_is_kept_aside(tmp_path: Path) -> None:
    assert _load(tmp_path, {"labelled": ["c00"]}).unlabelled == tuple(f"c{i:02d}" for i in range(1, 8))
    assert _load(tmp_path, {"labelled": ["c00"], "unlabelled": []}).unlabelled == ()
    split = _load(tmp_path, {"labelled": ["c00"], "test": ["c02"], "validation": ["c05"]}, PAIRS)
    assert split.unlabelled == ("c01", "c06", "c07", "c08", "c09")
    split = _load(tmp_path, {"labelled": ["c00"], "test": ["c02"]}, content={"c02": "x", "c04": "x", "c05": "y"})
    assert split.unlabelled == ("c01", "c03", "c05", "c06", "c07")


def test_one_labelled_case_is_enough_and_none_is_not(tmp_path: Path) -> None:
    assert _load(tmp_path, {"labelled": ["c00"]}).labelled == ("c00",)
    for content in ({"labelled": []}, {"test": ["c00"]}):
        assert "labelled: expected at least one case, came none" in _problems(tmp_path, content)[0]


def test_files_that_are_no_splits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file: check the path"):
        load_split(tmp_path / "folder" / "none.json", SINGLE)
    (tmp_path / "dev_l8.json").write_text("{}")
    with pytest.raises(InputError, match=r"/l8\.json: cannot be read: there is no such file: did you mean 'dev_l8"):
        load_split(tmp_path / "l8.json", SINGLE)
    assert "expected a mapping" in _problems(tmp_path, ["c00"])[0]
    problems = _problems(tmp_path, {"labeled": ["c00"], "test": "c01", "validation": [1]})
    assert "unknown role 'labeled': did you mean 'labelled'?" in problems[0]
    assert "test: expected a list of case ids in quotes, came 'c01'" in problems[1]
    assert "validation: expected a list" in problems[2]
    assert "labelled: expected at least one case" in problems[3]


def test_unknown_cases_and_cases_with_two_roles(tmp_path: Path) -> None:
    problems = _problems(tmp_path, {"labelled": ["c00", "c99"], "test": ["c00", "c01", "c01"]})
    assert len(problems) == 4
    assert "expected one role per case, came 'c00' in labelled and test" in problems[0]
    assert "has no case 'c99'" in problems[1]
    assert "came 'c01' in test and test" in problems[2]
    assert "'p0' on one side" in problems[3]


@pytest.mark.parametrize("role", ["labelled", "validation"])
def test_roles_that_need_a_label_file(tmp_path: Path, role: str) -> None:
    content = {"labelled": ["c00"]} | {role: ["c00", "c07"] if role == "labelled" else ["c07"]}
    (problem,) = _problems(tmp_path, content)
    assert f"{role}: expected a label file of case 'c07', found none" in problem
    assert _load(tmp_path, {"labelled": ["c00"], "test": ["c07"]}).test == ("c07",)


@pytest.mark.parametrize("sides", list(itertools.combinations(ROLES, 2)))
def test_a_patient_is_on_one_side(tmp_path: Path, sides: tuple[str, str]) -> None:
    content: dict[str, list[str]] = {"labelled": ["c08"]}
    for role, case in zip(sides, ("c00", "c01"), strict=True):
        content[role] = [*content.get(role, []), case]
    if sides == ("labelled", "unlabelled"):
        assert _load(tmp_path, content, PAIRS).unlabelled == ("c01",)
        return
    (problem,) = _problems(tmp_path, content, PAIRS)
    assert "expected patient 'p0' on one side of the split, came in" in problem
    assert "('c00')" in problem
    assert "('c01')" in problem


def test_copies_of_a_scan_are_on_one_side(tmp_path: Path) -> None:
    content = {"c00": "x", "c03": "x", "c01": "y"}
    roles = {"labelled": ["c00", "c01"], "test": ["c03"]}
    assert _load(tmp_path, roles).test == ("c03",)
    (problem,) = _problems(tmp_path, roles, content=content)
    assert "copies of one scan (patients 'p0', 'p3') on one side" in problem


@pytest.mark.parametrize("name", ["la", "acdc", "hippocampus"])
def test_real_split_files(real_data: Path, name: str) -> None:
    dataset = open_dataset(real_data / name, r"(patient\d+)_" if name == "acdc" else None)
    for path in (real_data / name / "splits").iterdir():
        content, split = json.loads(path.read_text()), load_split(path, dataset)
        assert {role: sorted(content[role]) for role in ROLES} == {role: list(split.roles[role]) for role in ROLES}
        assert split.note == content["note"]


@st.composite
def _draws(draw: st.DrawFn) -> tuple[Dataset, dict[str, tuple[int, ...]], dict[str, int], dict[str, str]]:
    """A dataset, its voxel counts, the numbers to draw, and hashes of which some agree."""
    patients = draw(st.lists(st.integers(0, 16), min_size=8, max_size=24))
    classes = draw(st.integers(2, 5))
    dataset = _dataset([f"p{i}" for i in patients], unlabelled=draw(st.integers(0, 4)), classes=classes)
    count = st.tuples(st.just(100), *[st.sampled_from([50, 1, 0])] * (classes - 1))
    voxels = {case.id: draw(count) for case in dataset.cases.values() if case.label}
    numbers = {
        "labelled": draw(st.integers(1, 8)),
        "validation": draw(st.integers(0, 3)),
        "test": draw(st.integers(0, 4)),
        "seed": draw(st.integers(0, 1000)),
    }
    hashes = {case: f"h{draw(st.integers(0, 200))}" for case in dataset.cases}
    return dataset, voxels, numbers, hashes


@settings(max_examples=300, deadline=None)
@given(_draws())
def test_every_draw_keeps_to_the_rules(
    drawn: tuple[Dataset, dict[str, tuple[int, ...]], dict[str, int], dict[str, str]],
) -> None:
    dataset, voxels, numbers, hashes = drawn
    try:
        split = draw_split(dataset, voxels, **numbers, content=hashes)
    except InputError:
        event("no such draw")
        return
    assert draw_split(dataset, voxels, **numbers, content=hashes) == split

    cases = [case for role in ROLES for case in split.roles[role]]
    assert len(cases) == len(set(cases))
    assert set(cases) <= set(dataset.cases)
    for role in ("labelled", "validation", "test"):
        assert len(split.roles[role]) == numbers[role]
        assert set(split.roles[role]) <= set(voxels)

    for index in range(1, len(dataset.class_names)):
        assert any(voxels[case][index] for case in split.labelled)

    for key in (lambda case: dataset.cases[case].patient, lambda case: hashes[case]):
        sides, labels = defaultdict(set), defaultdict(set)
        for role in ROLES:
            for case in split.roles[role]:
                sides[key(case)].add(next(side for side in SIDES if role in side))
                if case in voxels:
                    labels[key(case)].add(role)
        assert all(len(found) == 1 for found in (*sides.values(), *labels.values()))

    for case in set(dataset.cases) - set(cases):
        assert case not in voxels, "only unlabelled scans of kept patients have no role"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_single_scan_patients_always_give_what_was_asked_for(data: st.DataObject) -> None:
    """With one scan per patient, as many labelled cases as classes suffice, whatever they hold."""
    classes = data.draw(st.integers(2, 5))
    dataset = _dataset([f"p{i}" for i in range(12)], classes=classes)
    count = st.tuples(st.just(9), *[st.booleans().map(int)] * (classes - 1))
    voxels = {case: data.draw(count) for case in dataset.cases}
    assume(all(any(row[index] for row in voxels.values()) for index in range(1, classes)))
    seed, test = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 4))
    splits = [draw_split(dataset, voxels, labelled, seed, test=test) for labelled in range(classes - 1, 9)]
    assert len({split.test for split in splits}) == 1, "one test set for all label budgets"
    for fewer, more in itertools.pairwise(splits):
        assert set(fewer.labelled) < set(more.labelled)


def test_seeds_give_different_draws_and_every_case_has_its_turn() -> None:
    dataset = _dataset([f"p{i}" for i in range(10)], classes=2)
    voxels = dict.fromkeys(dataset.cases, (9, 1))
    splits = [draw_split(dataset, voxels, 2, seed, test=2) for seed in range(200)]
    for role in ("labelled", "test"):
        times = [sum(case in split.roles[role] for split in splits) for case in dataset.cases]
        assert min(times) > 20
        assert max(times) < 65


def test_the_draw_is_the_same_on_every_machine() -> None:
    dataset = _dataset([f"p{i // 2}" for i in range(20)])
    split = draw_split(dataset, dict.fromkeys(dataset.cases, (9, 1, 1)), 4, 0, validation=2, test=4)
    assert split.labelled == ("c06", "c07", "c08", "c09")
    assert split.test == ("c04", "c05", "c12", "c13")


def test_whole_patients_add_up_even_when_the_obvious_choice_does_not() -> None:
    dataset = _dataset(["a"] * 3 + ["b"] * 2 + ["c"] * 2)
    voxels = dict.fromkeys(dataset.cases, (9, 1, 1))
    for seed in range(20):
        split = draw_split(dataset, voxels, 4, seed)
        assert split.labelled == ("c03", "c04", "c05", "c06")


def test_the_only_cases_of_a_class_are_never_kept_for_the_test() -> None:
    dataset = _dataset([f"p{i}" for i in range(6)])
    voxels = {case: (9, 1, int(case == "c04")) for case in dataset.cases}
    for seed in range(20):
        assert "c04" in draw_split(dataset, voxels, 1, seed, validation=1, test=3).labelled


def test_unlabelled_scans_follow_their_patient() -> None:
    dataset = _dataset(["a", "b", "c", "a", "b", "c"], unlabelled=3)
    split = draw_split(dataset, dict.fromkeys(("c00", "c01", "c02"), (9, 1, 1)), 1, 0, test=1)
    patient = dataset.cases[split.test[0]].patient
    assert len(split.unlabelled) == 3
    assert all(dataset.cases[case].patient != patient for case in split.unlabelled)


@pytest.mark.parametrize(
    ("dataset", "voxel", "arguments", "words"),
    [
        (SINGLE, (9, 1, 0), (1, 0), "class 2 (class2), came none, so the class cannot be covered"),
        (SINGLE, (9, 1, 1), (0, 0), "labelled: expected at least 1 case, came 0"),
        (SINGLE, (9, 1, 1), (6, 0), "expected at most the 5 labelled cases that there are, came 6 labelled"),
        (SINGLE, (9, 1, 1), (1, -1), "split seed: expected 0 or more, came -1"),
        (PAIRS, (9, 1, 1), (3, 0), "expected numbers that whole patients add up to"),
    ],
)
def test_impossible_draws_are_refused(
    dataset: Dataset, voxel: tuple[int, ...], arguments: tuple[int, int], words: str
) -> None:
    voxels = {case.id: voxel for case in dataset.cases.values() if case.label}
    with pytest.raises(InputError) as caught:
        draw_split(dataset, voxels, *arguments)
    assert words in str(caught.value)
    with pytest.raises(InputError, match="negative"):
        draw_split(dataset, voxels, 1, 0, test=-1)


def test_too_few_labelled_cases_for_all_classes_names_the_rarest() -> None:
    dataset = _dataset([f"p{i}" for i in range(6)])
    voxels = {case: (9, int(case != "c02"), int(case == "c02")) for case in dataset.cases}
    with pytest.raises(InputError) as caught:
        draw_split(dataset, voxels, 1, 0)
    assert "has 2 (class 2, class2, is in 1 of 6 patients): ask for 2 or more" in str(caught.value)
    assert "c02" in draw_split(dataset, voxels, 2, 0).labelled
