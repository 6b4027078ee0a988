"""Pictures of training batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semiseg.reports.batch_pictures import MOST, Strip, draw_batch
from semiseg.reports.planes import class_colour


def _like(pixels: np.ndarray, colour: str) -> int:
    """Pixels of about this colour."""
    wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    return int((np.abs(pixels.astype(int) - wanted).max(axis=2) < 24).sum())


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 12)])
def test_labels_are_outlined_in_the_colours_of_their_classes(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(2, 1, *shape)).astype(np.float32)
    labels = np.zeros((2, *shape), np.uint8)
    labels[:, 4:12, 4:12] = 1
    labels[:, 14:20, 4:12] = 2
    names = ("background", "one", "two")
    pixels = {}
    for name, strip in {"with": labels, "without": None}.items():
        path = tmp_path / f"{name}.png"
        draw_batch([Strip("labelled", images, ("a", "b"), strip)], path, class_names=names, spacing=(1.0,) * len(shape))
        pixels[name] = _pixels(path)
    for value in (1, 2):
        assert _like(pixels["with"], class_colour(value)) > _like(pixels["without"], class_colour(value)) + 50
    assert pixels["with"].shape == pixels["without"].shape


def test_volumes_are_cut_through_most_foreground_across_every_axis(tmp_path: Path) -> None:
    """A bright plane that only the labels lead to."""
    images, labels = np.zeros((1, 1, 16, 16, 16), np.float32), np.zeros((1, 16, 16, 16), np.uint8)
    images[0, 0, 3:12, 3:12, 2] = 1
    labels[0, 3:12, 3:12, 2] = 1
    counts = []
    for name, known in {"led": labels, "centre": None}.items():
        draw_batch(
            [Strip("patch", images, (), known)], tmp_path / name, class_names=("background",), spacing=(1.0, 1.0, 1.0)
        )
        counts.append(_like(_pixels(tmp_path / name), "#ffffff"))
    assert counts[0] > 3 * counts[1]


def test_panels_are_to_scale_and_few(tmp_path: Path) -> None:
    sizes = {}
    for name, count, spacing in (("square", 2, (1.0, 1.0)), ("flat", 2, (1.0, 0.25)), ("many", 20, (1.0, 1.0))):
        images = np.zeros((count, 1, 16, 16), np.float32)
        draw_batch([Strip("patches", images)], tmp_path / name, class_names=("background",), spacing=spacing)
        height, width, _ = _pixels(tmp_path / name).shape
        sizes[name] = width, height
    assert sizes["flat"][1] < sizes["square"][1]
    assert sizes["many"][0] <= 13 * 120
    assert MOST < 20
