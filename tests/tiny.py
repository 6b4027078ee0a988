"""Small datasets in nnU-Net's raw layout, written where a test asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

TINY_RUN = {
    "network": {"options": {"filters": [4, 8], "strides": [[1, 1, 1], [2, 2, 2]]}},
    "batch": {"patch": [16, 16, 16], "labelled": 2, "unlabelled": 2},
    "accelerator": "cpu",
    "precision": "fp32",
}
"""Settings of runs that take seconds."""

NOISE = 15.0
CONTRAST = 100.0


def tiny_dataset(
    root: Path,
    cases: int = 6,
    labelled: int = 3,
    shape: tuple[int, ...] = (20, 18, 16),
    classes: int = 3,
    channels: int = 1,
    seed: int = 0,
    affine: np.ndarray | None = None,
) -> Path:
    """Write `cases` scans `case_000 ...`, of which the first `labelled` have a label file, and return `root`.

    Every class is an ellipsoid whose brightness tells its class, so a small network learns it in a few steps. Images
    are int16, labels uint8; `shape` may be 2D or 3D; `affine` maps voxels to mm and defaults to the identity.
    """
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    description = {
        "name": "Tiny",
        "channel_names": {str(c): f"channel{c}" for c in range(channels)},
        "labels": {"background": 0} | {f"class{k}": k for k in range(1, classes)},
        "numTraining": labelled,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description, indent=1))
    rng = np.random.default_rng(seed)
    for index in range(cases):
        case = f"case_{index:03d}"
        label = _blobs(rng, shape, classes)
        for channel in range(channels):
            image = _scan(rng, label, classes, channel)
            write_nifti(root / "imagesTr" / f"{case}_{channel:04d}.nii.gz", image, affine)
        if index < labelled:
            write_nifti(root / "labelsTr" / f"{case}.nii.gz", label, affine)
    return root


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write `array` as it is, in millimetres, with `affine` (default: the identity)."""
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def _blobs(rng: np.random.Generator, shape: tuple[int, ...], classes: int) -> np.ndarray:
    """One ellipsoid per foreground class, side by side along the first axis, each of at least one voxel."""
    sides = np.array(shape, dtype=float)
    grid = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij"), axis=-1)
    label = np.zeros(shape, dtype=np.uint8)
    for k in range(1, classes):
        centre = (sides - 1) / 2 + rng.uniform(-0.08, 0.08, len(shape)) * sides
        centre[0] = (k + rng.uniform(-0.1, 0.1)) * sides[0] / classes
        radii = sides * rng.uniform(0.24, 0.34, len(shape))
        radii[0] = sides[0] / classes * rng.uniform(0.42, 0.55)
        inside = (((grid - centre) / np.maximum(radii, 1.0)) ** 2).sum(-1) <= 1
        inside[tuple(np.rint(centre).astype(int))] = True
        label[inside] = k
    return label


def _scan(rng: np.random.Generator, label: np.ndarray, classes: int, channel: int) -> np.ndarray:
    """Brightness by class plus noise; odd channels are inverted, so that channels differ."""
    level = label.astype(float) if channel % 2 == 0 else (classes - 1 - label).astype(float)
    return np.rint(level * CONTRAST + rng.normal(0, NOISE, label.shape) + 50).astype(np.int16)
