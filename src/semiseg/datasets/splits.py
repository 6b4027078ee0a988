"""Roles of the cases: labelled and unlabelled for training, validation, test. Whole patients only."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.datasets.dataset import Dataset
from semiseg.datasets.draws import Group, Wanted, absent, draw_groups
from semiseg.errors import InputError, did_you_mean, raise_all, shown
from semiseg.system.files import write_json
from semiseg.validation import read_mapping

ROLES = ("labelled", "unlabelled", "validation", "test")
_SIDES = {"labelled": "training", "unlabelled": "training", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class Split:
    """Case ids by role; each role is kept in alphabetical order, so that equal splits train alike."""

    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for role in ROLES:
            object.__setattr__(self, role, tuple(sorted(getattr(self, role))))

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """Case ids by the name of their role."""
        return {role: getattr(self, role) for role in ROLES}

    @property
    def digest(self) -> str:
        """sha256 of the roles, hex; the note does not count."""
        return hashlib.sha256(json.dumps(self.roles, sort_keys=True).encode()).hexdigest()


def save_split(split: Split, path: Path) -> None:
    """Write `split` as the JSON that `load_split` reads."""
    write_json(path, {**split.roles, "note": split.note})


def load_split(path: Path, dataset: Dataset, *, content: Mapping[str, str] | None = None) -> Split:
    """The split in a JSON file: `{"labelled": [...], "unlabelled": [...], "validation": [...], "test": [...]}`.

    Roles may be left out, `labelled` excepted. Without `unlabelled`, these are all cases without a role whose patients
    are not kept for validation or test.

    Args:
        path: of the file.
        dataset: whose cases it is about.
        content: hash of the voxels by case id; with it, copies of a scan may not be on two sides either.

    Raises:
        InputError: ids that the dataset does not have; cases with two roles; patients (or copies of one scan) on two
            sides of training, validation and test; labelled or validation cases without a label file; no labelled case.
    """
    return split_of(path, *read_roles(path), dataset, content=content)


def split_of(
    path: Path,
    named: Mapping[str, Sequence[str]],
    note: str,
    dataset: Dataset,
    *,
    content: Mapping[str, str] | None = None,
) -> Split:
    """The split that a file with these roles and this note gives; see `load_split`."""
    roles = dict(named)
    groups = patient_groups(dataset, content or {})
    raise_all([*_case_problems(path, dataset, roles), *_group_problems(path, dataset, roles, groups)])
    if "unlabelled" not in roles:
        roles["unlabelled"] = _left_over(dataset, roles, groups)
    return Split(**{role: tuple(cases) for role, cases in roles.items()}, note=note)


def read_roles(path: Path) -> tuple[dict[str, list[str]], str]:
    """Case ids by the roles that a split file names, and its note; whether there are such cases is not looked at.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    values = read_mapping(path)
    raise_all(_format_problems(path, values))
    return {role: list(values[role]) for role in ROLES if role in values}, str(values.get("note", ""))


def _format_problems(path: Path, values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if key not in (*ROLES, "note"):
            yield f"{path}: unknown role {shown(key)}: {did_you_mean(str(key), ROLES)}"
        elif key != "note" and not (isinstance(value, list) and all(isinstance(case, str) for case in value)):
            yield f"{path}: {key}: expected a list of case ids in quotes, came {shown(value)}: correct it"
    if not values.get("labelled"):
        yield f"{path}: labelled: expected at least one case, came none: name the cases whose labels may be trained on"


def _case_problems(path: Path, dataset: Dataset, roles: Mapping[str, Sequence[str]]) -> Iterator[str]:
    held: dict[str, list[str]] = defaultdict(list)
    for role, cases in roles.items():
        for case in cases:
            held[case].append(role)
    for case, names in held.items():
        if case not in dataset.cases:
            yield f"{path}: {names[0]}: {dataset.root} has no case {shown(case)}: {did_you_mean(case, dataset.cases)}"
        elif len(names) > 1:
            yield f"{path}: expected one role per case, came {shown(case)} in {' and '.join(names)}: keep one of them"
        elif names[0] in ("labelled", "validation") and dataset.cases[case].label is None:
            yield (
                f"{path}: {names[0]}: expected a label file of case {case!r}, found none in {dataset.root}: "
                "add it or move the case to unlabelled"
            )


def _group_problems(
    path: Path, dataset: Dataset, roles: Mapping[str, Sequence[str]], groups: Mapping[str, str]
) -> Iterator[str]:
    """Patients, or copies of one scan, on two sides of training, validation and test."""
    sides: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for role, cases in roles.items():
        for case in cases:
            if case in dataset.cases:
                sides[groups[case]][_SIDES[role]].append(case)
    for group, by_side in sides.items():
        if len(by_side) < 2:
            continue
        patients = {dataset.cases[case].patient for cases in by_side.values() for case in cases}
        whose = f"patient {group!r}" if len(patients) == 1 else f"copies of one scan (patients {_names(patients)})"
        where = ", ".join(f"{side} ({_names(set(cases))})" for side, cases in by_side.items())
        yield f"{path}: expected {whose} on one side of the split, came in {where}: move all of these cases to one side"


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))


