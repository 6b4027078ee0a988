"""Choosing a checkpoint: mean foreground Dice on the cases that the protocol allows for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from semiseg.ingredients.ensemble import ensemble_probabilities
from semiseg.metrics.dice import dice
from semiseg.prediction.windows import Predict, sliding_labels
from semiseg.runs.build import selection_cases
from semiseg.runs.precision import autocast
from semiseg.training.session import Session

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Validation:
    """Mean foreground Dice, and that of each class over the cases where it is defined (None where there are none).

    `networks` holds the mean foreground Dice of each of the method's networks by itself, where that was asked for.
    """

    dice: float
    per_class: dict[str, float | None]
    networks: Mapping[str, float] = field(default_factory=dict)


ABSENT = 0.5
"""Dice of a class that is in neither label nor prediction of a centre patch, as xmed-lab/DHC has it."""


def validate(session: Session) -> Validation:
    """Dice over foreground classes and cases, on the stored grid.

    By default on whole scans with half-overlapping windows; a class that is in neither the label nor the prediction of
    a case does not count. With `validate_with: centre` on one patch in the centre of each scan, where such a class
    counts as 0.5. With `validate_networks` every network of the method is scored by itself as well; what chooses the
    weights is always what predicts. The first process works, the others get its answer.
    """
    fabric = session.fabric
    found: Validation | None = None
    if fabric.is_global_zero:
        session.method.eval()
        found = _score(session)
        session.method.train()
    return cast(Validation, fabric.broadcast(found))


def _score(session: Session) -> Validation:
    asked = {"": session.method.predict, **(_networks(session) if session.config.validate_networks else {})}
    scores: dict[str, list[list[float]]] = {name: [] for name in asked}
    for case in selection_cases(session.config, session.split):
        image, truth = np.array(session.store.image(case), dtype=np.float32), session.store.label(case)
        if session.config.validate_with == "centre":
            image, truth = (centre_patch(array, session.batches.patch) for array in (image, truth))
        for name, predict in asked.items():
            predicted = _label(session, image, predict)
            found = [dice(predicted == index, truth == index) for index in range(1, session.plan.classes)]
            scores[name].append(found)
    tables = {name: _with_absent(np.array(rows), session) for name, rows in scores.items()}
    names, whole = session.plan.class_names[1:], tables.pop("")
    per_class = {name: _mean(column) for name, column in zip(names, whole.T, strict=True)}
    each = {name: float(np.nanmean(table)) for name, table in tables.items()}
    return Validation(float(np.nanmean(whole)), per_class, each)


def _networks(session: Session) -> dict[str, Predict]:
    """What each network of the method says of images; nothing where there is only one, which then is what predicts."""
    found = session.method.networks()
    if len(found) < 2:
        return {}
    return {name: partial(ensemble_probabilities, (network,)) for name, network in found.items()}


def _with_absent(scores: Array, session: Session) -> Array:
    if session.config.validate_with == "centre":
        scores[np.isnan(scores)] = ABSENT
    return scores


def _mean(values: Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _label(session: Session, image: Array, predict: Predict) -> Array:
    patch = session.batches.patch
    stride = session.config.window.validation_stride or tuple(max(side // 2, 1) for side in patch)
    scan = torch.from_numpy(image).to(session.fabric.device)
    with autocast(session.fabric.device, session.precision):
        labels: Array = sliding_labels(predict, scan, patch, stride, batch=4).cpu().numpy()
    return labels


def centre_patch(array: Array, patch: Sequence[int]) -> Array:
    """The centre of `array` `[..., X, Y, Z]`, at most `patch` voxels per axis; the odd voxel by rounding to even."""
    sides = array.shape[array.ndim - 3 :]
    starts = [max(round((side - want) / 2), 0) for side, want in zip(sides, patch, strict=False)]
    spans = tuple(slice(start, start + want) for start, want in zip(starts, patch, strict=False))
    chosen: Any = (..., *spans, *(slice(None),) * (3 - len(patch)))
    found: Array = array[chosen]
    return found
