"""Features of labelled images, some of every class and image, of which some are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from semiseg.ingredients.reduce import batch_cat, processes


class ImageMemory(nn.Module):
    """Up to `size` features per class of each of the `images` labelled images that were seen last.

    The published memory keeps all features of an image. Here a random choice of each class stands for them, with how
    many it was taken from, so that the size is fixed from the start and features are drawn as likely as from all. All
    processes hold the same memory, each draws for itself.

    Args:
        images: images that are remembered.
        classes: number of classes.
        size: features kept of a class and image, and drawn of a class.
        width: channels of the features.
    """

    vectors: Tensor
    kept: Tensor
    seen: Tensor

    def __init__(self, images: int, classes: int, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(images, classes, size, width))
        self.register_buffer("kept", torch.zeros(images, classes, dtype=torch.long))
        self.register_buffer("seen", torch.zeros(images, classes, dtype=torch.long))
        self.names: list[str | None] = [None] * images
        self.turn = list(range(images))
        """Places, the one that was written longest ago first."""

    def choose(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Random voxels of each class, at most `size`: places `[n, C, k]`, and which of them lie in the mask.

        Args:
            masks: voxels to choose from, `[n, C, V]`.
        """
        keys = torch.where(masks, torch.rand(masks.shape, device=masks.device), -1.0)
        chosen = keys.topk(min(self.vectors.shape[2], masks.shape[2]), 2)
        return chosen.indices, chosen.values >= 0

    @torch.no_grad()
    def replace(self, names: Sequence[str], features: Tensor, valid: Tensor, counts: Tensor) -> None:
        """Keep features instead of those that their images had.

        Args:
            names: of the images, n.
            features: `[n, C, k, Z]`, k at most `size`.
            valid: which of them there are, `[n, C, k]`, the first ones of a class.
            counts: voxels from which they were chosen, `[n, C]`.
        """
        features, valid, counts = (batch_cat(each) for each in (features.float(), valid, counts))
        for row, name in enumerate(_of_all(names)):
            place = self.names.index(name) if name in self.names else self.turn[0]
            self.names[place] = name
            self.turn.remove(place)
            self.turn.append(place)
            self.vectors[place].zero_()[:, : features.shape[2]] = features[row] * valid[row].unsqueeze(2)
            self.kept[place], self.seen[place] = valid[row].sum(1), counts[row]

    @torch.no_grad()
    def draw(self) -> Tensor:
        """`size` different features of every class that has as many, one class after the other, `[M, Z]`."""
        size = self.vectors.shape[2]
        there = torch.arange(size, device=self.kept.device) < self.kept.unsqueeze(2)
        weight = there * (self.seen / self.kept.clamp(min=1)).unsqueeze(2)
        drawn = []
        for label in (self.seen.sum(0) >= size).nonzero().flatten().tolist():
            at = torch.multinomial(weight[:, label].flatten(), size)
            drawn.append(self.vectors[:, label].flatten(0, 1)[at])
        return torch.cat(drawn) if drawn else self.vectors.new_zeros(0, self.vectors.shape[3])

    def extra_state(self) -> dict[str, Any]:
        """Which image has which place, and in which order they were written."""
        return {"names": list(self.names), "turn": list(self.turn)}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""
        self.names, self.turn = list(state["names"]), list(state["turn"])


def _of_all(names: Sequence[str]) -> Sequence[str]:
    if processes() == 1:
        return names
    found: list[Any] = [None] * processes()
    dist.all_gather_object(found, tuple(names))
    return [name for of_one in found for name in of_one]
