"""Densities of features of labelled and of unlabelled scans."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.integrate import trapezoid
from scipy.stats import norm

import semiseg
from semiseg.evaluation.feature_density import POINTS, feature_density
from semiseg.prediction.feature_sample import COUNT, FeatureSample
from tiny import tiny_dataset


def _vectors(mean: float, count: int = 4000, seed: int = 0) -> np.ndarray:
    """Features that vary most along their second channel."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.normal(0, 0.1, count), rng.normal(mean, 1.0, count), rng.normal(0, 0.1, count)], 1)


def test_densities_of_normal_features_are_theirs():
    found = feature_density("dec2", _vectors(0.0), _vectors(2.0, seed=1))
    assert found is not None
    # Two unit normals at a distance of 2 have a variance of 2 in all, and twice the tail beyond 1 in common.
    assert found.overlap == pytest.approx(2 * norm.sf(1), abs=0.03)
    for values, centre in ((found.labelled, -1), (found.unlabelled, 1)):
        wanted = norm.pdf(np.array(found.position), centre / math.sqrt(2), 1 / math.sqrt(2))
        np.testing.assert_allclose(values, wanted, atol=0.05)
        assert trapezoid(values, found.position) == pytest.approx(1, abs=0.01)
    assert found.counts == (4000, 4000)


def test_equal_features_overlap_and_distant_ones_do_not():
    same, apart = (feature_density("d", _vectors(0), _vectors(mean, seed=1)) for mean in (0.0, 30.0))
    assert same is not None
    assert apart is not None
    assert same.overlap > 0.95
    assert apart.overlap < 0.01


@pytest.mark.parametrize(("one", "two"), [(np.zeros((0, 0)), np.ones((9, 2))), (np.ones((9, 2)), np.ones((9, 2)))])
def test_nothing_is_told_of_too_few_or_constant_features(one, two):
    assert feature_density("d", one, two) is None


def test_a_sample_holds_rightly_labelled_foreground_of_all_windows_alike():
    """Features tell their own place; all windows have the same share."""
    sample = FeatureSample(count=500)
    labels = torch.tensor([0, 1, 1, 2]).repeat(1, 250)[None]  # [1, 1, 1000]: a quarter of each
    predicted = torch.tensor([1, 1, 0, 2]).repeat(250)
    logits = torch.nn.functional.one_hot(predicted, 3).T.reshape(1, 3, 1, 1000).float()
    for window in range(10):
        place = torch.arange(1000.0).reshape(1, 1, 1, 1000) % 4
        sample.add(torch.cat([place, torch.full_like(place, window)], 1), logits, labels)
    assert sample.vectors.shape == (500, 2)
    assert set(sample.vectors[:, 0].tolist()) == {1.0, 3.0}
    counts = sample.vectors[:, 1].int().bincount(minlength=10)
    assert 25 < counts.min() <= counts.max() < 80
    few = FeatureSample(count=500)
    few.add(torch.zeros(1, 2, 1, 4), logits[..., :4], labels[..., :4])
    assert few.vectors.shape == (2, 2)


def test_a_run_has_a_picture_and_a_table(tmp_path: Path):
    data = tiny_dataset(tmp_path / "data", cases=5, labelled=4, shape=(12, 10, 8))
    settings = {"batch": {"patch": [8, 8, 8]}, "network": {"options": {"filters": [4, 8]}}, "optimiser": {"lr": 0.02}}
    run = semiseg.train(
        data, tmp_path / "run", method="cps", labelled=2, test=1, steps=40, accelerator="cpu", **settings
    )
    found = semiseg.matching(run.path, accelerator="cpu")
    density = found.density
    assert density is not None
    assert density.tap == found.levels[-1].tap
    assert 0 < min(density.counts) <= max(density.counts) <= COUNT
    assert 0 < density.overlap <= 1.001
    with (run.path / "features.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == POINTS
    assert [float(row["unlabelled"]) for row in rows] == list(density.unlabelled)
    with Image.open(run.path / "features.png") as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.array(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    assert json.loads((run.path / "matching.json").read_text())["density_overlap"] == density.overlap
    assert f"overlap {density.overlap:.3f}" in found.table()
