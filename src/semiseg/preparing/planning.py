"""From a fingerprint to a plan: simple rules, each with its reason in the measured figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from semiseg.preparing.fingerprint import CaseFingerprint, Fingerprint, Intensities
from semiseg.preparing.overrides import PlanOverrides
from semiseg.preparing.plan import Normalisation, Plan
from semiseg.preparing.topology import Topology, topology
from semiseg.scans.geometry import STRONGLY_ANISOTROPIC, stored_shape
from semiseg.scans.ranges import Kept, named_ct

PATCH_VOXELS = {2: 320**2, 3: 96**3}
BATCH_FROM_VOXELS = False
"""Whether small patches make larger batches (`patches_per_batch`); otherwise only the number of axes decides."""

_BATCH = {2: 8, 3: 2}
_FEWEST_PATCHES, _MOST_PATCHES = 2, 9

_FEW_SLICES = 16
_HARDLY_ANY_SLICES = 8
_THICK_SLICES = 5.0

_NEARLY_ISOTROPIC = 2.0
_LEAST_COVERED = 0.25
_COARSER = 1.02  # times as far apart, per try


@dataclass(frozen=True)
class _Grid:
    dims: Literal[2, 3]
    transpose: tuple[int, int, int]
    reason: str


def make_plan(
    fingerprint: Fingerprint,
    voxels: int | None = None,
    wishes: PlanOverrides = PlanOverrides(),
    *,
    normalised: bool = False,
) -> Plan:
    """Decide everything about a dataset from its fingerprint.

    Args:
        fingerprint: of the dataset's images.
        voxels: most voxels of a patch. With the defaults (96 x 96 x 96, or 320 x 320 in 2D) and two classes, a
            training step of the planned U-Net on its 2 + 2 (2D: 8 + 8) patches stays below 6 GiB in fp32, as
            `training.footprint` counts and `benchmarks/plan_memory.py` measures it.
        wishes: decisions that are taken as they are asked for; the others follow from them.
        normalised: whether an import has brought the intensities to a common scale already.
    """
    cases = list(fingerprint.cases.values())
    grid = _wished(_grid(cases), wishes)
    spacing, spacing_reason = _spacing(cases, grid)
    budget = voxels or (math.prod(wishes.slice_size) if wishes.slice_size else PATCH_VOXELS[grid.dims])
    scale = _as_imported if normalised else _normalisation
    scales = [scale(*pair) for pair in zip(fingerprint.channels, fingerprint.intensities, strict=True)]
    if isinstance(wishes.spacing, tuple):
        spacing = wishes.spacing
    elif wishes.spacing is None and grid.dims == 3 and any(chosen.scheme == "ct" for chosen, _ in scales):
        spacing, coarser_reason = _coarser(cases, grid, spacing, wishes, budget)
        spacing_reason += coarser_reason
    shape = _median_stored(cases, grid, spacing, wishes)
    if wishes.slice_size:
        shape = [*wishes.slice_size, shape[2]]
    network = topology(shape[: grid.dims], spacing[: grid.dims], budget)
    batch, batch_reason = _batch(wishes.slice_size or network.patch)
    plan = Plan(
        dataset=fingerprint.dataset,
        channels=fingerprint.channels,
        class_names=fingerprint.class_names,
        spatial_dims=grid.dims,
        transpose=grid.transpose,
        spacing=spacing,
        normalisation=tuple(chosen for chosen, _ in scales),
        usual=tuple(measured.usual for measured in fingerprint.intensities),
        kept=_least_kept(cases),
        patch=network.patch,
        strides=network.strides,
        filters=network.filters,
        labelled_per_batch=batch,
        unlabelled_per_batch=batch,
        reasons={
            "spatial_dims": grid.reason,
            "transpose": _transpose_reason(grid),
            "spacing": spacing_reason,
            "normalisation": "; ".join(reason for _, reason in scales),
            "patch": _patch_reason(shape, spacing, network, grid, budget),
            "strides": _strides_reason(network),
            "filters": f"{network.filters[0]}, doubled at every stage up to {network.filters[-1]}",
            "batch": batch_reason,
        },
    )
    plan = wishes.apply(plan)
    return plan.model_copy(update={"automatic": plan.digest})


def patches_per_batch(patch: Sequence[int]) -> int:
    """Patches of 2 or 3 sides of which a batch has as many voxels as one of the usual number of largest patches.

    At least 2 and at most 9 (nnU-Net's plan for scans as small as the hippocampus), labelled and unlabelled alike.
    """
    return min(max(_batch_voxels(patch) // math.prod(patch), _FEWEST_PATCHES), _MOST_PATCHES)


def _batch_voxels(patch: Sequence[int]) -> int:
    return _BATCH[len(patch)] * PATCH_VOXELS[len(patch)]


def _batch(patch: Sequence[int]) -> tuple[int, str]:
    if not BATCH_FROM_VOXELS:
        usual = _BATCH[len(patch)]
        return usual, f"{usual} labelled and {usual} unlabelled patches, the usual numbers in {len(patch)}D"
    count = patches_per_batch(patch)
    return count, (
        f"{count} labelled and {count} unlabelled patches: as many of {math.prod(patch):,} voxels as "
        f"{_batch_voxels(patch):,} allow (memory), at least {_FEWEST_PATCHES} and at most {_MOST_PATCHES}"
    )


def _grid(cases: Sequence[CaseFingerprint]) -> _Grid:
    """2D or 3D, and which canonical axis the slices are stacked along."""
    shape = np.median([case.shape for case in cases], axis=0)
    spacing = np.median([case.spacing for case in cases], axis=0)
    thin, coarse = int(np.argmin(shape)), int(np.argmax(spacing))
    ratio = spacing[coarse] / np.max(np.delete(spacing, coarse))
    in_plane = np.min(np.delete(shape, thin))
    unrecorded = all(np.allclose(case.spacing, 1.0) for case in cases)
    if shape[thin] < 4:
        return _Grid(2, _last(thin), f"2D: the median scan has {shape[thin]:g} slice(s), fewer than 4")
    for most, thick in ((_FEW_SLICES, _THICK_SLICES), (_HARDLY_ANY_SLICES, STRONGLY_ANISOTROPIC)):
        if ratio >= thick and shape[coarse] < most:
            reason = (
                f"2D: the median scan has {shape[coarse]:g} slices (fewer than {most}), {spacing[coarse]:.3g} mm "
                f"apart, {ratio:.1f} times the spacing within a slice (at least {thick:g})"
            )
            return _Grid(2, _last(coarse), reason)
    if unrecorded and shape[thin] < _FEW_SLICES and in_plane >= 8 * shape[thin]:
        reason = (
            f"2D: no scan records a spacing (1 mm everywhere), and the median scan has {shape[thin]:g} slices "
            f"(fewer than {_FEW_SLICES}) of at least {in_plane:g} voxels a side, so the slices must be thick"
        )
        return _Grid(2, _last(thin), reason)
    if ratio > STRONGLY_ANISOTROPIC:
        reason = (
            f"3D: the median scan has {shape[coarse]:g} slices, {ratio:.1f} times as far apart as voxels within them"
        )
        return _Grid(3, _last(coarse), reason)
    sides = " x ".join(f"{side:g}" for side in shape)
    return _Grid(3, (0, 1, 2), f"3D: the median scan has {sides} voxels, and no axis is more than 3 times coarser")


def _wished(grid: _Grid, wishes: PlanOverrides) -> _Grid:
    return _Grid(wishes.spatial_dims or grid.dims, wishes.transpose or grid.transpose, grid.reason)


def _last(axis: int) -> tuple[int, int, int]:
    first, second = (other for other in range(3) if other != axis)
    return first, second, axis


def _transpose_reason(grid: _Grid) -> str:
    names = ("left-right", "posterior-anterior", "inferior-superior")
    order = ", ".join(names[axis] for axis in grid.transpose)
    stacked = "; the slices are stacked along the last" if grid.transpose != (0, 1, 2) or grid.dims == 2 else ""
    return f"stored axes run {order}{stacked}"


def _spacing(cases: Sequence[CaseFingerprint], grid: _Grid) -> tuple[tuple[float, float, float], str]:
    measured = np.array([[case.spacing[axis] for axis in grid.transpose] for case in cases])
    target = np.median(measured, axis=0)
    finest = float(np.max(target[:2]))
    reason = f"median over {len(cases)} scans"
    if grid.dims == 2:
        reason += "; slices are not resampled"
    elif target[2] > STRONGLY_ANISOTROPIC * finest:
        low = max(float(np.percentile(measured[:, 2], 10)), finest)
        if low < 0.99 * target[2]:
            reason += (
                f"; between slices the 10th percentile {low:.3g} mm instead of the median {target[2]:.3g} mm, because "
                f"that is {target[2] / finest:.1f} times the spacing within a slice and detail would be lost"
            )
            target[2] = low
    if np.allclose(measured, 1.0):
        reason += "; 1 mm everywhere may mean that none was recorded: distances in mm are then in voxels"
    first, second, third = (round(float(mm), 6) for mm in target)
    return (first, second, third), reason


def _coarser(
    cases: Sequence[CaseFingerprint],
    grid: _Grid,
    spacing: tuple[float, float, float],
    wishes: PlanOverrides,
    budget: int,
) -> tuple[tuple[float, float, float], str]:
    """A spacing at which a patch covers a quarter of the median scan, finer axes first, and why; else the same one.

    A quarter as in nnU-Net (Isensee et al., Nature Methods 18, 2021), which adds a network of low resolution below it:
    where a patch shows less, it does not tell left from right. Thick slices are left alone, for between them there is
    nothing to spare.
    """
    if max(spacing) >= _NEARLY_ISOTROPIC * min(spacing):
        return spacing, ""
    shape, covered = _covered(cases, grid, spacing, wishes, budget)
    before, found = covered, spacing
    least = min(spacing)
    while covered < _LEAST_COVERED:
        least *= _COARSER
        first, second, third = (max(mm, float(f"{least:.3g}")) for mm in spacing)
        found = (first, second, third)
        covered = _covered(cases, grid, found, wishes, budget)[1]
    if found == spacing:
        return spacing, ""
    came, now = (" x ".join(f"{mm:.3g}" for mm in side) for side in (spacing, found))
    return found, (
        f"; {now} mm instead of {came} mm, because there a patch would cover {before:.1%} of the median scan of "
        f"{' x '.join(map(str, shape))} voxels, less than {_LEAST_COVERED:.0%} (plan.spacing asks for a finer one)"
    )


def _covered(
    cases: Sequence[CaseFingerprint], grid: _Grid, spacing: Sequence[float], wishes: PlanOverrides, budget: int
) -> tuple[list[int], float]:
    """Sides of the median scan as stored at `spacing`, and the share of it that a patch covers."""
    shape = _median_stored(cases, grid, spacing, wishes)
    return shape, math.prod(topology(shape, spacing, budget).patch) / math.prod(shape)


def _median_stored(
    cases: Sequence[CaseFingerprint], grid: _Grid, target: Sequence[float], wishes: PlanOverrides
) -> list[int]:
    """Sides of the median scan as it will be stored: cropped and resampled as far as the settings let them be."""

    def stored(case: CaseFingerprint) -> Sequence[int]:
        kept = case.shape if wishes.crop == "none" else case.cropped
        sides, own = [kept[axis] for axis in grid.transpose], [case.spacing[axis] for axis in grid.transpose]
        return sides if wishes.spacing == "kept" else stored_shape(sides, own, target, grid.dims)

    return [int(side) for side in np.median([stored(case) for case in cases], axis=0)]


def _least_kept(cases: Sequence[CaseFingerprint]) -> Kept:
    kept = [Kept.of(case.cropped, case.shape, case.spacing) for case in cases]
    return Kept(share=min(each.share for each in kept), volume=min(each.volume for each in kept))


def _patch_reason(shape: Sequence[int], spacing: Sequence[float], network: Topology, grid: _Grid, budget: int) -> str:
    median = " x ".join(map(str, shape[: grid.dims]))
    millimetres = " x ".join(f"{side * mm:.0f}" for side, mm in zip(network.patch, spacing, strict=False))
    covers = all(side >= 0.95 * whole for side, whole in zip(network.patch, shape, strict=False))
    why = "it covers the scan" if covers else f"as cubic in mm as {budget:,} voxels (memory) allow"
    return f"the median prepared scan is {median} voxels; {why}: {millimetres} mm, in multiples of the total stride"


def _strides_reason(network: Topology) -> str:
    axes = list(zip(*network.strides, strict=True))
    halvings = " x ".join(str(sum(stride > 1 for stride in axis)) for axis in axes)
    left = " x ".join(str(side // math.prod(axis)) for side, axis in zip(network.patch, axes, strict=True))
    return (
        f"{len(network.strides)} stages: sides are halved {halvings} times, down to {left} voxels, while at least 4 "
        "remain; an axis waits until its spacing is less than twice the finest"
    )


def _as_imported(channel: str, found: Intensities) -> tuple[Normalisation, str]:
    return Normalisation(scheme="none"), (
        f"{channel}: the import has brought intensities to a common scale ({found.minimum:.4g} ... "
        f"{found.maximum:.4g}), so they are taken as they are"
    )


def _normalisation(channel: str, found: Intensities) -> tuple[Normalisation, str]:
    named = named_ct(channel)
    hounsfield = found.whole and found.minimum < -500
    if (named or hounsfield) and found.std > 0 and math.isfinite(found.std):
        why = "its name says CT" if named else f"whole numbers from {found.minimum:g} on look like Hounsfield units"
        scale = Normalisation(scheme="ct", lower=found.lower, upper=found.upper, mean=found.mean, std=found.std)
        return scale, (
            f"{channel}: {why}, so one scale for all scans: clipped to {found.lower:.4g} ... {found.upper:.4g} (0.5 "
            f"and 99.5 percent of the foreground), minus {found.mean:.4g}, over {found.std:.4g}"
        )
    why = f"intensities ({found.minimum:.4g} ... {found.maximum:.4g}) have no fixed scale, so each scan gets its own"
    return Normalisation(scheme="zscore"), f"{channel}: {why}: zero mean and unit variance in its foreground"
