"""A few vectors of every class, kept from batch to batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semiseg.ingredients.discrepancy import direction


class ClassMemory(nn.Module):
    """Up to `size` vectors per class; all of it is in buffers, so that its size is fixed from the start.

    Attributes:
        vectors: `[classes, size, width]`, zero where nothing is kept.
        kept: number of vectors per class `[classes]`.
    """

    vectors: Tensor
    kept: Tensor

    def __init__(self, classes: int, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(classes, size, width))
        self.register_buffer("kept", torch.zeros(classes, dtype=torch.long))

    @property
    def size(self) -> int:
        """Most vectors of a class."""
        return self.vectors.shape[1]

    def of(self, label: int) -> Tensor:
        """The vectors of a class, `[kept, width]`."""
        return self.vectors[label, : int(self.kept[label])]

    @torch.no_grad()
    def replace(self, label: int, vectors: Tensor) -> None:
        """Keep `vectors` `[at most size, width]` instead of those there were."""
        self.vectors[label].zero_()[: len(vectors)] = vectors.detach().to(self.vectors.dtype)
        self.kept[label] = len(vectors)

    def mean_direction(self, label: int) -> Tensor:
        """Mean of a class's vectors at length one, `[width]`; its product with a unit vector is their mean cosine."""
        return direction(self.vectors[label]).sum(0) / self.kept[label].clamp(min=1)
