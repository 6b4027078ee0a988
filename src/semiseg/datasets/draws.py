"""Which whole patients play which role: a random draw that covers every class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_ATTEMPTS = 200


@dataclass(frozen=True)
class Group:
    """Labelled cases that must stay together (those of one patient), and the foreground classes that they hold."""

    name: str
    cases: tuple[str, ...]
    classes: frozenset[int]

    @property
    def size(self) -> int:
        """Number of cases."""
        return len(self.cases)


@dataclass(frozen=True)
class Wanted:
    """Numbers of cases to draw."""

    labelled: int
    validation: int
    test: int

    def __str__(self) -> str:
        return f"{self.labelled} labelled, {self.validation} validation and {self.test} test case(s)"


@dataclass(frozen=True)
class Drawn:
    """Groups by role; the others are unlabelled."""

    labelled: tuple[Group, ...]
    validation: tuple[Group, ...]
    test: tuple[Group, ...]


def draw_groups(groups: Sequence[Group], classes: Mapping[int, str], wanted: Wanted, seed: int) -> Drawn | str:
    """A random draw of the `wanted` numbers with all `classes` (names by index) labelled; else why there is none.

    A few patients that hold every class are set aside first and will be labelled; test, validation and the other
    labelled patients follow in random order. So test and validation do not depend on the number of labelled cases,
    and more labelled cases of the same seed include the fewer ones, wherever the first attempt succeeds and patients
    have one labelled scan each.
    """
    smallest: int | None = None
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng((seed, attempt))
        order = [groups[index] for index in rng.permutation(len(groups))]
        cover = _cover(order, classes.keys())
        size = sum(group.size for group in cover)
        smallest = size if smallest is None else min(smallest, size)
        drawn = _fill(order, cover, wanted) if size <= wanted.labelled else None
        if drawn is not None:
            return drawn
    if smallest is not None and smallest > wanted.labelled:
        return (
            f"expected labelled cases that hold every class, came too few: {wanted.labelled} case(s) were "
            f"asked for, the smallest set of whole patients that was found has {smallest} "
            f"({_rarest(groups, classes)}): ask for {smallest} or more"
        )
    sizes = Counter(group.size for group in groups)
    listed = ", ".join(f"{count} with {size}" for size, count in sorted(sizes.items()))
    return (
        f"expected numbers that whole patients add up to and that leave every class to the labelled cases, came "
        f"{wanted}: choose others (patients by their number of labelled scans: {listed})"
    )


def _rarest(groups: Sequence[Group], classes: Mapping[int, str]) -> str:
    held = {index: sum(index in group.classes for group in groups) for index in classes}
    index = min(held, key=lambda key: held[key])
    return f"class {index}, {classes[index]}, is in {held[index]} of {len(groups)} patients"


def _cover(order: Sequence[Group], classes: Collection[int]) -> list[Group]:
    """For the rarest class that is still missing, the first group that holds it; until none is missing."""
    holders = Counter(index for group in order for index in group.classes)
    missing = set(classes)
    chosen: list[Group] = []
    while missing:
        rarest = min(missing, key=lambda index: (holders[index], index))
        group = next(group for group in order if rarest in group.classes)
        chosen.append(group)
        missing -= group.classes
    return chosen


def _fill(order: Sequence[Group], cover: Sequence[Group], wanted: Wanted) -> Drawn | None:
    rest = [group for group in order if group not in cover]
    roles = []
    for count in (wanted.test, wanted.validation, wanted.labelled - sum(group.size for group in cover)):
        taken = _take(rest, count)
        if taken is None:
            return None
        rest = [group for group in rest if group not in taken]
        roles.append(taken)
    test, validation, labelled = roles
    return Drawn((*cover, *labelled), tuple(validation), tuple(test))


def _take(order: Sequence[Group], count: int) -> list[Group] | None:
    """Groups with exactly `count` cases, early ones in `order` preferred; None when no choice adds up.

    The sums that the groups from each position on can reach are the set bits of one integer.
    """
    reachable = [1]
    for group in reversed(order):
        reachable.append(reachable[-1] | reachable[-1] << group.size)
    taken: list[Group] = []
    for group, later in zip(order, reachable[-2::-1], strict=True):
        if group.size <= count and later >> (count - group.size) & 1:
            taken.append(group)
            count -= group.size
    return taken if count == 0 else None


def absent(groups: Sequence[Group], classes: Collection[int]) -> Iterator[int]:
    """Those of `classes` that no group holds."""
    held = frozenset[int]().union(*(group.classes for group in groups))
    yield from (index for index in classes if index not in held)
