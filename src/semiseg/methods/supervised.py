"""The baseline of every comparison: one network, labelled patches only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init


@register("supervised", paper="doi:10.1109/3DV.2016.79", title="Supervised training on the labelled scans alone")
class Supervised(Method):
    """Cross-entropy plus Dice on the labelled scans; the unlabelled ones are not used.

    The control of every comparison and, with all labels, its upper bound. `loss` takes the forms of three code bases.

        L = (CE(p, y) + Dice(p, y)) / 2          over the labelled patches; loss: ssl4mis
    """

    uses_unlabelled = False

    class Config(MethodConfig):
        """Options of the supervised baseline."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.net = build(init=config.init)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        yield Loss({"supervised": dice_ce(self.net(batch.labelled), batch.labels, self.config.loss)})

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)
