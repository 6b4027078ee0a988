"""LeFeD: learning from the feature discrepancy of two decoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.consistency import probability_mse
from semiseg.ingredients.ensemble import Chosen, PairOptions, of_pair
from semiseg.ingredients.losses import FORMS, cross_entropy, soft_dice
from semiseg.ingredients.ramps import RAMP_DOC, RampOptions, RampUnit
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.methods.lefed.feedback import ENCODING_DOC, Encoding, feature_difference
from semiseg.networks.lefed import GatedDecoderOptions, LeFeDNet

OFFICIAL = {"loss_b": "dice", "encoding": "b_minus_a", "encoder_dropout": 0.3, "decoder_dropout": 0.5}
"""What the published code does where it differs from the paper, or from the run's architecture."""
SIDE_WEIGHTS = (0.8, 0.6, 0.4, 0.2, 0.1)
"""Weights of the side heads, from full resolution to the bottleneck; the last one again where there are more."""


@register("lefed", paper="arXiv:2309.14819", title="Consistency-guided differential decoding (LeFeD)")
@register("lefed-official", paper="arXiv:2309.14819", title="LeFeD as its published code has it", options=OFFICIAL)
class LeFeD(Method):
    """Two unlike decoders on one encoder; what still tells their features apart is fed back to the encoder.

    Decoder A learns with Dice and deep supervision, decoder B with cross-entropy, other up-sampling, and gated by A; on
    all patches their probabilities are drawn together. A batch is presented several times, with an optimiser step
    each; from the second time on, the difference of the decoders' features of the time before is added to the
    encoder's features at every scale. Decoder A predicts, in one plain pass.

        L   = Dice(p_A, y) + CE(p_B, y) + sum_k s_k Dice(side_k of A, y) + w mean (p_A - p_B)^2
        x_k <- x_k + f (a_k - b_k)          encoder features, from the second presentation of a batch on
    """

    precision = "fp32"

    class Config(GatedDecoderOptions, PairOptions, RampOptions, MethodConfig):
        """Options; each row of the paper's ablations is one or two of them."""

        passes: int = Field(3, ge=1, description="times that a batch is presented; 1: no feedback")
        feedback: float = Field(1e-3, ge=0, description="factor of the fed-back discrepancy; 0: none")
        encoding: Encoding = Field("a_minus_b", description=ENCODING_DOC)
        scales: int | None = Field(
            None, ge=0, description="scales with feedback, from full resolution on; null: all, the bottleneck included"
        )
        loss_b: Literal["ce", "dice"] = Field("ce", description="loss of decoder B: cross-entropy, or Dice as A's")
        deep_supervision: bool = Field(True, description="Dice of side heads at all scales of decoder A")
        weight: float = Field(1.0, ge=0, description="weight of the consistency after the ramp-up")
        ramp: RampUnit = Field("none", description=RAMP_DOC)
        predict_with: Chosen = Field("a", description="decoders used for prediction; both: the mean of probabilities")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        decoders = {name: getattr(config, name) for name in GatedDecoderOptions.model_fields}
        self.net = cast(LeFeDNet, build(network="lefed", side_heads=config.deep_supervision, **decoders))

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        feedback: list[Tensor] = []
        for _ in range(self.config.passes):
            loss, feedback = self._present(batch, feedback, self.config.weight * self.config.ramp_up(clock))
            yield loss

    def _present(self, batch: Batch, feedback: Sequence[Tensor], weight: float) -> tuple[Loss, list[Tensor]]:
        """Losses of one presentation of the batch, and the feedback for the next one (from before the update)."""
        c, n, y = self.config, batch.n, batch.labels
        out = self.net.decode_both(batch.images, feedback, sides_of=n)
        terms = {
            "supervised": _dice(out.logits_a[:n], y),
            "supervised_b": (cross_entropy if c.loss_b == "ce" else _dice)(out.logits_b[:n], y),
            "consistency": probability_mse(out.logits_a, out.logits_b, mutual=True),
        }
        if out.sides:
            weights = SIDE_WEIGHTS + SIDE_WEIGHTS[-1:] * len(out.sides)
            terms["deep"] = torch.stack([s * _dice(z[:n], y) for s, z in zip(weights, out.sides, strict=False)]).sum()
        pairs = list(zip(out.features_a, out.features_b, strict=True))[: c.scales] if c.feedback else []
        return Loss(terms, {"consistency": weight}), [c.feedback * feature_difference(*p, c.encoding) for p in pairs]

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)

    def predict(self, images: Tensor) -> Tensor:
        if self.config.predict_with == "a":
            return probabilities(self.net(images))
        out = self.net.decode_both(images, sides_of=0)
        found = [probabilities(z) for z in of_pair((out.logits_a, out.logits_b), self.config.predict_with)]
        return torch.stack(found).mean(0)


def _dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Squared Dice over the whole batch, mean over the foreground classes."""
    return soft_dice(logits, labels, FORMS["la"])
