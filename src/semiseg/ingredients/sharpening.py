"""Probabilities made surer."""

from __future__ import annotations

from torch import Tensor


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """p^(1/T) / (p^(1/T) + (1 - p)^(1/T)), every entry on its own; below T = 1 it moves away from 1/2.

    With more than two classes the result no longer sums to one over them. Source: MC-Net (Wu et al., MICCAI 2021).
    """
    power = 1 / temperature
    kept, left = probabilities.pow(power), (1 - probabilities).pow(power)
    return kept / (kept + left)
