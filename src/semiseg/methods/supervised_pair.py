"""The control of methods that predict with two networks: two of them, labelled patches only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init
from semiseg.networks.modules import ModuleListOf


@register(
    "supervised_pair", paper="doi:10.1109/34.58871", title="Neural network ensembles: a pair, trained on labels alone"
)
class SupervisedPair(Method):
    """Two networks that start differently learn from the labelled scans alone; their logits are averaged.

    An average of two networks is better than either, without an unlabelled scan. This is the control of methods that
    predict with two networks: what they gain over `supervised` and not over this is the gain of the average. Each of
    the two is trained as by `supervised`, on the same patches, from weights of its own draw.
    Source: Hansen and Salamon, IEEE TPAMI 1990.

        L = L_sup(A) + L_sup(B),   L_sup = (CE(p, y) + Dice(p, y)) / 2 over the labelled patches; loss: ssl4mis
    """

    uses_unlabelled = False

    class Config(MethodConfig):
        """Options, those of `supervised`."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        init: Init = Field("default", description="initialisation of the convolutions, drawn for each network")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.nets = ModuleListOf([build(init=config.init), build(init=config.init)])

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        a, b = (dice_ce(net(batch.labelled), batch.labels, self.config.loss) for net in self.nets)
        yield Loss({"supervised": a, "supervised_b": b})

    def predictors(self) -> Sequence[Predicting]:
        return [*self.nets]
