"""MLRPL: mutual learning with reliable pseudo-labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import soft_dice
from semiseg.ingredients.masked import BATCH_DICE
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.methods.mlrpl.reliability import reliability, reliable_cross_entropy
from semiseg.networks.base import Init
from semiseg.networks.blocks import Upsampling
from semiseg.networks.branches import BranchedNet

PAPER = "doi:10.1016/j.media.2024.103111"
OFFICIAL = {"ramp": "units150", "ramp_length": 40}
"""The published code, of 15,000 steps."""


@register("mlrpl", paper=PAPER, title="Mutual learning with reliable pseudo labels (MLRPL)")
@register("mlrpl-official", paper=PAPER, title="MLRPL as its published code has it", options=OFFICIAL)
class MLRPL(Method):
    """Two decoders that enlarge in different ways teach each other, each only where it is the surer one.

    A label counts the more, the better the features of the decoder that gives it agree with its own mean features of
    the classes. All patches take part, labelled ones with the decoders' labels. The supervised loss is Dice alone, as
    in Jiawei0o0/mutual-learning-with-reliable-pseudo-labels; the first decoder predicts. Source: Su et al., Medical
    Image Analysis 2024.

        L = a sum_k Dice(p_k, y) + w(t) (L_12 + L_21)
        L_ij = sum over voxels with H(p_i) > H(p_j) of r_j CE(p_i, argmax p_j), over their number
        r_j = mean over classes of 1 - (cos(f_j, prototype of f_j) - p_j)^2
    """

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of the published runs, with the ramp stretched to the length of the run."""

        upsampling: tuple[Upsampling, Upsampling] = Field(
            ("transposed", "nearest"), description="how each decoder enlarges; the first predicts"
        )
        labelled_weight: float = Field(0.5, ge=0, description="weight of the supervised loss")
        weight: float = Field(1.0, ge=0, description="weight of the mutual learning after the ramp-up")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        network = build(network="branches", upsamplings=config.upsampling, init=config.init)
        self.net = cast(BranchedNet, network)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n = self.config, batch.n
        first, second = self.net.decode_with_embeddings(batch.images)
        dices = [soft_dice(logits[:n], batch.labels, BATCH_DICE) for logits, _ in (first, second)]
        terms = {"supervised": torch.stack(dices).sum(), "mutual": _taught(first, second) + _taught(second, first)}
        weight = c.weight * c.ramp_up(replace(clock, step=clock.step + 1))
        yield Loss(terms, {"supervised": c.labelled_weight, "mutual": weight})

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)


def _taught(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """What the student has still to learn of the teacher; each is logits and features."""
    mask, weight = reliability(student[0], *teacher)
    return reliable_cross_entropy(student[0], hard_labels(teacher[0]), mask, weight)
