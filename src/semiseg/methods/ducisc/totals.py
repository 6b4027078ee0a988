"""Sums of loss terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor


class TotalOptions(BaseModel):
    """How terms add up; a method's options may include these."""

    total: Literal["normalised", "sum"] = Field(
        "sum",
        description="`normalised`: each term is divided by its own value, as the official code; `sum`: as printed",
    )


def self_normalised(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor | float]:
    """Weights with which each term is divided by its own value, so that `weights` are shares of a gradient.

    The gradient of the total is sum w grad log L (ShanghaiTech-IMPACT/DuCiSC). A term that is not above zero (or so
    little that its inverse overflows), or not a number, gets weight zero; a weight of 0 stays the number.
    """
    values = {name: term.detach() for name, term in terms.items()}
    return {
        name: torch.where(value > torch.finfo(value.dtype).tiny, weights[name] / value, 0.0) if weights[name] else 0.0
        for name, value in values.items()
    }
