"""Mean features of the classes of whole scans, gathered window by window."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from semiseg.ingredients.levels import one_hot, resize_nearest
from semiseg.ingredients.prototypes import Prototypes, PrototypeSums, prototype_sums
from semiseg.prediction.feature_sample import FeatureSample
from semiseg.prediction.predict import Image, Label, Predictor
from semiseg.prediction.windows import cut_windows
from semiseg.runs.precision import autocast


def scan_prototypes(
    predictor: Predictor, image: Image, labels: Label, taps: tuple[str, ...], sample: FeatureSample | None = None
) -> list[list[Prototypes]]:
    """Class prototypes of one scan, per predicting network and tap, each as a batch of one.

    Sums of features and of masks are taken over all windows and divided at the end, so that a voxel counts as often as
    windows hold it. Labels have the resolution of the features by the first voxel of each block.

    Args:
        image: preprocessed, `[C, X, Y, Z]`.
        labels: class indices on the same grid, `[X, Y, Z]`.
        taps: names of features that all predicting networks have.
        sample: takes features of the first network at the last of `taps`.
    """
    scan = torch.from_numpy(image).to(predictor.device)
    # Shifted by one, so that the padding is no class.
    shifted = torch.from_numpy(labels.astype(np.int64) + 1).unsqueeze(0).to(predictor.device)
    windows, inside = (
        cut_windows(x, predictor.patch, predictor.stride, batch=predictor.batch.size) for x in (scan, shifted)
    )
    sums: dict[tuple[int, str], PrototypeSums] = {}
    networks = predictor.method.predictors()
    with torch.inference_mode():
        for images, within in zip(windows, inside, strict=True):
            for number, network in enumerate(networks):
                with autocast(predictor.device, predictor.precision):
                    logits, found = network.tapped(images, taps)
                if sample is not None and number == 0:
                    sample.add(found[taps[-1]], logits, (within.squeeze(1) - 1).clamp(min=0))
                for name in taps:
                    new = _window_sums(found[name], within.squeeze(1), predictor.plan.classes)
                    old = sums.get((number, name))
                    sums[number, name] = new if old is None else _added(old, new)
    return [[sums[number, name].quotient() for name in taps] for number in range(len(networks))]


def _window_sums(features: Tensor, shifted: Tensor, classes: int) -> PrototypeSums:
    """Sums over all windows `[B, Z, *S]`; `shifted` is 0 outside of the scan and one above the class inside."""
    masks = one_hot(resize_nearest(shifted, features.shape[2:]), classes + 1)[:, 1:]
    totals, weight = prototype_sums(features, masks)
    return PrototypeSums(totals.sum(0, keepdim=True), weight.sum(0, keepdim=True))


def _added(a: PrototypeSums, b: PrototypeSums) -> PrototypeSums:
    return PrototypeSums(a.totals + b.totals, a.weight + b.weight)
