"""The contract of a metric, and the metrics that there are.

A metric is a class in a file of this package, which is found by itself: scores, tables, reports, comparisons and the
documentation show it without a word about it elsewhere.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from inspect import isabstract
from types import MappingProxyType
from typing import ClassVar

from semiseg.metrics.empty import EmptyPair
from semiseg.metrics.masks import MaskPair
from semiseg.metrics.surfaces import SurfaceDistances
from semiseg.system.discovery import modules_of

_DHC_ONE_EMPTY = 128.0
_DHC_BOTH_EMPTY = 0.01  # its script writes 1 where full marks are 100


class Metric(ABC):
    """A number, or one for each of several units, that says how alike a prediction P and a truth T are.

    Attributes:
        name: in files; with the unit behind it where there are several, as in `hd95_mm`.
        label: in tables, as the papers of the field write it.
        definition: with P and T, in words or as a formula.
        meaning: in words for readers of a report; "" where the definition will do.
        units: `%` (a share in files, percent in tables), `mm`, `voxel`, or another.
        higher_is_better: direction, for tests and colours.
        in_tables: whether tables for people show it; files do in any case.
        position: metrics stand in this order, then by name.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    definition: ClassVar[str]
    meaning: ClassVar[str] = ""
    units: ClassVar[tuple[str, ...]]
    higher_is_better: ClassVar[bool]
    in_tables: ClassVar[bool] = True
    position: ClassVar[int] = 100

    @abstractmethod
    def values(self, pair: MaskPair) -> tuple[float, ...]:
        """The metric in each of `units`; neither mask is empty."""

    @abstractmethod
    def empty(self, pair: EmptyPair) -> tuple[float, ...]:
        """The same where a mask is empty, by the rule of `pair`; NaN where it is undefined."""


class Overlap(Metric):
    """A share of voxels: 1 is perfect, and 0 where one mask is empty."""

    units = ("%",)
    higher_is_better = True

    @abstractmethod
    def value(self, pair: MaskPair) -> float:
        """Between 0 and 1; at least one mask is not empty."""

    def values(self, pair: MaskPair) -> tuple[float, ...]:
        return (self.value(pair),)

    def empty(self, pair: EmptyPair) -> tuple[float, ...]:
        if not pair.both or pair.rule == "official":
            return (0.0,)
        return (_DHC_BOTH_EMPTY if pair.rule == "dhc" else math.nan,)


class Distance(Metric):
    """A distance between the two surfaces; in other units it is another multiple of the same."""

    units = ("mm", "voxel")
    higher_is_better = False

    @abstractmethod
    def value(self, distances: SurfaceDistances) -> float:
        """The distance, in the unit of `distances`."""

    def values(self, pair: MaskPair) -> tuple[float, ...]:
        voxel = self.value(pair.voxel)
        return (voxel * pair.spacing[0] if pair.isotropic else self.value(pair.mm)), voxel

    def empty(self, pair: EmptyPair) -> tuple[float, ...]:
        return tuple(self._empty(pair, unit) for unit in self.units)

    def _empty(self, pair: EmptyPair, unit: str) -> float:
        if pair.rule == "official":
            return 0.0
        if pair.rule == "dhc":
            return 0.0 if pair.both else _DHC_ONE_EMPTY
        return math.nan if pair.both or pair.rule == "nan" else pair.diagonal(unit)


@dataclass(frozen=True)
class Column:
    """A metric in one of its units: a column of files and tables."""

    metric: Metric
    unit: str

    @property
    def name(self) -> str:
        """In files: `dice`, `hd95_mm`."""
        return f"{self.metric.name}_{self.unit}" if len(self.metric.units) > 1 else self.metric.name

    @property
    def heading(self) -> str:
        """In tables: `Dice %`, `95HD mm`."""
        return f"{self.metric.label} {self.unit}".strip()

    @property
    def factor(self) -> float:
        """From files to tables."""
        return 100.0 if self.unit == "%" else 1.0


@cache
def metrics() -> tuple[Metric, ...]:
    """An object of every metric that a file of this package defines."""
    classes = [
        found
        for module in modules_of("semiseg.metrics")
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Metric) and found.__module__ == module.__name__
    ]
    return tuple(sorted((found() for found in classes if not isabstract(found)), key=lambda m: (m.position, m.name)))


@cache
def columns() -> Mapping[str, Column]:
    """The columns of files by name, in order."""
    found = [Column(metric, unit) for metric in metrics() for unit in metric.units]
    return MappingProxyType({column.name: column for column in found})


def shown_columns(unit: str = "both") -> list[Column]:
    """The columns of tables, those in voxels last; `mm` or `voxel` leaves the distances in the other unit out."""
    found = [column for column in columns().values() if column.metric.in_tables]
    other = {"mm": "voxel", "voxel": "mm"}.get(unit)
    return sorted((column for column in found if column.unit != other), key=lambda column: column.unit == "voxel")
