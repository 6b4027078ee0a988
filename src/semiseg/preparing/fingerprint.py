"""What a dataset's images are like: shapes, spacings, intensities. No label is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from semiseg.datasets.dataset import Dataset
from semiseg.scans.foreground import Foreground, sample
from semiseg.scans.geometry import crop, orient, orientation
from semiseg.scans.ranges import Seen, Usual, look, usual
from semiseg.scans.readers import Volume

Array = np.ndarray[Any, np.dtype[Any]]
Triple = tuple[int, int, int]

_VOXELS_PER_CASE = 10_000


class _Measured(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CaseFingerprint(_Measured):
    """Grid of one scan along canonical axes: voxels, voxels of the foreground box, spacing in mm."""

    shape: Triple
    cropped: Triple
    spacing: tuple[float, float, float]


class Intensities(_Measured):
    """Intensities of one channel over all scans.

    Attributes:
        minimum, maximum: over all voxels.
        whole: whether all values are whole numbers.
        lower, median, upper: 0.5, 50 and 99.5 percent of the foreground voxels lie below; every scan counts alike.
        mean, std: of the foreground voxels clipped to `lower` ... `upper`.
        usual: where those of a scan lie.
    """

    minimum: float
    maximum: float
    whole: bool
    lower: float
    median: float
    upper: float
    mean: float
    std: float
    usual: Usual | None = None


class Fingerprint(_Measured):
    """What was measured on all images of a dataset, by case and by channel."""

    dataset: str
    channels: tuple[str, ...]
    class_names: tuple[str, ...]
    cases: dict[str, CaseFingerprint]
    intensities: tuple[Intensities, ...]


@dataclass(frozen=True)
class MeasuredChannel:
    """Intensities of one channel of one scan; `foreground` is a sample of its foreground voxels."""

    minimum: float
    maximum: float
    whole: bool
    foreground: Array
    seen: Seen


@dataclass(frozen=True)
class MeasuredScan:
    """What is measured on one scan."""

    grid: CaseFingerprint
    channels: tuple[MeasuredChannel, ...]


def fingerprint(dataset: Dataset, measured: Mapping[str, MeasuredScan]) -> Fingerprint:
    """What the scans of `dataset` have in common, of the measurements of every case."""
    scans = [measured[case] for case in sorted(dataset.cases)]
    return Fingerprint(
        dataset=dataset.name,
        channels=dataset.channels,
        class_names=dataset.class_names,
        cases={case: measured[case].grid for case in sorted(dataset.cases)},
        intensities=tuple(_merge([scan.channels[index] for scan in scans]) for index in range(len(dataset.channels))),
    )


def measure(volume: Volume, seen: Foreground) -> MeasuredScan:
    """Grid and intensities of an image `[C, X, Y, Z]` with its foreground along canonical axes."""
    axes, flips = orientation(volume.affine)
    image = orient(volume.array, axes, flips)
    grid = CaseFingerprint(
        shape=_triple(image.shape[1:]),
        cropped=_triple(crop(image, seen.box).shape[1:]),
        spacing=(volume.spacing[axes[0]], volume.spacing[axes[1]], volume.spacing[axes[2]]),
    )
    return MeasuredScan(grid, tuple(_channel(*pair) for pair in zip(image, seen.thresholds, strict=True)))


def _channel(channel: Array, threshold: float) -> MeasuredChannel:
    values = sample(channel)
    foreground = _first_with_voxels(values[values > threshold], channel[channel > threshold], values)
    drawn = np.random.default_rng(0).integers(len(foreground), size=_VOXELS_PER_CASE)
    return MeasuredChannel(
        minimum=float(channel.min()),
        maximum=float(channel.max()),
        whole=bool(np.array_equal(values, np.rint(values))),
        foreground=foreground[drawn].astype(np.float32),
        seen=look(channel, threshold),
    )


def _first_with_voxels(*choices: Array) -> Array:
    """A channel may be almost empty (a map of clicks), so that the sample, or all of it, holds no foreground."""
    return next(found for found in choices if len(found))


def _merge(scans: Sequence[MeasuredChannel]) -> Intensities:
    foreground = np.concatenate([scan.foreground for scan in scans])
    lower, median, upper = (float(value) for value in np.percentile(foreground, (0.5, 50, 99.5)))
    clipped = np.clip(foreground, lower, upper)
    return Intensities(
        minimum=min(scan.minimum for scan in scans),
        maximum=max(scan.maximum for scan in scans),
        whole=all(scan.whole for scan in scans),
        lower=lower,
        median=median,
        upper=upper,
        mean=float(clipped.mean(dtype=np.float64)),
        std=float(clipped.std(dtype=np.float64)),
        usual=usual([scan.seen for scan in scans]),
    )


def _triple(shape: Sequence[int]) -> Triple:
    return shape[0], shape[1], shape[2]