def _left_over(dataset: Dataset, roles: Mapping[str, Sequence[str]], groups: Mapping[str, str]) -> Sequence[str]:
    named = {case for cases in roles.values() for case in cases}
    kept = {groups[case] for role in ("validation", "test") for case in roles.get(role, ())}
    return [case for case in dataset.cases if case not in named and groups[case] not in kept]


def patient_groups(dataset: Dataset, content: Mapping[str, str]) -> dict[str, str]:
    """Group by case id: its patient, joined with the patients of all copies of its scans."""
    group = {case.id: case.patient for case in dataset.cases.values()}
    first: dict[str, str] = {}
    for case in group:
        other = first.setdefault(content.get(case, f"only {case}"), case)
        if group[case] != group[other]:
            old, new = group[case], group[other]
            group = {key: new if value == old else value for key, value in group.items()}
    return group


def patients_of(dataset: Dataset, content: Mapping[str, str], cases: Iterable[str]) -> dict[str, str]:
    """Which of `cases` are scans of one patient: each with the first of the dataset's cases of that patient.

    Patients are called by their cases, so that what is written of them holds no name out of `patients.json`.
    """
    groups = patient_groups(dataset, content)
    first: dict[str, str] = {}
    for case in sorted(groups):
        first.setdefault(groups[case], case)
    return {case: first[groups[case]] for case in cases}


def draw_split(
    dataset: Dataset,
    voxels: Mapping[str, Sequence[int]],
    labelled: int,
    seed: int,
    *,
    validation: int = 0,
    test: int = 0,
    content: Mapping[str, str] | None = None,
) -> Split:
    """A random split in which the labelled cases hold every class and patients are kept together.

    A patient is in one of labelled, unlabelled, validation and test; scans without a label file, of patients that are
    not in validation or test, are unlabelled. The same arguments give the same split. Test and validation cases stay
    the same for different numbers of labelled cases wherever that is possible.

    Args:
        dataset: whose cases get roles.
        voxels: voxels per class, background first, by id of all cases that have a label.
        labelled, validation, test: numbers of cases.
        seed: of the draw.
        content: hash of the voxels by case id; copies of one scan are then kept together as well.

    Raises:
        InputError: the numbers are more than there are cases, or not to be had from whole patients; a class cannot be
            covered.
    """
    wanted = Wanted(labelled, validation, test)
    raise_all(_number_problems(wanted, len(voxels), seed))
    names = patient_groups(dataset, content or {})
    groups = _labelled_groups(dataset, voxels, names)
    classes = dict(list(enumerate(dataset.class_names))[1:])
    raise_all(
        f"labelled: expected a case with class {index} ({classes[index]}), came none, so the class cannot "
        "be covered: label one, or remove the class from dataset.json"
        for index in absent(groups, classes.keys())
    )
    drawn = draw_groups(groups, classes, wanted, seed)
    if isinstance(drawn, str):
        raise InputError(f"labelled: {drawn}")
    kept = {group.name for group in (*drawn.validation, *drawn.test)}
    chosen = set(_cases(drawn.labelled))
    return Split(
        labelled=tuple(chosen),
        unlabelled=tuple(case for case in dataset.cases if names[case] not in kept and case not in chosen),
        validation=_cases(drawn.validation),
        test=_cases(drawn.test),
        note=f"drawn with seed {seed}: {wanted}",
    )


def _number_problems(wanted: Wanted, available: int, seed: int) -> Iterator[str]:
    if seed < 0:
        yield f"split seed: expected 0 or more, came {seed}"
    if wanted.labelled < 1:
        yield f"labelled: expected at least 1 case, came {wanted.labelled}: ask for more, or for fewer test cases"
    if min(wanted.validation, wanted.test) < 0:
        yield f"split: expected no negative numbers of cases, came {wanted}"
    if wanted.labelled + wanted.validation + wanted.test > available:
        yield f"split: expected at most the {available} labelled cases that there are, came {wanted}: ask for fewer"


def _labelled_groups(dataset: Dataset, voxels: Mapping[str, Sequence[int]], names: Mapping[str, str]) -> list[Group]:
    members: dict[str, list[str]] = defaultdict(list)
    for case in dataset.cases:
        if case in voxels:
            members[names[case]].append(case)
    return [
        Group(name, tuple(cases), frozenset(i for case in cases for i, count in enumerate(voxels[case]) if count and i))
        for name, cases in members.items()
    ]


def _cases(groups: Iterable[Group]) -> tuple[str, ...]:
    return tuple(case for group in groups for case in group.cases)
