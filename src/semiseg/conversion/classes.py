"""Which classes the labels of a new dataset have: what was asked for against what is in the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg.errors import InputError

_SHOWN = 3


@dataclass(frozen=True)
class Classes:
    """Names by new value (background first), and new value by the one in the files; empty where all values stay."""

    names: tuple[str, ...]
    values: Mapping[int, int]


def choose_classes(asked: Sequence[str], found: Mapping[Path, Mapping[int, int]]) -> Classes:
    """Classes by the names (`liver`, or `4=tumour`) asked for and the values found.

    Without names, classes are called after their values (one class where there is no label). Values without gaps stay;
    others are renumbered only where it is said which class each is, or there is but one.

    Args:
        asked: names of the classes 1, 2, ..., or all as VALUE=NAME.
        found: voxels by value, by label file.

    Raises:
        InputError: values and names do not fit; says where the values are and what would fit.
    """
    present = sorted({value for counts in found.values() for value in counts} - {0})
    negative = [value for value in present if value < 0]
    if negative:
        raise InputError(
            f"labels: expected values from 0 on, came {_list(negative)} ({_where(negative, found)}): relabel these "
            "voxels, as 0 if they are background"
        )
    named = _named(asked)
    if named is None:
        wanted = list(range(1, max(len(asked), len(present), 1) + 1))
        if len(asked) == len(present) == 1:
            named = {present[0]: asked[0]}
        elif any(value not in wanted for value in present):
            example = ",".join(f"{value}=NAME" for value in present)
            raise InputError(
                f"labels: expected the values {_list(wanted)} besides the background 0, came {_list(present)} "
                f"({_where(present, found)}): say which class each is, as in --classes {example}"
            )
        else:
            names = asked or [f"class_{value}" for value in wanted]
            named = dict(zip(wanted, names, strict=False))
    unnamed = [value for value in present if value not in named]
    if unnamed:
        given = ",".join(f"{value}={name}" for value, name in sorted(named.items()))
        raise InputError(
            f"labels: expected the values {_list(sorted(named))} besides the background 0, came also {_list(unnamed)} "
            f"({_where(unnamed, found)}): name all classes, as in --classes "
            f"{','.join(filter(None, [given, *(f'{value}=NAME' for value in unnamed)]))}"
        )
    order = sorted(named)
    values = {value: index for index, value in enumerate([0, *order])}
    moved = any(old != new for old, new in values.items())
    return Classes(("background", *(named[value] for value in order)), values if moved else {})


def _named(asked: Sequence[str]) -> dict[int, str] | None:
    """Names by value where they are given so; None where only names are."""
    pairs = [name.partition("=") for name in asked]
    problems = [f"--classes: expected names, came an empty one in {','.join(asked)!r}: correct it"] * any(
        not (name if mark else value).strip() for value, mark, name in pairs
    )
    names = [(name if mark else value).strip() for value, mark, name in pairs]
    if len(set(names)) < len(names) or "background" in names:
        problems.append(
            f"--classes: expected different names, without the background, came {', '.join(names)}: correct them"
        )
    marks = [bool(mark) for _, mark, _ in pairs]
    if any(marks) and not (all(marks) and all(value.strip().isdigit() and int(value) for value, _, _ in pairs)):
        problems.append(
            f"--classes: expected NAME,NAME or VALUE=NAME,VALUE=NAME with whole values above 0, came "
            f"{','.join(asked)!r}: correct it"
        )
    if problems:
        raise InputError(*problems)
    return {int(value): name.strip() for value, _, name in pairs} if any(marks) else None


def _where(values: Sequence[int], found: Mapping[Path, Mapping[int, int]]) -> str:
    files = [path for path, counts in found.items() if any(value in counts for value in values)]
    return f"{len(files)} file(s), such as {', '.join(path.name for path in files[:_SHOWN])}"


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values)) or "none"
