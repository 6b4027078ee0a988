"""What a network predicts on average, and logits without that bias (DebiasPL, arXiv:2201.01490)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.reduce import batch_sum

Prior = Literal["class", "position"]
PRIOR_DOC = (
    "what the running mean of the predictions is kept for: every `class`, or every class and voxel `position` of the "
    "patch (one value per class and voxel of a patch in memory and checkpoints)"
)


class PredictionPrior(nn.Module):
    """Running mean q of a network's class probabilities; it starts at 1/C and is part of the state dict.

    Args:
        classes: number of classes C.
        spatial_dims: 2 or 3.
        kind: `class`, one value per class; `position`, one per class and voxel of the patch, so that all patches must
            have one size.
        momentum: share of the old value.
    """

    value: Tensor

    def __init__(self, classes: int, spatial_dims: int, kind: Prior, momentum: float) -> None:
        super().__init__()
        self.kind, self.momentum = kind, momentum
        # Until the first update one value stands for all positions.
        self.register_buffer("value", torch.full((1, classes, *(1,) * spatial_dims), 1 / classes))

    def bias(self, tau: float = 1.0) -> Tensor:
        """The product tau ln q, `[1, C, *S]` or `[1, C, 1 ...]`; subtracted from logits it takes the bias off."""
        return tau * self.value.clamp(min=torch.finfo(self.value.dtype).tiny).log()

    @torch.no_grad()
    def update(self, logits: Tensor) -> None:
        """Follow p, the mean softmax of `logits` `[B, C, *S]` over the samples: q <- momentum q + (1 - momentum) p.

        With `class` it is the mean over the voxels too. Without samples nothing changes.
        """
        p = torch.softmax(full_precision(logits.detach()), 1)
        if self.kind == "class":
            p = p.mean(tuple(range(2, p.ndim)), keepdim=True)
        total, samples = batch_sum(p.sum(0, keepdim=True)), batch_sum(p.new_full((), len(p)))
        mean = (total / samples.clamp(min=1)).to(self.value.dtype)
        moved = torch.lerp(mean, self.value.expand_as(mean), self.momentum)
        self.value = torch.where(samples > 0, moved, self.value)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Makes room for positions, whose number the first patch told."""
        saved = state_dict.get(f"{prefix}value")
        if saved is not None:
            self.value = torch.empty_like(saved, device=self.value.device)
        super()._load_from_state_dict(state_dict, prefix, *args)
