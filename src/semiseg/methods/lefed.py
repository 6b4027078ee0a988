"""LeFeD: learning from the feature discrepancy of two decoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.consistency import probability_mse
from semiseg.ingredients.ensemble import Chosen, PairOptions, of_pair
from semiseg.ingredients.feedback import ENCODING_DOC, Encoding, discrepancy
from semiseg.ingredients.losses import FORMS, cross_entropy, soft_dice
from semiseg.ingredients.ramps import RAMP_DOC, RampOptions, RampUnit
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init
from semiseg.networks.lefed import Decoded, GatedDecoderOptions, LeFeDNet

Weight = Annotated[float, Field(ge=0)]
OFFICIAL = {"loss_b": "dice", "encoding": "b_minus_a", "encoder_dropout": 0.3, "decoder_dropout": 0.5}
"""What the published code does where it differs from the paper, or from the run's architecture."""


@register("lefed", paper="arXiv:2309.14819", title="Consistency-guided differential decoding (LeFeD)")
@register("lefed-official", paper="arXiv:2309.14819", title="LeFeD as its published code has it", options=OFFICIAL)
class LeFeD(Method):
    """Two unlike decoders on one encoder; what still tells their features apart is fed back to the encoder.

    Decoder A learns with Dice and deep supervision, decoder B with cross-entropy, other up-sampling, and gated by A; on
    all patches their probabilities are drawn together. A batch is presented several times, with an optimiser step
    each; from the second time on, the discrepancy of the decoders' features of the time before is added to the
    encoder's features at every scale. Decoder A predicts, in one plain pass.

    Losses and sign of the feedback follow the paper, the network follows the code (maxwell0027/LeFeD), except for its
    dropout, which is that of the architecture. The feedback is a thousandth of the features, which bf16 would round
    away, so `precision: auto` is float32 here. With more than two classes, which the code does not know, Dice is the
    mean over the foreground classes. Networks with other than five scales use the first side weights, the last one
    again where there are too few.

        L   = Dice(p_A, y) + CE(p_B, y) + sum_k s_k Dice(side_k of A, y) + w mean (p_A - p_B)^2
        x_k <- x_k + f (a_k - b_k)          encoder features, from the second presentation of a batch on
    """

    precision = "fp32"

    class Config(GatedDecoderOptions, PairOptions, RampOptions, MethodConfig):
        """Options; each row of the paper's ablations is one or two of them."""

        passes: int = Field(3, ge=1, description="times that a batch is presented; 1: no feedback")
        updates: Literal["each", "last"] = Field(
            "each", description="an optimiser step for each presentation, or one with the gradients of all"
        )
        feedback: float = Field(1e-3, ge=0, description="factor of the fed-back discrepancy; 0: none")
        encoding: Encoding = Field("a_minus_b", description=ENCODING_DOC)
        scales: int | None = Field(
            None, ge=0, description="scales with feedback, from full resolution on; null: all, the bottleneck included"
        )
        loss_b: Literal["ce", "dice"] = Field(
            "ce", description="loss of decoder B: cross-entropy, or Dice as decoder A"
        )
        deep_supervision: bool = Field(True, description="Dice of side heads at all scales of decoder A")
        side_weights: tuple[Weight, ...] = Field(
            (0.8, 0.6, 0.4, 0.2, 0.1), min_length=1, description="their weights, from full resolution to the bottleneck"
        )
        consistency_on: Literal["all", "unlabelled"] = Field(
            "all", description="patches on which the decoders shall agree; the paper's formula: unlabelled"
        )
        weight: float = Field(1.0, ge=0, description="weight of the consistency after the ramp-up")
        ramp: RampUnit = Field("none", description=RAMP_DOC)
        init: Init = Field("default", description="initialisation of the convolutions")
        predict_with: Chosen = Field("a", description="decoders used for prediction; both: the mean of probabilities")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        network = build(
            network="lefed",
            init=c.init,
            upsampling_a=c.upsampling_a,
            upsampling_b=c.upsampling_b,
            cross_gate=c.cross_gate,
            side_heads=c.deep_supervision,
            encoder_dropout=c.encoder_dropout,
            decoder_dropout=c.decoder_dropout,
        )
        self.net = cast(LeFeDNet, network)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        weight = c.weight * c.ramp_up(clock)
        feedback: list[Tensor] = []
        for presentation in range(1, c.passes + 1):
            loss, feedback = self._presented(batch, feedback, weight)
            yield loss if c.updates == "each" else replace(loss, update=presentation == c.passes)

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)

    def predict(self, images: Tensor) -> Tensor:
        chosen = self.config.predict_with
        if chosen == "a":
            return probabilities(self.net(images))
        out = self.net.decode_both(images, sides_of=0)
        found = [probabilities(z) for z in of_pair((out.logits_a, out.logits_b), chosen)]
        return torch.stack(found).mean(0)

    def _presented(self, batch: Batch, feedback: Sequence[Tensor], weight: float) -> tuple[Loss, list[Tensor]]:
        """Losses of one presentation of the batch, and the feedback for the next one (from before the update)."""
        c, n = self.config, batch.n
        out = self.net.decode_both(batch.images, feedback, sides_of=n)
        first = n if c.consistency_on == "unlabelled" else 0
        terms = {
            "supervised": _dice(out.logits_a[:n], batch.labels),
            "supervised_b": (cross_entropy if c.loss_b == "ce" else _dice)(out.logits_b[:n], batch.labels),
            "consistency": probability_mse(out.logits_a[first:], out.logits_b[first:], mutual=True),
        }
        if out.sides:
            weights = [c.side_weights[min(k, len(c.side_weights) - 1)] for k in range(len(out.sides))]
            parts = [w * _dice(z[:n], batch.labels) for w, z in zip(weights, out.sides, strict=True)]
            terms["deep"] = torch.stack(parts).sum()
        return Loss(terms, {"consistency": weight}), self._feedback(out)

    def _feedback(self, out: Decoded) -> list[Tensor]:
        c = self.config
        if c.feedback == 0:
            return []
        pairs = list(zip(out.features_a, out.features_b, strict=True))[: c.scales]
        return [c.feedback * discrepancy(a, b, c.encoding) for a, b in pairs]


def _dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Squared Dice over the whole batch, mean over the foreground classes."""
    return soft_dice(logits, labels, FORMS["la"])
