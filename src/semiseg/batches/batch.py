"""What a training step gets: patches, and labels of the first of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from semiseg.batches.places import Place


@dataclass(frozen=True)
class Batch:
    """Augmented patches; the first `n` are labelled, and for the others there are no labels by construction.

    Attributes:
        images: `[B, channels, *S]`.
        labels: `[n, *S]`, class indices (int64); `n` may be 0 and may equal `B`.
        cases: case id of each of the `B` patches.
        places: where in its scan each of the `B` patches lies and how it was moved.
    """

    images: Tensor
    labels: Tensor
    cases: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()

    @property
    def n(self) -> int:
        """Number of labelled patches."""
        return self.labels.shape[0]

    @property
    def labelled(self) -> Tensor:
        """Images of the labelled patches, `[n, channels, *S]`."""
        return self.images[: self.n]

    @property
    def unlabelled(self) -> Tensor:
        """Images of the unlabelled patches, `[B - n, channels, *S]`."""
        return self.images[self.n :]
