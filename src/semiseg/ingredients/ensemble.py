"""Several networks as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision

Average = Literal["logits", "probabilities"]


def ensemble_probabilities(
    nets: Sequence[Callable[[Tensor], Tensor]], images: Tensor, average: Average = "logits"
) -> Tensor:
    """Softmax of the mean of the networks' logits, `[B, C, *S]`, or the mean of their softmaxes."""

    def answer(net: Callable[[Tensor], Tensor]) -> Tensor:
        logits = full_precision(net(images))
        return logits if average == "logits" else torch.softmax(logits, 1)

    total = answer(nets[0])
    for net in nets[1:]:
        total = total + answer(net)
    return torch.softmax(total / len(nets), 1) if average == "logits" else total / len(nets)
