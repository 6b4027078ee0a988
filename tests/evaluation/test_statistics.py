from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from semiseg.evaluation.statistics import adjust, compare_paired, mean_interval, over_runs, spread


def cases(values: object) -> dict[str, float]:
    return {f"case{i}": float(v) for i, v in enumerate(np.asarray(values))}


def test_holm_by_hand() -> None:
    adjusted = adjust({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_holm_counts_only_tests_that_were_made() -> None:
    adjusted = adjust({"a": 0.02, "b": math.nan, "c": 0.9})
    assert adjusted["a"] == pytest.approx(0.04)
    assert math.isnan(adjusted["b"])
    assert adjusted["c"] == pytest.approx(0.9)


def test_signed_rank_by_hand() -> None:
    """Six differences of one sign: of the 2^6 equally likely sign patterns, two are as extreme."""
    found = compare_paired(cases([2, 4, 6, 8, 10, 12]), cases([1, 2, 3, 4, 5, 6]))
    assert found.p == pytest.approx(2 / 64)
    assert found.difference.mean == pytest.approx(3.5)


def test_signed_rank_equals_scipy_on_noise() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 25))
    assert compare_paired(cases(a), cases(b)).p == pytest.approx(stats.wilcoxon(a, b).pvalue)


def test_cases_without_a_number_or_a_partner_are_left_out() -> None:
    method = {"a": 1.0, "b": math.nan, "c": 3.0, "only here": 9.0}
    found = compare_paired(method, {"a": 0.5, "b": 1.0, "c": 2.0, "only there": 0.0})
    assert found.cases == 2
    assert found.difference.mean == pytest.approx(0.75)
    assert math.isnan(found.p)


def test_a_method_compared_with_itself() -> None:
    same = cases(np.arange(10.0))
    found = compare_paired(same, same)
    assert (found.p, found.difference.low, found.difference.high) == (1.0, 0.0, 0.0)


def test_too_few_values_have_no_interval() -> None:
    assert math.isnan(mean_interval(np.array([1.0, np.nan])).low)
    assert math.isnan(mean_interval(np.array([])).mean)


def test_interval_is_reproducible_and_equals_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=30)
    found = mean_interval(values)
    assert found == mean_interval(values)
    other = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=np.random.default_rng(9)).confidence_interval
    assert found.low == pytest.approx(other.low, abs=0.03)
    assert found.high == pytest.approx(other.high, abs=0.03)


def test_intervals_cover_the_true_mean_as_often_as_they_say() -> None:
    """Skewed scores of 30 cases: 95 % intervals miss the mean in about one of twenty cohorts."""
    rng = np.random.default_rng(1)
    found = [mean_interval(rng.beta(8, 2, size=30), resamples=500, seed=i) for i in range(300)]
    covered = np.mean([interval.low <= 0.8 <= interval.high for interval in found])
    assert 0.90 <= covered <= 0.98


def test_tests_without_an_effect_reject_as_seldom_as_they_say() -> None:
    rng = np.random.default_rng(2)
    rejected = [compare_paired(cases(a), cases(b)).p < 0.05 for a, b in rng.normal(size=(200, 2, 20))]
    assert 0.01 <= np.mean(rejected) <= 0.10


def test_spread_is_that_of_a_sample() -> None:
    found = spread([1.0, 2.0, 6.0, math.nan])
    assert (found.mean, found.std) == pytest.approx((3.0, np.std([1, 2, 6], ddof=1)))
    assert math.isnan(spread([1.0]).std)
    assert math.isnan(spread([]).mean)


def test_cases_are_averaged_over_the_trainings_that_scored_them() -> None:
    runs = [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": math.nan}, {"c": math.nan}]
    found = over_runs(runs)
    assert (found["a"], found["b"]) == (2.0, 2.0)
    assert math.isnan(found["c"])


def test_holm_keeps_the_chance_of_any_false_alarm_below_its_level() -> None:
    """Five methods that are all like the control: one or more is called different in about 5 % of the comparisons."""
    rng = np.random.default_rng(5)
    alarms = []
    for _ in range(200):
        control, *methods = rng.normal(size=(6, 12))
        found = {str(i): compare_paired(cases(m), cases(control)).p for i, m in enumerate(methods)}
        alarms.append(min(adjust(found).values()) < 0.05)
    assert np.mean(alarms) <= 0.09
