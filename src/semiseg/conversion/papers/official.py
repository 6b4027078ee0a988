"""Published lists of cases, and split files for the label budgets of the papers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np

from semiseg.conversion.papers.base import Item
from semiseg.datasets.splits import ROLES, Split

_SELECTION_SHARE = 4
SEEDED_NOTE = "the paper's list of cases is not published: a seeded one is written"


def official_lists(name: str) -> dict[str, Any]:
    """The published lists in `splits/<name>.json` of this package; their order matters."""
    text = (files("semiseg.conversion.papers") / "splits" / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@dataclass(frozen=True)
class Lists:
    """Published order of the patients of one split.

    Attributes:
        train: the first N are labelled, the others unlabelled.
        test, validation: patients kept for scoring and for choosing weights.
        source: where the lists come from.
        members: case ids by patient; a patient that is not named is a case itself.
        prefix: of the names of the split files: `l` for scans, `p` for patients.
    """

    train: Sequence[str]
    test: Sequence[str]
    validation: Sequence[str] = ()
    source: str = ""
    members: Mapping[str, Sequence[str]] | None = None
    prefix: str = "l"

    def cases(self, patients: Iterable[str]) -> tuple[str, ...]:
        """Case ids of `patients`."""
        members = self.members or {}
        return tuple(case for patient in patients for case in members.get(patient, (patient,)))


def budgets(lists: Lists, counts: Sequence[int]) -> dict[str, Split]:
    """Split files for each label budget in `counts`, and for all training labels.

    `l8` is the published split with 8 labelled scans. `l8_honest` keeps to the budget when weights are chosen by
    validation: its validation cases are the last quarter of the 8, and published validation cases are left out.
    `all` (and `all_honest`) train on every label.
    """
    found: dict[str, Split] = {}
    for count in (*sorted(set(counts)), len(lists.train)):
        name = "all" if count == len(lists.train) else f"{lists.prefix}{count}"
        found[name] = _published(lists, count)
        if count > 1:
            found[f"{name}_honest"] = _honest(lists, count)
    return found


def _published(lists: Lists, count: int) -> Split:
    note = f"{lists.source}; the first {count} of {len(lists.train)} are labelled"
    if lists.validation:
        note += f"; labels of {len(lists.validation)} validation cases are used beyond these"
    return Split(
        labelled=lists.cases(lists.train[:count]),
        unlabelled=lists.cases(lists.train[count:]),
        validation=lists.cases(lists.validation),
        test=lists.cases(lists.test),
        note=note,
    )


def _honest(lists: Lists, count: int) -> Split:
    kept = max(count // _SELECTION_SHARE, 1)
    return Split(
        labelled=lists.cases(lists.train[: count - kept]),
        unlabelled=lists.cases(lists.train[count:]),
        validation=lists.cases(lists.train[count - kept : count]),
        test=lists.cases(lists.test),
        note=f"{lists.source}; of the first {count} the last {kept} are for validation, within the label budget",
    )


def seeded_budgets(
    cases: Iterable[str], seed: int, test_share: float, counts: Sequence[int], at_most: int | None = None
) -> dict[str, Split]:
    """`budgets` of a paper without published lists: cases in an order that depends on their set and `seed` alone.

    Args:
        cases: all of them.
        seed: of the order.
        test_share: share of the cases kept for the test, the last ones.
        counts: label budgets; those that leave no unlabelled case are left out.
        at_most: number of cases that are used.
    """
    ordered = sorted(cases)
    order = [ordered[index] for index in np.random.default_rng(seed).permutation(len(ordered))][:at_most]
    train = len(order) - round(len(order) * test_share)
    source = (
        f"{len(order)} of {len(ordered)} cases chosen and shuffled with seed {seed}, {train} for training and "
        f"{len(order) - train} for test; no list is published"
    )
    return budgets(Lists(order[:train], order[train:], source=source), [n for n in counts if n < train])


def restrict(splits: Mapping[str, Split], items: Sequence[Item]) -> tuple[dict[str, Split], tuple[str, ...]]:
    """`splits` without the cases that were not found, and notes on what was left out.

    A split that has lost all of its labelled or all of its validation cases is left out.
    """
    present = {item.case for item in items}
    kept: dict[str, Split] = {}
    missing: set[str] = set()
    lost: list[str] = []
    for name, split in splits.items():
        gone = {case for cases in split.roles.values() for case in cases} - present
        missing |= gone
        roles = {role: tuple(case for case in split.roles[role] if case in present) for role in ROLES}
        if not roles["labelled"] or (split.validation and not roles["validation"]):
            lost.append(name)
            continue
        counts = ", ".join(f"{len(roles[role])} of {len(split.roles[role])} {role}" for role in ROLES)
        note = f"{split.note}; only the cases that are here: {counts}" if gone else split.note
        kept[name] = replace(split, **roles, note=note)
    return kept, tuple(_notes(missing, lost, present, splits))


def _notes(missing: set[str], lost: Sequence[str], present: set[str], splits: Mapping[str, Split]) -> Iterable[str]:
    if missing:
        names = ", ".join(sorted(missing)[:3]) + (", ..." if len(missing) > 3 else "")
        yield f"{len(missing)} case(s) of the published lists are not in the source ({names}): splits leave them out"
    if lost:
        yield f"not written for lack of their labelled or validation cases: {', '.join(lost)}"
    listed = {case for split in splits.values() for cases in split.roles.values() for case in cases}
    other = sorted(present - listed)
    if splits and other:
        names = ", ".join(other[:3]) + (", ..." if len(other) > 3 else "")
        yield f"{len(other)} case(s) are in no published list ({names}): they are imported, and in no split file"
