"""Random changes of patches: numbers are drawn per sample on the host, then applied to the whole batch on its device.

`draw` turns a random stream into plain numbers, `apply` is a pure function of data and numbers. Labelled and
unlabelled samples are treated alike, and what happens to a sample never depends on its neighbours in the batch.
The kinds and order of changes follow nnU-Net (Isensee et al., Nature Methods 18, 2021), with milder defaults.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from scipy.spatial.transform import Rotation
from torch import Tensor

from semiseg.data import augment_intensity as intensity
from semiseg.data import augment_spatial as spatial
from semiseg.data.augment_spatial import Matrix

LARGEST_WINDOW = 1.3
"""Source windows grow to at most this multiple of the patch; corners beyond them are mirrored."""


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the lower end {value[0]} is above the upper end {value[1]}; swap them")
    return value


_Axis = Annotated[int, Field(ge=0, le=2)]
Probability = Annotated[float, Field(ge=0, le=1)]
_Factor = Annotated[float, Field(ge=0.25, le=4)]
FactorRange = Annotated[tuple[_Factor, _Factor], AfterValidator(_ordered)]
_Width = Annotated[float, Field(ge=0, le=5)]
WidthRange = Annotated[tuple[_Width, _Width], AfterValidator(_ordered)]


class AugmentConfig(BaseModel):
    """What may happen to a patch, how often and how strongly; ranges are `(lowest, highest)`, drawn uniformly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: Probability = Field(
        0.0, description="probability of a flip, for each axis in flip_axes; prepared scans all face the same way"
    )
    flip_axes: tuple[_Axis, ...] | None = Field(
        None, description="axes that may be flipped; None: all. Leave out left-right where sides are told apart"
    )
    rot90: Probability = Field(0.0, description="probability of a quarter turn in a plane with equal sides")
    rotflip: Probability = Field(
        0.0,
        description="probability of what the papers call RandomRotFlip: none to three quarter turns in the plane of "
        "the first two axes, then always a flip along one of them",
    )
    one_of: bool = Field(False, description="a patch that rotflip changed is not rotated or scaled as well")
    spatial: Probability = Field(0.2, description="probability of a rotation with scaling")
    rotation: float = Field(15.0, ge=0, le=180, description="largest angle about each axis, degrees")
    scaling: FactorRange = Field((0.8, 1.25), description="size in the patch relative to the scan")
    nearest: bool = Field(
        False,
        description="rotated or scaled images take the nearest voxel, as labels do, not a mean of neighbours",
    )
    in_plane: bool = Field(False, description="3D patches: rotate and scale within slices (last axis untouched)")
    noise: Probability = Field(0.1, description="probability of Gaussian noise")
    noise_deviation: WidthRange = Field((0.0, 0.1), description="its standard deviation, normalised grey values")
    blur: Probability = Field(0.1, description="probability of a Gaussian blur")
    blur_sigma: WidthRange = Field((0.5, 1.0), description="its standard deviation, voxels")
    brightness: Probability = Field(0.15, description="probability of a multiplication of grey values")
    brightness_factor: FactorRange = Field((0.75, 1.25), description="its factor")
    contrast: Probability = Field(0.15, description="probability of a stretch about the mean, within the range")
    contrast_factor: FactorRange = Field((0.75, 1.25), description="its factor")
    gamma: Probability = Field(0.15, description="probability of a gamma curve, inverted half of the time")
    gamma_exponent: FactorRange = Field((0.7, 1.5), description="its exponent")

    @classmethod
    def none(cls) -> Self:
        """No change at all: `apply` crops the centre."""
        return cls(flip=0, rot90=0, rotflip=0, spatial=0, noise=0, blur=0, brightness=0, contrast=0, gamma=0)

    @property
    def moves(self) -> bool:
        """Whether any sample can be rotated or scaled, and so needs a source window larger than the patch."""
        return self.spatial > 0 and (self.rotation > 0 or self.scaling != (1.0, 1.0))


@dataclass(frozen=True)
class Params:
    """The numbers of one sample; the defaults change nothing.

    Attributes:
        matrix: output offset -> source offset from the centres, in voxels; `None` for a plain crop.
        nearest: whether `matrix` reads images by the nearest voxel.
        flips: one per spatial axis.
        turn: `(quarters, axis, axis)`, as `torch.rot90` takes them.
        noise: standard deviation; `noise_seed` seeds the sample's own generator.
        blur: standard deviation in voxels.
        brightness, contrast, gamma: factor, factor and exponent; `inverted` tells which end gamma bends.
    """

    matrix: Matrix | None = None
    nearest: bool = False
    flips: tuple[bool, ...] = (False, False, False)
    turn: tuple[int, int, int] = (0, 0, 1)
    noise: float = 0.0
    noise_seed: int = 0
    blur: float = 0.0
    brightness: float = 1.0
    contrast: float = 1.0
    gamma: float = 1.0
    inverted: bool = False


