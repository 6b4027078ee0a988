"""Rules for what metrics say where a mask is empty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from semiseg.errors import InputError, did_you_mean

EmptyRule = Literal["official", "nan", "diagonal", "dhc"]

EMPTY_RULES: Mapping[EmptyRule, str] = MappingProxyType(
    {
        "official": "any mask empty: every metric is 0, as the papers' code has it (this lowers mean distances)",
        "nan": "one mask empty: Dice and Jaccard 0, distances undefined; both empty: all undefined (skipped in means)",
        "diagonal": "one mask empty: Dice and Jaccard 0, distances the diagonal of the whole volume; "
        "both empty: all undefined (skipped in means)",
        "dhc": "one mask empty: Dice and Jaccard 0, distances 128; both empty: Dice and Jaccard 0.01, distances 0 "
        "(as DHC's code for AMOS and Synapse has it)",
    }
)


@dataclass(frozen=True)
class EmptyPair:
    """Two masks of which at least one has no voxel.

    Attributes:
        rule: how they are scored.
        both: whether neither has a voxel.
        shape, spacing: of the whole volume, in voxels and mm.
    """

    rule: EmptyRule
    both: bool
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    def diagonal(self, unit: str) -> float:
        """Diagonal of the volume in `mm` or voxels."""
        return math.hypot(*(np.multiply(self.shape, self.spacing) if unit == "mm" else self.shape))


def check_empty_rule(empty: str) -> None:
    """Refuse an unknown rule for empty masks with an `InputError`."""
    if empty not in get_args(EmptyRule):
        raise InputError(f"unknown rule for empty masks {empty!r}: {did_you_mean(empty, get_args(EmptyRule))}")
