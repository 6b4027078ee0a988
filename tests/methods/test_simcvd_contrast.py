"""The contrasts of SimCVD, of which there is no official code, against direct loops."""

from __future__ import annotations

import math

import pytest
import torch

from semiseg.errors import InputError
from semiseg.methods.base import Task, entry
from semiseg.methods.simcvd.contrast import CELLS, SliceProjection, in_cells, info_nce, patch_vectors, similarity_mse
from semiseg.networks import build_network


def vectors(count: int, width: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_info_nce_is_the_double_loop(temperature: float) -> None:
    t, s = vectors(7, 5, 0), vectors(7, 5, 1)
    slow = 0.0
    for i in range(7):
        terms = [math.exp(float(t[i] @ s[j]) / temperature) for j in range(7)]
        slow -= math.log(terms[i] / sum(terms)) / 7
    assert info_nce(t, s, temperature).item() == pytest.approx(slow, rel=1e-12)


def test_similarities_are_compared_pair_by_pair() -> None:
    t, s = vectors(6, 4, 0), vectors(6, 4, 1)
    slow = sum(float(s[i] @ s[j] - t[i] @ t[j]) ** 2 for i in range(6) for j in range(6)) / 36
    assert similarity_mse(t, s).item() == pytest.approx(slow, rel=1e-12)


@pytest.mark.parametrize("side", [1, 3, 8, 11, 16])
def test_cells_are_means_of_whole_voxels(side: int) -> None:
    values = torch.randn(2, side, 3, dtype=torch.float64)
    found = in_cells(values, 1)
    assert found.shape == (2, CELLS, 3)
    for k in range(CELLS):
        start, stop = math.floor(k * side / CELLS), math.ceil((k + 1) * side / CELLS)
        torch.testing.assert_close(found[:, k], values[:, start:stop].mean(1))


def test_slices_of_a_volume_are_projected_one_by_one() -> None:
    torch.manual_seed(0)
    project, maps = SliceProjection(2), torch.randn(3, 2, 8, 12, 5)
    found = project(maps).view(3, 5, -1)
    torch.testing.assert_close(found.norm(dim=2), torch.ones(3, 5))
    for z in range(5):
        torch.testing.assert_close(found[:, z], project(maps[..., z]))


def test_parts_are_in_the_order_of_space() -> None:
    features = torch.randn(2, 4, 8, 8)
    found = patch_vectors(features).view(2, 8, 8, 4).movedim(-1, 1)
    torch.testing.assert_close(found, features / features.norm(dim=1, keepdim=True))


def test_a_stage_that_is_not_there_is_refused() -> None:
    def build(**options: object) -> object:
        return build_network("unet", channels=1, classes=2, spatial_dims=2, filters=(4, 8), **options)

    with pytest.raises(InputError, match="no dec9: choose one of dec1"):
        entry("simcvd").build({"feature": "dec9"}, Task(2, 1, 2, (1, 1)), build)
