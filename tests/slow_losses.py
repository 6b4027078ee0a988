"""Independent voxel-by-voxel losses in numpy float64, for comparison."""

from __future__ import annotations

import numpy as np


def probabilities(logits: np.ndarray) -> np.ndarray:
    """`[V, C]` softmax of `[B, C, *S]`."""
    rows = np.moveaxis(logits.astype(np.float64), 1, -1).reshape(-1, logits.shape[1])
    powers = np.exp(rows - rows.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def cross_entropy(logits: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    weight = np.ones(logits.shape[1]) if weight is None else weight
    total = norm = 0.0
    for p, t in zip(probabilities(logits), target.ravel(), strict=True):
        total += weight[t] * -np.log(p[t])
        norm += weight[t]
    return total / norm if norm else 0.0


def dice_ratios(logits, target, smooth, squared, epsilon=0.0):
    p, ratios = probabilities(logits), []
    for c in range(logits.shape[1]):
        truth = (target.ravel() == c).astype(float)
        mass = (p[:, c] ** 2 if squared else p[:, c]).sum()
        ratios.append((2 * (p[:, c] * truth).sum() + smooth) / (mass + truth.sum() + smooth + epsilon))
    return np.array(ratios)


def dice_ce(logits, target, form, weight=None):
    ce = cross_entropy(logits, target, weight)
    weight = np.ones(logits.shape[1]) if weight is None else weight
    if form == "dhc":
        return ce - (weight * dice_ratios(logits, target, 1.0, False, 1e-8))[1:].mean()
    if form == "dhc_half":
        return 0.5 * (ce - (weight * dice_ratios(logits, target, 1e-8, False, 1e-8))[1:].mean())
    ratios = weight * dice_ratios(logits, target, 1e-5, True)
    return 0.5 * (ce + 1 - (ratios if form == "ssl4mis" else ratios[1:]).mean())
