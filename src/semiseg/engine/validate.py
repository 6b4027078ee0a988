"""Choosing a checkpoint: mean foreground Dice on the cases that the protocol allows for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from semiseg.engine.precision import autocast
from semiseg.engine.resolve import selection_cases
from semiseg.engine.session import Session
from semiseg.evaluation.metrics import dice
from semiseg.inference.windows import sliding_labels

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Validation:
    """Mean foreground Dice, and that of each class over the cases where it is defined (None where there are none)."""

    dice: float
    per_class: dict[str, float | None]


ABSENT = 0.5
"""Dice of a class that is in neither label nor prediction of a centre patch, as xmed-lab/DHC has it."""


def validate(session: Session) -> Validation:
    """Dice over foreground classes and cases, on the stored grid.

    By default on whole scans with half-overlapping windows; a class that is in neither the label nor the prediction of
    a case does not count. With `validate_with: centre` on one patch in the centre of each scan, where such a class
    counts as 0.5. The first process works, the others get its answer.
    """
    fabric = session.fabric
    found: Validation | None = None
    if fabric.is_global_zero:
        session.method.eval()
        found = _score(session)
        session.method.train()
    return cast(Validation, fabric.broadcast(found))


def _score(session: Session) -> Validation:
    centre = session.config.validate_with == "centre"
    found = []
    for case in selection_cases(session.config, session.split):
        image, truth = np.array(session.store.image(case), dtype=np.float32), session.store.label(case)
        if centre:
            image, truth = (centre_patch(array, session.batches.patch) for array in (image, truth))
        predicted = _label(session, image)
        found.append([dice(predicted == index, truth == index) for index in range(1, session.plan.classes)])
    scores = np.array(found)
    if centre:
        scores[np.isnan(scores)] = ABSENT
    names = session.plan.class_names[1:]
    per_class = {name: _mean(column) for name, column in zip(names, scores.T, strict=True)}
    return Validation(float(np.nanmean(scores)), per_class)


def _mean(values: Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _label(session: Session, image: Array) -> Array:
    patch = session.batches.patch
    stride = session.config.window.validation_stride or tuple(max(side // 2, 1) for side in patch)
    scan = torch.from_numpy(image).to(session.fabric.device)
    with autocast(session.fabric.device, session.precision):
        labels: Array = sliding_labels(session.method.predict, scan, patch, stride, batch=4).cpu().numpy()
    return labels


def centre_patch(array: Array, patch: Sequence[int]) -> Array:
    """The centre of `array` `[..., X, Y, Z]`, at most `patch` voxels per axis; the odd voxel by rounding to even."""
    sides = array.shape[array.ndim - 3 :]
    starts = [max(round((side - want) / 2), 0) for side, want in zip(sides, patch, strict=False)]
    spans = tuple(slice(start, start + want) for start, want in zip(starts, patch, strict=False))
    chosen: Any = (..., *spans, *(slice(None),) * (3 - len(patch)))
    found: Array = array[chosen]
    return found
