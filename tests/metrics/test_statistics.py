from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from semiseg.metrics.statistics import adjust, compare_paired, mean_interval, over_patients, over_runs, spread


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
    assert found.patients == 2
    assert found.difference.mean == pytest.approx(0.75)
    assert math.isnan(found.p)


def test_a_method_compared_with_itself() -> None:
    same = cases(np.arange(10.0))
    found = compare_paired(same, same)
    assert (found.p, found.difference.low, found.difference.high) == (1.0, 0.0, 0.0)


def test_too_few_values_have_no_interval() -> None:
    assert math.isnan(mean_interval(np.array([1.0, np.nan])).low)
    assert math.isnan(mean_interval(np.array([])).mean)


def test_the_interval_of_symmetric_scores_is_that_of_student() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    found = mean_interval(values)
    assert (found.mean, found.low, found.high) == pytest.approx((3.0, low, high))
    assert found == mean_interval(values)


def test_the_interval_of_skewed_scores_solves_halls_equation() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=30)
    found, n, g = mean_interval(values), 30, stats.skew(values)
    for bound, quantile in ((found.low, 0.975), (found.high, 0.025)):
        u = (values.mean() - bound) / values.std(ddof=1)
        left = u + g * u**2 / 3 + g**2 * u**3 / 27 + g / (6 * n)
        assert left == pytest.approx(stats.t.ppf(quantile, n - 1) / math.sqrt(n))
    assert found.high - found.mean > found.mean - found.low  # the long tail is above


def test_intervals_of_thirty_patients_cover_the_true_mean_of_skewed_scores() -> None:
    rng = np.random.default_rng(1)
    found = [mean_interval(rng.beta(8, 2, size=30)) for _ in range(600)]
    assert 0.93 <= np.mean([interval.low <= 0.8 <= interval.high for interval in found]) <= 0.98


def scans(rng: np.random.Generator, patients: int, each: int, correlation: float, skewed: bool) -> np.ndarray:
    """Scores `[patients, each]` with mean 0, alike within a patient."""
    own = rng.normal(size=(patients, 1)) * math.sqrt(correlation)
    normal = own + rng.normal(size=(patients, each)) * math.sqrt(1 - correlation)
    return stats.beta.ppf(stats.norm.cdf(normal), 8, 2) - 0.8 if skewed else normal


def cohort(values: np.ndarray) -> tuple[dict[str, float], dict[str, str]]:
    """Scores by case, and the patient of each case."""
    names = {f"{i}_{j}": f"{i}" for i in range(len(values)) for j in range(values.shape[1])}
    return dict(zip(names, values.ravel().tolist(), strict=True)), names


@pytest.mark.parametrize(
    ("patients", "each", "correlation", "skewed"), [(20, 2, 0.8, False), (20, 2, 0.5, True), (10, 4, 0.6, True)]
)
def test_correlated_scans_are_covered_and_called_different_as_often_as_is_said(
    patients: int, each: int, correlation: float, skewed: bool
) -> None:
    """Scans of a patient are alike: 95 % intervals of the mean, and tests at 5 % where nothing differs."""
    rng = np.random.default_rng(4)
    covered, rejected, by_t = [], [], []
    for _ in range(400):
        found, names = cohort(scans(rng, patients, each, correlation, skewed))
        interval = mean_interval(np.array(list(over_patients(found, names).values())))
        covered.append(interval.low <= 0 <= interval.high)
        other, _ = cohort(scans(rng, patients, each, correlation, skewed))
        rejected.append(compare_paired(found, other, patients=names).p < 0.05)
        by_t.append(compare_paired(found, other, "t", patients=names).p < 0.05)
    assert np.mean(covered) >= 0.93
    assert 0.03 <= np.mean(rejected) <= 0.07
    assert 0.03 <= np.mean(by_t) <= 0.07


def test_cases_for_patients_would_be_called_different_far_too_often() -> None:
    """What the test above rests on: without the patients' names the same scans give several times as many alarms."""
    rng = np.random.default_rng(4)
    cohorts = [cohort(scans(rng, 10, 4, 0.6, skewed=False))[0] for _ in range(200)]
    assert np.mean([compare_paired(found, dict.fromkeys(found, 0.0)).p < 0.05 for found in cohorts]) > 0.15


def test_scans_of_a_patient_count_as_one() -> None:
    names = {"a1": "a", "a2": "a", "b1": "b"}
    assert over_patients({"a1": 1.0, "a2": 3.0, "b1": 5.0, "c1": 7.0}, names) == {"a": 2.0, "b": 5.0, "c1": 7.0}
    assert over_patients({"a1": math.nan, "a2": 3.0}, names) == {"a": 3.0}
    found = compare_paired({"a1": 1.0, "a2": 3.0, "b1": 5.0}, {"a1": 0.0, "a2": math.nan, "b1": 2.0}, patients=names)
    assert (found.patients, found.difference.mean) == (2, pytest.approx((1.0 + 3.0) / 2))


def test_t_tests_equal_scipy_on_either_side() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(2, 12)) + np.array([[0.3], [0.0]])
    method, control = cases(a), cases(b)
    assert compare_paired(method, control, "t").p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    better = stats.ttest_rel(a, b, alternative="greater").pvalue
    assert compare_paired(method, control, "t-one-sided").p == pytest.approx(better)
    found = compare_paired(method, control, "t-one-sided", higher_is_better=False)
    assert found.p == pytest.approx(stats.ttest_rel(a, b, alternative="less").pvalue)


def test_t_tests_of_equal_differences_and_of_too_few() -> None:
    assert compare_paired(cases([2, 3, 4]), cases([1, 2, 3]), "t-one-sided").p == 0.0
    assert compare_paired(cases([1, 2, 3]), cases([2, 3, 4]), "t-one-sided").p == 1.0
    assert compare_paired(cases([1, 2, 3]), cases([1, 2, 3]), "t").p == 1.0
    assert math.isnan(compare_paired(cases([1]), cases([2]), "t").p)


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
