"""Several networks as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision, probabilities

Average = Literal["logits", "probabilities"]
Chosen = Literal["both", "a", "b"]
T = TypeVar("T")


class PairOptions(BaseModel):
    """Which of two networks predict; a method's options may include these."""

    predict_with: Chosen = Field("both", description="networks used for prediction")


def of_pair(nets: Iterable[T], chosen: Chosen) -> list[T]:
    """Those of networks A and B that are `chosen`; one network in both roles counts once."""
    found = [*nets]
    return {"both": found, "a": found[:1], "b": found[-1:]}[chosen]


def ensemble_probabilities(
    nets: Sequence[Callable[[Tensor], Tensor]], images: Tensor, average: Average = "logits"
) -> Tensor:
    """Softmax of the mean of the networks' logits, `[B, C, *S]`, or the mean of their softmaxes."""

    def answer(net: Callable[[Tensor], Tensor]) -> Tensor:
        logits = net(images)
        return full_precision(logits) if average == "logits" else probabilities(logits)

    total = answer(nets[0])
    for net in nets[1:]:
        total = total + answer(net)
    return torch.softmax(total / len(nets), 1) if average == "logits" else total / len(nets)
