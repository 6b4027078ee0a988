"""DePL: debiased pseudo-labels for co-training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce, kept_cross_entropy
from semiseg.ingredients.prior import PRIOR_DOC, PredictionPrior, Prior
from semiseg.ingredients.pseudo_labels import confident_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init
from semiseg.networks.modules import ModuleListOf


@register("depl", paper="arXiv:2201.01490", title="Debiased learning from naturally imbalanced pseudo-labels")
class DePL(Method):
    """Two networks teach each other with confident labels from which each one's own average prediction is taken off.

    Total loss: supervised(A) + supervised(B) + weight * ramp * cross. A network labels the patches by the arg-max of
    softmax(z - tau ln q), q the running mean of its softmaxes on unlabelled patches before this step; labels with a
    probability of at least `threshold` count. cross is the mean over *all* voxels, labelled ones included, of
    keep_B CE(z_A, y_B) + keep_A CE(z_B, y_A).

    The paper is about classification; this is the form of xmed-lab/DHC for segmentation. There q is kept per voxel
    position of the patch, which for random patches is a blurred position prior; that is the default, and `prior: class`
    is the paper's vector, independent of the patch size. The paper adds tau ln q to the logits that are trained
    (`marginal: true`, with q of the network that is trained, after its update); DHC computes such logits and never
    uses them, so the default is without. Momentum and threshold are DHC's; the paper has 0.999 and 0.7.

        L       = L_sup(A) + L_sup(B) + w(t) L_cross
        L_cross = mean(keep_B CE(z_A, y_B) + keep_A CE(z_B, y_A))        y = argmax softmax(z - tau ln q)
    """

    class Config(HorizonOptions, RampOptions, MethodConfig):
        """Options; the defaults are those of xmed-lab/DHC, with the weight of its documented run."""

        loss: DiceCE = Field("dhc", description=DICE_CE_DOC)
        weight: float = Field(0.1, ge=0, description="weight of the cross loss after the ramp-up")
        prior: Prior = Field("position", description=PRIOR_DOC)
        tau: float = Field(1.0, ge=0, description="strength of the debiasing")
        momentum: float = Field(0.99, ge=0, lt=1, description="share of the old running mean")
        threshold: float = Field(0.9, ge=0, le=1, description="least debiased probability of a label that counts")
        marginal: bool = Field(False, description="add tau ln q to the logits that the cross loss trains")
        cross_on: Literal["all", "unlabelled"] = Field("all", description="patches with the cross loss")
        init_a: Init = Field("kaiming", description="initialisation of the first network's convolutions")
        init_b: Init = Field("xavier", description="the same of the second network")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.nets = ModuleListOf([build(init=c.init_a), build(init=c.init_b)])
        self.priors = ModuleListOf(
            PredictionPrior(task.classes, task.spatial_dims, c.prior, c.within(c.momentum, task.steps))
            for _ in self.nets
        )

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        first = 0 if c.cross_on == "all" else batch.n
        logits = [net(batch.images) for net in self.nets]
        found = [confident_labels(z[first:] - q.bias(c.tau)) for z, q in zip(logits, self.priors, strict=True)]
        for z, prior in zip(logits, self.priors, strict=True):
            prior.update(z[batch.n :])
        crossed = zip(logits, self.priors, reversed(found), strict=True)
        parts = [
            kept_cross_entropy(
                z[first:] + q.bias(c.tau) if c.marginal else z[first:], target, confidence >= c.threshold
            )
            for z, q, (confidence, target) in crossed
        ]
        a, b = (dice_ce(z[: batch.n], batch.labels, c.loss) for z in logits)
        weight = c.weight * c.ramp_up(clock)
        yield Loss({"supervised": a + b, "cross": parts[0] + parts[1]}, {"cross": weight})

    def predictors(self) -> Sequence[Predicting]:
        return [*self.nets]

    def observations(self) -> dict[str, Tensor]:
        return {f"prior_{name}": q.value.flatten(2).mean(2)[0] for name, q in zip("ab", self.priors, strict=True)}
