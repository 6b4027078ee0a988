"""Several networks as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision


def ensemble_probabilities(nets: Sequence[Callable[[Tensor], Tensor]], images: Tensor) -> Tensor:
    """Softmax of the mean of the networks' logits, `[B, C, *S]`."""
    total = full_precision(nets[0](images))
    for net in nets[1:]:
        total = total + full_precision(net(images))
    return torch.softmax(total / len(nets), 1)
