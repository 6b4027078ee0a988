"""A random sample of the features of rightly segmented foreground voxels."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.ingredients.levels import resize_nearest

COUNT = 10_000
"""Voxels of a sample, as in DuCiSC (arXiv:2507.21440, Fig. 5)."""


class FeatureSample:
    """Up to `count` feature vectors, each with the same chance among all that were added.

    Every voxel of every window draws a random number, and those with the lowest numbers are kept, so that it need not
    be known before how many there are.
    """

    def __init__(self, count: int = COUNT, seed: int = 0) -> None:
        self._count = count
        self._random = torch.Generator().manual_seed(seed)
        self._vectors, self._numbers = torch.empty(0, 0), torch.empty(0)

    def add(self, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take foreground voxels of windows that the network labels rightly.

        Args:
            features: `[B, Z, *F]`, as fine as the images or coarser.
            logits: `[B, C, *S]` of the network whose features these are.
            labels: `[B, *S]`, class indices, 0 for background and outside of the scan.
        """
        right = (logits.argmax(1) == labels) & (labels > 0)
        chosen = resize_nearest(right.to(torch.uint8), features.shape[2:]).bool()
        found = features.movedim(1, -1)[chosen].float().cpu()
        numbers = torch.rand(len(found), generator=self._random)
        if len(self._numbers):
            found, numbers = torch.cat([self._vectors, found]), torch.cat([self._numbers, numbers])
        kept = numbers.argsort()[: self._count]
        self._vectors, self._numbers = found[kept], numbers[kept]

    @property
    def vectors(self) -> Tensor:
        """The sample, `[n, Z]` in float32, on the CPU."""
        return self._vectors
