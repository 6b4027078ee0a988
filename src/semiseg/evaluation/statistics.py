"""Is a difference real? Intervals of means and paired tests over cases.

The unit is the case: where a method was trained with several seeds, the scores of a case are averaged over them first.
What is said here therefore holds for other cases; how much a training's seed matters is the spread over seeds, which is
shown beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Array = np.ndarray[Any, np.dtype[np.float64]]

_FEWEST = 6
"""Below six pairs a two-sided signed-rank test cannot reach p < 0.05."""


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds that hold it with 95 % confidence; bounds are NaN where fewer than two values exist."""

    mean: float
    low: float
    high: float


def mean_interval(values: Array, *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of `values` `[cases]` with its bias-corrected and accelerated bootstrap interval; NaNs are left out.

    Source: Efron, Better bootstrap confidence intervals, JASA 1987; `scipy.stats.bootstrap`.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return Interval(float(known.mean()) if len(known) else math.nan, math.nan, math.nan)
    mean = float(known.mean())
    if np.ptp(known) == 0:
        return Interval(mean, mean, mean)
    found = stats.bootstrap(
        (known,), np.mean, n_resamples=resamples, rng=np.random.default_rng(seed), method="BCa"
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


@dataclass(frozen=True)
class Comparison:
    """A method against its control on the same cases.

    Attributes:
        difference: mean of method minus control over the cases that both have, with its interval.
        cases: number of these cases.
        p: of Wilcoxon's two-sided signed-rank test; NaN below six cases. `adjust` corrects it for several methods.
    """

    difference: Interval
    cases: int
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


def compare_paired(method: Mapping[str, float], control: Mapping[str, float]) -> Comparison:
    """Compare scores by case; cases that one side lacks, or has no number for, are left out.

    Source: Wilcoxon, Individual comparisons by ranking methods, 1945; zero differences are ranked and
    their ranks split between both signs, so that ties with the control do not look like evidence.
    """
    shared = [case for case in method if case in control]
    differences = np.array([method[case] - control[case] for case in shared], np.float64)
    differences = differences[~np.isnan(differences)]
    return Comparison(mean_interval(differences), len(differences), _signed_rank(differences))


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
    if len(differences) < _FEWEST:
        return math.nan
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="zsplit").pvalue)
