"""Moving voxels: centre crop, rotation with scaling, flips and quarter turns, each sample by its own numbers.

Every function takes one entry per sample and gives each sample the result it would get alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations, product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Matrix = tuple[tuple[float, ...], ...]


class Read(NamedTuple):
    """How a sample reads its source window: images by the nearest voxel, and zero beyond it instead of its mirror."""

    nearest: bool = False
    zero: bool = False


def small(values: Sequence[object], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A small host list as a tensor on `device`, copied without waiting for the device."""
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)


def change_rows(batch: Tensor, rows: Sequence[int], change: Callable[[Tensor], Tensor]) -> Tensor:
    """Replace the samples `rows` of `batch` `[B, ...]` by `change` of them; may write into `batch`."""
    if not rows:
        return batch
    if len(rows) == len(batch):
        return change(batch)
    index = small(rows, batch.device, torch.int64)
    return batch.index_copy_(0, index, change(batch.index_select(0, index)))


def centre_crop(batch: Tensor, patch: Sequence[int]) -> Tensor:
    """A view of the central `patch` of the last axes of `batch`."""
    for axis, side in enumerate(patch, start=batch.ndim - len(patch)):
        batch = batch.narrow(axis, (batch.shape[axis] - side) // 2, side)
    return batch


def sampling_grid(
    matrices: Sequence[Matrix], source: Sequence[int], patch: Sequence[int], device: torch.device
) -> Tensor:
    """Where each output voxel reads the source, as `grid_sample` wants it: `[n, *patch, d]`, last axis first.

    A matrix maps voxel offsets from the patch's centre to voxel offsets from the source's centre. The grid is a sum of
    one term per axis instead of `affine_grid`'s matrix product: cheaper, and bit-equal whatever the batch size. Only
    the last sum is as large as the patch, and is written where it belongs.
    """
    dims = len(patch)
    scaled = [[[2.0 * m[k][j] / source[k] for j in range(dims)] for k in range(dims)] for m in matrices]
    theta = small(scaled, device)
    offsets = [torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2 for side in patch]
    grid = torch.empty(len(matrices), *patch, dims, device=device)
    for k in range(dims):
        shapes = [[side if axis == j else 1 for axis, side in enumerate(patch)] for j in range(dims)]
        terms = [(theta[:, k, j, None] * offsets[j]).view(-1, *shapes[j]) for j in range(dims)]
        total = terms[0] + terms[1] if dims == 3 else terms[0]
        torch.add(total, terms[-1], out=grid[..., dims - 1 - k])
    return grid


def resample(batch: Tensor, grid: Tensor, how: Read) -> Tensor:
    """Read `batch` `[n, C, *source]` at `grid`."""
    mode, beyond = "nearest" if how.nearest else "bilinear", "zeros" if how.zero else "reflection"
    read = partial(F.grid_sample, mode=mode, padding_mode=beyond, align_corners=False)
    if batch.device.type != "cpu" or batch.ndim == 4:
        return read(batch, grid)
    # On CPUs a 3D sample is the work of one thread; its slices are that of all.
    slices = [
        read(image.expand(len(places), *image.shape), places.unsqueeze(1))
        for image, places in zip(batch, grid, strict=True)
    ]
    return torch.stack([each.squeeze(2).movedim(0, 1) for each in slices])


def warp_or_crop(
    images: Tensor,
    labels: Tensor | None,
    matrices: Sequence[Matrix | None],
    patch: tuple[int, ...],
    reads: Sequence[Read] = (),
) -> tuple[Tensor, Tensor | None]:
    """Source windows to patches: samples with a matrix are resampled, the others are cropped at the centre.

    Args:
        images: `[B, C, *source]`, read linearly unless `reads` says otherwise, returned as float32.
        labels: `[n, *source]` of the first n samples, read by nearest neighbour, returned in their own type.
        matrices: one per sample, output offset -> source offset in voxels, or `None`.
        patch: sides of the result.
        reads: one per sample, or none at all.
    """
    rows = [row for row, matrix in enumerate(matrices) if matrix is not None]
    out = torch.empty((*images.shape[:2], *patch), dtype=torch.float32, device=images.device)
    out.copy_(centre_crop(images, patch))
    truth = None if labels is None else centre_crop(labels, patch).clone()
    if not rows:
        return out, truth

    index = small(rows, images.device, torch.int64)
    grid = sampling_grid([m for m in matrices if m is not None], images.shape[2:], patch, images.device)
    # Class indices are small integers, which float32 holds exactly; those of unlabelled samples do not exist.
    count = 0 if labels is None else sum(row < len(labels) for row in rows)
    for how in (Read(*each) for each in product((False, True), repeat=2)):
        chosen = [place for place, row in enumerate(rows) if (reads[row] if reads else Read()) == how]
        if not chosen:
            continue
        part, places = _part(index, chosen), _part(grid, chosen)
        out.index_copy_(0, part, resample(images.index_select(0, part).float(), places, how))
        known = sum(place < count for place in chosen)
        if known and labels is not None and truth is not None:
            source = labels.index_select(0, part[:known]).unsqueeze(1).float()
            read = resample(source, places[:known], Read(True, how.zero)).squeeze(1)
            truth.index_copy_(0, part[:known], read.to(labels.dtype))
    return out, truth


def _part(values: Tensor, chosen: Sequence[int]) -> Tensor:
    return values if len(chosen) == len(values) else values.index_select(0, small(chosen, values.device, torch.int64))


def flip(batch: Tensor, flips: Sequence[Sequence[bool]], dims: int) -> Tensor:
    """Mirror each sample along the spatial axes that its entry names; the last `dims` axes are spatial."""
    for axis in range(dims):
        rows = [row for row in range(len(batch)) if flips[row][axis]]
        batch = change_rows(batch, rows, partial(torch.flip, dims=(axis - dims,)))
    return batch


def quarter_turn(batch: Tensor, turns: Sequence[tuple[int, int, int]], dims: int) -> Tensor:
    """Turn each sample by `(quarters, axis, axis)`, as `torch.rot90` does, in a plane with equal sides."""
    for plane in combinations(range(dims), 2):
        for quarters in (1, 2, 3):
            rows = [row for row in range(len(batch)) if turns[row] == (quarters, *plane)]
            axes = (plane[0] - dims, plane[1] - dims)
            batch = change_rows(batch, rows, partial(torch.rot90, k=quarters, dims=axes))
    return batch
