"""Largest connected component: post-processing for organs that are one piece."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from semiseg.system.optional import optional

cc3d = optional("cc3d")  # scipy gives the same components

Neighbours = Literal["all", "edges", "faces"]
_REACH = {"all": 3, "edges": 2, "faces": 1}
"""Axes along which neighbours may differ by one voxel."""
_NUMBER = {"all": 26, "edges": 18, "faces": 6}
T = TypeVar("T", bound=np.generic)


def largest_component(
    labels: NDArray[T], neighbours: Neighbours = "all", classes: Collection[int] | None = None
) -> NDArray[T]:
    """A copy of a mask or label map in which each class keeps only its component with the most voxels.

    Of several largest components the one that comes first in scan order (last axis fastest) stays. Removed voxels
    become background, 0; a class without voxels stays so.

    Args:
        labels: `[*S]`, 2D or 3D, a mask or non-negative integer labels.
        neighbours: `all` joins voxels that share a corner (26 neighbours in 3D, 8 in 2D), `edges` those that share an
            edge (18 and 8), `faces` only those that share a face (6 and 4).
        classes: those that are reduced, the others stay as they are; None: all.
    """
    kept = np.zeros_like(labels, order="C")
    values: NDArray[Any] = labels.view(np.uint8) if labels.dtype == bool else labels
    for label, box in enumerate(ndimage.find_objects(values), start=1):
        if box is not None:
            mask = np.ascontiguousarray(values[box] == label)
            kept[box][mask if classes is not None and label not in classes else _largest(mask, neighbours)] = label
    return kept


def piece_sizes(labels: NDArray[Any], classes: Sequence[int]) -> NDArray[np.int64]:
    """Voxels of the largest component of each of `classes` in a label map, and of all, `[2, classes]`.

    Voxels that share a corner are connected.
    """
    boxes, found = ndimage.find_objects(labels), np.zeros((2, len(classes)), np.int64)
    for number, label in enumerate(classes):
        box = boxes[label - 1] if label <= len(boxes) else None
        if box is not None:
            sizes = np.bincount(_numbered(np.ascontiguousarray(labels[box] == label), "all").ravel())[1:]
            found[:, number] = sizes.max(), sizes.sum()
    return found


def _largest(mask: NDArray[np.bool_], neighbours: Neighbours) -> NDArray[np.bool_]:
    components = _numbered(mask, neighbours)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    candidates = np.flatnonzero(sizes == sizes.max())
    chosen = candidates[0]
    if len(candidates) > 1:
        # How a library numbers components is its own business, so a tie is settled by position.
        chosen = components.ravel()[np.isin(components, candidates).ravel().argmax()]
    kept: NDArray[np.bool_] = components == chosen
    return kept


def _numbered(mask: NDArray[np.bool_], neighbours: Neighbours) -> NDArray[Any]:
    """The number of its component at each voxel of the mask, 0 elsewhere."""
    if cc3d is not None and mask.ndim == 3 and min(mask.shape) > 1:
        # Version 4.1.1 fails on some rows of single voxels, and joins what it should not on some 2D masks.
        return np.asarray(cc3d.connected_components(mask, connectivity=_NUMBER[neighbours]))
    structure = ndimage.generate_binary_structure(mask.ndim, min(_REACH[neighbours], mask.ndim))
    return np.asarray(ndimage.label(mask, structure)[0])
