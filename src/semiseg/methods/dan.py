"""DAN: a deep adversarial network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from pydantic import Field
from torch import nn

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.discrimination import deception_loss, discrimination_loss
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.modes import evaluating
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import (
    Clock,
    Loss,
    Method,
    MethodConfig,
    NetworkBuilder,
    OwnOptimiser,
    Predicting,
    Task,
    register,
)
from semiseg.networks.base import Init
from semiseg.networks.discriminator import Discriminator


@register("dan", paper="doi:10.1007/978-3-319-66179-7_47", title="Deep adversarial networks for unannotated images")
class DAN(Method):
    """A discriminator sees an image with its prediction and says whether it is labelled; the network makes it err.

    As in HiLab-git/SSL4MIS, which the tables of medical papers have: the discriminator has Adam with a rate of its own
    and is updated after the network, whose new predictions of all patches it sees in evaluation mode. Source: Zhang et
    al., MICCAI 2017.

        L   = L_sup + w(t) CE(D(p, x), labelled)        D on unlabelled patches, without dropout
        L_D = CE(D(p, x), labelled or not)              on all, with dropout
    """

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of SSL4MIS, with the ramp stretched to the length of the run."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        weight: float = Field(0.1, ge=0, description="weight of the adversarial term after the ramp-up")
        discriminator_lr: float = Field(1e-4, gt=0, description="constant learning rate of the discriminator's Adam")
        discriminator_width: int = Field(64, ge=1, description="its channels after the first convolution")
        init: Init = Field("default", description="initialisation of the network's convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.net = build(init=config.init)
        self.discriminator = Discriminator(task.classes, task.channels, task.spatial_dims, config.discriminator_width)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, x = self.config, batch.n, batch.images
        logits = self.net(x)
        terms = {"supervised": dice_ce(logits[:n], batch.labels, c.loss)}
        if len(x) == n:
            yield Loss(terms)
            return
        terms["adversarial"] = deception_loss(self.discriminator, probabilities(logits[n:]), x[n:])
        yield Loss(terms, {"adversarial": c.weight * c.ramp_up(clock)})

        with torch.no_grad(), evaluating(self.net):
            p = probabilities(self.net(x))
        yield Loss({"discriminator": discrimination_loss(self.discriminator, p, x, n)}, group="discriminator")

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"main": list(self.net.parameters()), "discriminator": list(self.discriminator.parameters())}

    def optimisers(self) -> Mapping[str, OwnOptimiser]:
        return {"discriminator": OwnOptimiser(self.config.discriminator_lr)}
