"""Slices and outlines: the right ones, at the right place, the right way up."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from semiseg.reports.slices import cut_stacks, outline


def points(path: str) -> list[np.ndarray]:
    """Corners of each closed line of a path, in half voxels."""
    found = []
    for piece in re.findall(r"M([^M]*)z", path):
        start, moves = piece.split("l")
        steps = np.array(moves.split(), int).reshape(-1, 2)
        found.append(np.cumsum([np.array(start.split(), int), *steps], axis=0))
    return found


def area(corners: np.ndarray) -> float:
    x, y = corners.T / 2
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def test_an_outline_runs_between_the_voxels() -> None:
    mask = np.zeros((10, 6), bool)
    mask[2:7, 1:4] = True
    (corners,) = points(outline(mask))
    # Corners are cut off by the half of a half voxel squared.
    assert area(corners) == pytest.approx(5 * 3 - 4 / 8)
    assert corners[:, 0].min() == 4
    assert corners[:, 0].max() == 14
    assert corners[:, 1].min() == 2 * (6 - 4)
    assert corners[:, 1].max() == 2 * (6 - 1)


def test_outlines_close_at_the_border_and_around_holes() -> None:
    mask = np.ones((8, 8), bool)
    assert len(points(outline(mask))) == 1
    mask[3:5, 3:5] = False
    outer, hole = sorted(map(area, points(outline(mask))), reverse=True)
    assert outer == pytest.approx(64 - 0.5)
    assert hole == pytest.approx(4 - 0.5)
    assert outline(np.zeros((4, 4), bool)) == ""


def volume() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image, truth = np.zeros((40, 30, 20), np.float32), np.zeros((40, 30, 20), np.uint8)
    truth[10:30, 8:20, 5:15] = 1
    truth[12:20, 10:15, 8:12] = 2
    image[20:, :, :] = 100
    return image, truth, np.roll(truth, 1, 0)


def test_three_planes_with_the_fullest_slice_first() -> None:
    image, truth, prediction = volume()
    stacks = cut_stacks(image, truth, [prediction, truth], np.diag([1, 1, 2, 1.0]), most=7)
    assert [stack.plane.name for stack in stacks] == ["axial", "coronal", "sagittal"]
    axial = stacks[0]
    assert [cut.number for cut in axial.slices][::6] == [6, 15]
    assert len(axial.slices) == 7
    assert axial.plane.ends == ("L", "R", "P", "A")
    assert stacks[1].plane.millimetres[1] == pytest.approx(2 * stacks[1].plane.voxels[1])
    shown = axial.slices[axial.first]
    assert len(shown.truth) == 2
    assert shown.predictions[1] == shown.truth != shown.predictions[0]


def test_pictures_are_the_right_way_up() -> None:
    image, truth, prediction = volume()
    for affine, bright_right in ((np.eye(4), True), (np.diag([-1, 1, 1, 1.0]), False)):
        axial = cut_stacks(image, truth, [prediction], affine, most=3)[0]
        with Image.open(io.BytesIO(base64.b64decode(axial.slices[0].jpeg))) as file:
            grey = np.asarray(file)
        assert grey.shape == axial.plane.voxels[::-1]
        left, right = grey[:, :5].mean(), grey[:, -5:].mean()
        assert (right > left) == bright_right


def test_slices_images_and_empty_labels() -> None:
    flat = np.zeros((12, 10, 1))
    (stack,) = cut_stacks(flat, flat.astype(np.uint8), [flat.astype(np.uint8)], None, most=5)
    assert (stack.plane.name, len(stack.slices)) == ("", 1)
    empty = np.zeros((12, 10, 8), np.uint8)
    assert [len(stack.slices) for stack in cut_stacks(empty, empty, [empty], None, most=5)] == [1, 1, 1]


def test_large_scans_stay_small() -> None:
    rng = np.random.default_rng(0)
    image, truth = rng.normal(size=(600, 500, 3)), np.ones((600, 500, 3), np.uint8)
    axial = cut_stacks(image, truth, [truth], np.eye(4), most=1)[0]
    with Image.open(io.BytesIO(base64.b64decode(axial.slices[0].jpeg))) as picture:
        assert max(picture.size) == 240
