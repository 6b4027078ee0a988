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
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from scipy.spatial.transform import Rotation
from torch import Tensor

from semiseg.batches import augment_intensity as intensity
from semiseg.batches import augment_spatial as spatial
from semiseg.batches.augment_spatial import Matrix

LARGEST_WINDOW = 1.3
"""Source windows grow to at most this multiple of the patch; corners beyond them are filled."""
STRONGLY_ANISOTROPIC = 3.0
"""Ratio of sides or spacings above which slices are rotated each by itself."""
_ALIKE = 1.05
"""Ratio of spacings up to which a quarter turn is one."""


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the lower end {value[0]} is above the upper end {value[1]}; swap them")
    return value


_Axis = Annotated[int, Field(ge=0, le=2)]
Probability = Annotated[float, Field(ge=0, le=1)]
Fill = Literal["mirror", "zero"]
_Factor = Annotated[float, Field(ge=0.25, le=4)]
FactorRange = Annotated[tuple[_Factor, _Factor], AfterValidator(_ordered)]
_Fraction = Annotated[float, Field(ge=0.1, le=1)]
_Width = Annotated[float, Field(ge=0, le=5)]
_Share = Annotated[tuple[_Fraction, _Fraction], AfterValidator(_ordered)]
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
    rotation: float = Field(15.0, ge=0, le=180, description="largest angle about each axis, degrees in mm")
    scaling: FactorRange = Field((0.8, 1.25), description="size in the patch relative to the scan")
    nearest: bool = Field(
        False,
        description="rotated or scaled images take the nearest voxel, as labels do, not a mean of neighbours",
    )
    fill: Fill = Field(
        "mirror",
        description="what rotated patches show beyond the part of the scan that was read for them: its mirror image, "
        "or zero in images and labels, as scipy's rotate leaves it. Beyond the scan itself there is zero in any case",
    )
    in_plane: bool | None = Field(
        None,
        description="3D patches: rotate and scale within slices (last axis untouched), simulate coarser slices alike; "
        "None: where slices are more than 3 times as far apart as voxels, or patches 3 times as wide as thick",
    )
    noise: Probability = Field(0.1, description="probability of Gaussian noise")
    noise_deviation: WidthRange = Field((0.0, 0.1), description="its standard deviation, normalised grey values")
    blur: Probability = Field(0.1, description="probability of a Gaussian blur")
    blur_sigma: WidthRange = Field((0.5, 1.0), description="its standard deviation, voxels")
    brightness: Probability = Field(0.15, description="probability of a multiplication of grey values")
    brightness_factor: FactorRange = Field((0.75, 1.25), description="its factor")
    contrast: Probability = Field(0.15, description="probability of a stretch about the mean, within the range")
    contrast_factor: FactorRange = Field((0.75, 1.25), description="its factor")
    lowres: Probability = Field(0.0, description="probability of a simulated lower resolution")
    lowres_zoom: _Share = Field((0.5, 1.0), description="its number of voxels along an axis, relative to the patch")
    gamma: Probability = Field(0.15, description="probability of a gamma curve, inverted half of the time")
    gamma_exponent: FactorRange = Field((0.7, 1.5), description="its exponent")

    @classmethod
    def none(cls) -> Self:
        """No change at all: `apply` crops the centre."""
        return cls(flip=0, rot90=0, rotflip=0, spatial=0, noise=0, blur=0, brightness=0, contrast=0, lowres=0, gamma=0)

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
        zero: whether it reads zero beyond the source window, instead of the mirror image.
        flips: one per spatial axis.
        turn: `(quarters, axis, axis)`, as `torch.rot90` takes them.
        noise: standard deviation; `noise_seed` seeds the sample's own generator.
        blur: standard deviation in voxels.
        brightness, contrast, gamma: factor, factor and exponent; `inverted` tells which end gamma bends.
        lowres: voxels of the simulated resolution relative to the patch, one number per spatial axis or none at all.
    """

    matrix: Matrix | None = None
    nearest: bool = False
    zero: bool = False
    flips: tuple[bool, ...] = (False, False, False)
    turn: tuple[int, int, int] = (0, 0, 1)
    noise: float = 0.0
    noise_seed: int = 0
    blur: float = 0.0
    brightness: float = 1.0
    contrast: float = 1.0
    lowres: tuple[float, ...] = ()
    gamma: float = 1.0
    inverted: bool = False


def draw(
    config: AugmentConfig, rng: np.random.Generator, patch: Sequence[int], spacing: Sequence[float] | None = None
) -> Params:
    """Draw the numbers of one sample.

    As many random numbers are taken whatever the settings, so switching one change off leaves the others as they were.

    Args:
        config: what may happen.
        rng: stream of this sample.
        patch: sides of the result, two or three.
        spacing: mm between voxels along them; None: the same along all.
    """
    grid = _Grid.of(config, patch, spacing)
    dims = len(patch)
    happens, amount = rng.random(7), rng.random(7)
    flips, angles = rng.random(dims), rng.uniform(-1.0, 1.0, 3) * config.rotation
    quarters, pick, noise_seed = int(rng.integers(1, 4)), float(rng.random()), int(rng.integers(2**62))
    rotflips, papers_quarters, papers_axis = rng.random() < config.rotflip, int(rng.integers(4)), int(rng.integers(2))

    lowres, coarser = rng.random(2)

    def maybe(index: int, probability: float, limits: tuple[float, float], neutral: float) -> float:
        return _between(limits, amount[index]) if happens[index] < probability else neutral

    planes = [plane for plane in combinations(range(dims), 2) if grid.turns(*plane)]
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
        matrix=_matrix(grid, angles, _zoom(config.scaling, amount[1])) if moved else None,
        nearest=config.nearest,
        zero=config.fill == "zero",
        flips=flipped,
        turn=turn,
        noise=maybe(2, config.noise, config.noise_deviation, 0.0),
        noise_seed=noise_seed,
        blur=maybe(3, config.blur, config.blur_sigma, 0.0),
        brightness=maybe(4, config.brightness, config.brightness_factor, 1.0),
        contrast=maybe(5, config.contrast, config.contrast_factor, 1.0),
        lowres=grid.coarser(_between(config.lowres_zoom, coarser)) if lowres < config.lowres else (),
        gamma=maybe(6, config.gamma, config.gamma_exponent, 1.0),
        inverted=bool(pick < 0.5),
    )


def _between(limits: tuple[float, float], amount: float) -> float:
    return float(limits[0] + (limits[1] - limits[0]) * amount)


def _zoom(limits: tuple[float, float], amount: float) -> float:
    # Uniform in the logarithm: halving is as likely as doubling.
    return float(limits[0] * (limits[1] / limits[0]) ** amount)


@dataclass(frozen=True)
class _Grid:
    """Voxels of a patch, mm between them, and whether slices are changed each by itself."""

    patch: tuple[int, ...]
    spacing: tuple[float, ...]
    in_plane: bool

    @classmethod
    def of(cls, config: AugmentConfig, patch: Sequence[int], spacing: Sequence[float] | None) -> _Grid:
        spacing = tuple(spacing) if spacing is not None else (1.0,) * len(patch)
        in_plane = config.in_plane
        if in_plane is None:
            # nnU-Net has the rule for patches; slices far apart are few in a patch, but a patch may be set.
            thin, far = max(patch) / patch[-1], spacing[-1] / min(spacing)
            in_plane = max(thin, far) > STRONGLY_ANISOTROPIC
        return cls(tuple(patch), spacing, len(patch) == 3 and in_plane)

    def turns(self, first: int, second: int) -> bool:
        """Whether a quarter turn in the plane of two axes keeps sides, and shapes in mm nearly."""
        here, there = self.spacing[first], self.spacing[second]
        return self.patch[first] == self.patch[second] and max(here, there) <= _ALIKE * min(here, there)

    def coarser(self, zoom: float) -> tuple[float, ...]:
        return tuple(1.0 if self.in_plane and axis == 2 else zoom for axis in range(len(self.patch)))

    def rotations(self, angles: np.ndarray) -> np.ndarray:
        """Matrices `[n, dims, dims]`, offsets in voxels to offsets in voxels, of rotations in mm.

        Args:
            angles: `[n, 3]` in degrees; within slices only the last one counts.
        """
        dims = len(self.patch)
        used = angles * np.array([0.0, 0.0, 1.0]) if dims == 2 or self.in_plane else angles
        turned = Rotation.from_euler("xyz", used, degrees=True).as_matrix()[:, :dims, :dims]
        mm = np.asarray(self.spacing)
        matrices: np.ndarray = turned * (mm / mm[:, None])
        return matrices


def _matrix(grid: _Grid, angles: np.ndarray, zoom: float) -> Matrix:
    scales = np.full(len(grid.patch), 1.0 / zoom)
    if grid.in_plane:
        scales[2] = 1.0
    return tuple(tuple(float(value) for value in row) for row in grid.rotations(angles[None])[0] * scales)


def margin(config: AugmentConfig, patch: Sequence[int], spacing: Sequence[float] | None = None) -> tuple[int, ...]:
    """Sides of the source window that `apply` wants for `patch`: what the widest drawn transform reads, at most 1.3 x.

    Window and patch differ by an even number of voxels, so that the centre crop is centred. `spacing` is that of
    `draw`.
    """
    if not config.moves:
        return tuple(patch)
    grid = _Grid.of(config, patch, spacing)
    steps = np.linspace(-config.rotation, config.rotation, 5)
    angles = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    turned = np.abs(grid.rotations(angles)) @ np.asarray(patch, dtype=float)
    reach = turned.max(axis=0) / config.scaling[0]
    if grid.in_plane:
        reach[2] = patch[2]
    wanted = np.clip(reach, patch, np.asarray(patch) * LARGEST_WINDOW)
    return tuple(int(side + 2 * math.ceil((want - side) / 2 - 1e-6)) for side, want in zip(patch, wanted, strict=True))


def apply(
    images: Tensor, labels: Tensor | None, params: Sequence[Params], patch: Sequence[int]
) -> tuple[Tensor, Tensor | None]:
    """Apply each sample's numbers: crop or resample, turn, flip, then grey values in the order of `Params`.

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

    reads = [spatial.Read(p.nearest, p.zero) for p in params]
    out, truth = spatial.warp_or_crop(images, labels, [p.matrix for p in params], sides, reads)
    turns, flips = [p.turn for p in params], [p.flips for p in params]
    out = spatial.flip(spatial.quarter_turn(out, turns, dims), flips, dims)
    if truth is not None:
        truth = spatial.flip(spatial.quarter_turn(truth, turns, dims), flips, dims)
    out = intensity.add_noise(out, [p.noise for p in params], [p.noise_seed for p in params])
    out = intensity.blur(out, [p.blur for p in params])
    out = intensity.brightness(out, [p.brightness for p in params])
    out = intensity.contrast(out, [p.contrast for p in params])
    out = intensity.lower_resolution(out, [p.lowres for p in params])
    return intensity.gamma(out, [p.gamma for p in params], [p.inverted for p in params]), truth
