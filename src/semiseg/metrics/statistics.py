"""Is a difference real? Intervals of means and paired tests over patients.

The unit is the patient: scans of one patient are alike, so tests that take them for independent call differences real
far too often. Scores of a case are averaged over the trainings first (`over_runs`), then over the scans of a patient
(`over_patients`). What is said here therefore holds for other patients; how much a training's seed matters is the
spread over seeds, which is shown beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy import stats

Array = np.ndarray[Any, np.dtype[np.float64]]
PairedTest = Literal["wilcoxon", "t", "t-one-sided"]
PAIRED_TESTS: tuple[PairedTest, ...] = get_args(PairedTest)

FEWEST = 6
"""Below six pairs a two-sided signed-rank test cannot reach p < 0.05."""

_SYMMETRIC = 1e-6
"""Skewness below which the correction for it is rounding error."""


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds that hold it with 95 % confidence; bounds are NaN where fewer than two values exist."""

    mean: float
    low: float
    high: float


def mean_interval(values: Array) -> Interval:
    """Mean of `values` `[patients]` with the 95 % interval of Student's t, corrected for skewness; NaNs are left out.

    With deviation s, skewness g and y a quantile of t, a bound is mean - s u, where
    u + g u^2 / 3 + g^2 u^3 / 27 + g / (6 n) = y / sqrt(n). Percentiles of a bootstrap hold the
    mean of ten or twenty patients in 87 to 93 % only; this one in about 95 %, also for scores that pile up below 1.

    Source: Hall, On the removal of skewness by transformation, J. R. Statist. Soc. B 54, 1992, with quantiles of t.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    count = len(known)
    if count < 2:
        return Interval(float(known.mean()) if count else math.nan, math.nan, math.nan)
    mean = float(known.mean())
    if np.ptp(known) == 0:
        return Interval(mean, mean, mean)
    deviation, skewness = float(known.std(ddof=1)), float(stats.skew(known))
    reach = float(stats.t.ppf(0.975, count - 1)) / math.sqrt(count)
    low, high = (mean - deviation * _straightened(side, skewness, count) for side in (reach, -reach))
    return Interval(mean, low, high)


def _straightened(reach: float, skewness: float, count: int) -> float:
    """The u of `mean_interval` for y / sqrt(n) = `reach`."""
    if abs(skewness) < _SYMMETRIC:
        return reach
    return float(np.cbrt(1 + skewness * (reach - skewness / (6 * count))) - 1) * 3 / skewness


@dataclass(frozen=True)
class Comparison:
    """A method against its control on the same patients.

    Attributes:
        difference: mean of method minus control over the patients that both have, with its interval.
        patients: number of these patients.
        p: of the paired test; NaN where there are too few. `adjust` corrects it for several methods.
    """

    difference: Interval
    patients: int
    p: float


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (NaN below two values) over repeated trainings."""

    mean: float
    std: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of one number per training, such as a mean Dice per seed; NaNs are left out."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Spread(math.nan, math.nan)
    return Spread(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else math.nan)


def over_runs(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Score of each case, averaged over the trainings that have a number for it; NaN where none has."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for case, value in run.items():
            found.setdefault(case, []).append(value)
    return {case: spread(values).mean for case, values in found.items()}


def over_patients(cases: Mapping[str, float], patients: Mapping[str, str]) -> dict[str, float]:
    """Score of each patient, averaged over the scans that have a number; a case that `patients` lacks is a patient."""
    found: dict[str, list[float]] = {}
    for case, value in cases.items():
        found.setdefault(patients.get(case, case), []).append(value)
    return {patient: spread(values).mean for patient, values in found.items()}


def compare_paired(
    method: Mapping[str, float],
    control: Mapping[str, float],
    test: PairedTest = "wilcoxon",
    *,
    patients: Mapping[str, str] | None = None,
    higher_is_better: bool = True,
) -> Comparison:
    """Compare scores on the same cases; cases that one side lacks, or has no number for, are left out.

    Differences are averaged over the scans of a patient before anything is asked of them.

    Args:
        method: score by case.
        control: the same of the control.
        test: `wilcoxon`, the two-sided signed-rank test, from six patients on (zero differences are ranked and their
            ranks split between both signs, so that ties with the control do not look like evidence); `t`, the two-sided
            paired t-test; `t-one-sided`, the same against the method being no better, from two patients on.
        patients: patient by case; a case that it lacks is a patient of its own.
        higher_is_better: the side of the one-sided test; False for distances.

    Source: Wilcoxon, Individual comparisons by ranking methods, 1945; Student, The probable error of a mean, 1908.
    """
    by_case = {case: method[case] - control[case] for case in method if case in control}
    differences = np.array(list(over_patients(by_case, patients or {}).values()), np.float64)
    differences = differences[~np.isnan(differences)]
    p = _signed_rank(differences) if test == "wilcoxon" else _t_test(differences, test, higher_is_better)
    return Comparison(mean_interval(differences), len(differences), p)


def adjust(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction for as many tests as have a p value; NaN stays NaN.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    known = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    adjusted, largest = dict.fromkeys(p_values, math.nan), 0.0
    for rank, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[name] = largest
    return adjusted


def _signed_rank(differences: Array) -> float:
    if len(differences) < FEWEST:
        return math.nan
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="zsplit").pvalue)


def _t_test(differences: Array, test: PairedTest, higher_is_better: bool) -> float:
    if len(differences) < 2:
        return math.nan
    if not differences.any():
        return 1.0
    with np.errstate(divide="ignore"):  # equal differences: an infinite t, and the p of that
        t = differences.mean() / (differences.std(ddof=1) / math.sqrt(len(differences)))
    if test == "t-one-sided":
        return float(stats.t.sf(t if higher_is_better else -t, len(differences) - 1))
    return float(2 * stats.t.sf(abs(t), len(differences) - 1))
