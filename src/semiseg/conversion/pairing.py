"""Which label belongs to which scan, by their names; what is not certain is an error."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from semiseg.conversion.names import Key, Named, tokens
from semiseg.errors import InputError

T = TypeVar("T")

_SHOWN = 4
_REMEDY = "rename it, or tell where the case is in the paths with --pattern, as in --pattern '(case\\d+)'"


def match_labels(cases: Sequence[Key], labels: Sequence[Named]) -> tuple[dict[Key, Path], list[str]]:
    """The label of each case that has one, and what is wrong.

    A label belongs to the case of the same name, but for case, separators and words such as `seg` or `image`. Where
    there is none, it belongs to the case with most name parts in common, if all parts that tell the cases apart (or all
    that tell the labels apart) are among them, and no other case has as many.

    Returns:
        Label file by case where there is one, and a problem for each label that belongs to none or to several, and each
        case with several.
    """
    case_parts = _distinct({case: tokens(case) for case in cases})
    label_parts = _distinct({label: tokens(label.parts) for label in labels})
    held: dict[Key, list[Path]] = defaultdict(list)
    problems = []
    for label in labels:
        found = _candidates(tokens(label.parts), label_parts[label], cases, case_parts)
        if len(found) == 1:
            held[found[0]].append(label.path)
        elif found:
            names = _some("/".join(case) for case in found)
            problems.append(f"{label.path}: expected one image that belongs to it, came {names}: {_REMEDY}")
        else:
            problems.append(
                f"{label.path}: expected an image that belongs to it, found none among "
                f"{_some('/'.join(case) for case in cases)}: add the image, remove the label, {_REMEDY}"
            )
    problems += [
        f"case {'/'.join(case)}: expected one label, came {_some(map(str, paths))}: keep one of them"
        for case, paths in held.items()
        if len(paths) > 1
    ]
    return {case: paths[0] for case, paths in held.items() if len(paths) == 1}, problems


def by_pattern(items: Sequence[Named], pattern: str) -> list[Named]:
    """Items with the case, which the first group of `pattern` finds in their paths, in place of their folders.

    Raises:
        InputError: the pattern is no regular expression or has no group, or does not find a case in all paths.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"--pattern {pattern!r}: expected a regular expression, came none ({error}): correct it"
        ) from None
    if compiled.groups < 1:
        raise InputError(f"--pattern {pattern!r}: expected a group for the case, as in '(case\\d+)': add brackets")
    found, problems = [], []
    for item in items:
        match = compiled.search("/".join(item.parts))
        if match and match[1]:
            found.append(Named(item.path, (match[1], item.parts[-1])))
        else:
            problems.append(f"{item.path}: --pattern {pattern!r} finds no case in it: widen the pattern")
    if problems:
        raise InputError(*problems)
    return found


def _candidates(
    whole: Counter[str], told: Counter[str], cases: Sequence[Key], parts: Mapping[Key, Counter[str]]
) -> list[Key]:
    same = [case for case in cases if tokens(case) == whole]
    if same:
        return same
    fitting = [case for case in cases if _fits(told, parts[case])]
    fitting = fitting or [case for case in cases if _within(parts[case], whole) or _within(told, tokens(case))]
    scores = {case: (whole & tokens(case)).total() for case in fitting}
    best = max(scores.values(), default=0)
    return [case for case, score in scores.items() if score == best]


def _fits(label: Counter[str], case: Counter[str]) -> bool:
    return _within(label, case) or _within(case, label)


def _within(some: Counter[str], others: Counter[str]) -> bool:
    return bool(some) and some <= others


def _distinct(items: Mapping[T, Counter[str]]) -> dict[T, Counter[str]]:
    """What is left of each when that which all have in common is taken away."""
    if len(items) < 2:
        return dict(items)
    common: Counter[str] | None = None
    for item in items.values():
        common = item.copy() if common is None else common & item
    assert common is not None
    return {key: item - common for key, item in items.items()}


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    rest = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + rest