def draw(config: AugmentConfig, rng: np.random.Generator, patch: Sequence[int]) -> Params:
    """Draw the numbers of one sample.

    As many random numbers are taken whatever the settings, so switching one change off leaves the others as they were.

    Args:
        config: what may happen.
        rng: stream of this sample.
        patch: sides of the result, two or three.
    """
    dims = len(patch)
    happens, amount = rng.random(7), rng.random(7)
    flips, angles = rng.random(dims), rng.uniform(-1.0, 1.0, 3) * config.rotation
    quarters, pick, noise_seed = int(rng.integers(1, 4)), float(rng.random()), int(rng.integers(2**62))
    rotflips, papers_quarters, papers_axis = rng.random() < config.rotflip, int(rng.integers(4)), int(rng.integers(2))

    def maybe(index: int, probability: float, limits: tuple[float, float], neutral: float) -> float:
        low, high = limits
        return float(low + (high - low) * amount[index]) if happens[index] < probability else neutral

    planes = [plane for plane in combinations(range(dims), 2) if patch[plane[0]] == patch[plane[1]]]
    turned = bool(planes) and happens[0] < config.rot90
    axes = range(dims) if config.flip_axes is None else config.flip_axes
    moved = config.moves and happens[1] < config.spatial and not (config.one_of and rotflips)
    flipped = tuple(bool(axis in axes and flips[axis] < config.flip) for axis in range(dims))
    turn = (quarters, *planes[int(pick * len(planes))]) if turned else (0, 0, 1)
    if rotflips:
        # A patch whose sides differ keeps its shape: it is turned by half circles only.
        turn = (papers_quarters if patch[0] == patch[1] else 2 * (papers_quarters // 2), 0, 1)
        flipped = tuple(axis == papers_axis for axis in range(dims))
    return Params(
        matrix=_matrix(config, angles, _zoom(config.scaling, amount[1]), dims) if moved else None,
        nearest=config.nearest,
        flips=flipped,
        turn=turn,
        noise=maybe(2, config.noise, config.noise_deviation, 0.0),
        noise_seed=noise_seed,
        blur=maybe(3, config.blur, config.blur_sigma, 0.0),
        brightness=maybe(4, config.brightness, config.brightness_factor, 1.0),
        contrast=maybe(5, config.contrast, config.contrast_factor, 1.0),
        gamma=maybe(6, config.gamma, config.gamma_exponent, 1.0),
        inverted=bool(pick < 0.5),
    )


def _zoom(limits: tuple[float, float], amount: float) -> float:
    # Uniform in the logarithm: halving is as likely as doubling.
    return float(limits[0] * (limits[1] / limits[0]) ** amount)


def _rotations(config: AugmentConfig, angles: np.ndarray, dims: int) -> np.ndarray:
    """Rotation matrices `[n, dims, dims]` of angles `[n, 3]` in degrees; within slices only the last angle counts."""
    flat = dims == 2 or config.in_plane
    used = angles * np.array([0.0, 0.0, 1.0]) if flat else angles
    return Rotation.from_euler("xyz", used, degrees=True).as_matrix()[:, :dims, :dims]


def _matrix(config: AugmentConfig, angles: np.ndarray, zoom: float, dims: int) -> Matrix:
    matrix = _rotations(config, angles[None], dims)[0]
    scales = np.full(dims, 1.0 / zoom)
    if dims == 3 and config.in_plane:
        scales[2] = 1.0
    return tuple(tuple(float(value) for value in row) for row in matrix * scales)


def margin(config: AugmentConfig, patch: Sequence[int]) -> tuple[int, ...]:
    """Sides of the source window that `apply` wants for `patch`: what the widest drawn transform reads, at most 1.3 x.

    Window and patch differ by an even number of voxels, so that the centre crop is centred.
    """
    if not config.moves:
        return tuple(patch)
    dims = len(patch)
    steps = np.linspace(-config.rotation, config.rotation, 5)
    angles = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    turned = np.abs(_rotations(config, angles, dims)) @ np.asarray(patch, dtype=float)
    reach = turned.max(axis=0) / config.scaling[0]
    if dims == 3 and config.in_plane:
        reach[2] = patch[2]
    wanted = np.clip(reach, patch, np.asarray(patch) * LARGEST_WINDOW)
    return tuple(int(side + 2 * math.ceil((want - side) / 2 - 1e-6)) for side, want in zip(patch, wanted, strict=True))


def apply(
    images: Tensor, labels: Tensor | None, params: Sequence[Params], patch: Sequence[int]
) -> tuple[Tensor, Tensor | None]:
    """Apply each sample's numbers: crop or resample, turn, flip, noise, blur, brightness, contrast, gamma.

    Args:
        images: source windows `[B, C, *S]` of any real type, at least as large as `patch`.
        labels: class indices `[n, *S]` of the first n samples, any integer type, or `None`.
        params: B of them.
        patch: spatial sides of the result.

    Returns:
        Images `[B, C, *patch]` float32 (linear interpolation, or nearest voxels if the numbers say so) and labels
        `[n, *patch]` in their own type (nearest neighbour: exact for any number of classes, and a thin structure is
        never voted away by its neighbours).

    Raises:
        ValueError: sizes that do not fit together.
    """
    sides, dims = tuple(patch), len(patch)
    if images.ndim != dims + 2 or any(have < want for have, want in zip(images.shape[2:], sides, strict=True)):
        raise ValueError(f"expected windows [B, C, *S] with S at least {sides}, got {tuple(images.shape)}")
    if len(params) != len(images):
        raise ValueError(f"expected one set of numbers per sample, got {len(params)} for {len(images)} samples")
    if labels is not None and (labels.shape[1:] != images.shape[2:] or len(labels) > len(images)):
        raise ValueError(f"labels {tuple(labels.shape)} do not belong to images {tuple(images.shape)}")

    out, truth = spatial.warp_or_crop(images, labels, [p.matrix for p in params], sides, [p.nearest for p in params])
    turns, flips = [p.turn for p in params], [p.flips for p in params]
    out = spatial.flip(spatial.quarter_turn(out, turns, dims), flips, dims)
    if truth is not None:
        truth = spatial.flip(spatial.quarter_turn(truth, turns, dims), flips, dims)
    out = intensity.add_noise(out, [p.noise for p in params], [p.noise_seed for p in params])
    out = intensity.blur(out, [p.blur for p in params])
    out = intensity.brightness(out, [p.brightness for p in params])
    out = intensity.contrast(out, [p.contrast for p in params])
    return intensity.gamma(out, [p.gamma for p in params], [p.inverted for p in params]), truth
