"""CLD: calibrated label distribution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sampling import ClassConfidence, sampled, sampling_rates
from semiseg.ingredients.class_weights import FixedWeights, inverse_roots
from semiseg.ingredients.co_training import CoTrainingOptions, make_pair, supervised_pair
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.losses import kept_cross_entropy
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.modules import ModuleListOf

PAPER = "arXiv:2205.03644"
KNEE = {"update_iter": 2, "ramp": "epochs", "horizon": None}
"""What the authors' own code for the knee does where it differs."""


@register("cld", paper=PAPER, title="Calibrating label distribution for class-imbalanced segmentation (CLD)")
@register("cld-knee", paper=PAPER, title="CLD as its authors' code for the knee has it", options=KNEE)
class CLD(Method):
    """Two networks teach each other; rare classes weigh more, and voxels of well-learned classes count less often.

    Class weights omega_c = (max n / n_c)^(1/3) are fixed by the labelled voxels n. A network's confidence c in a class
    is its mean probability of that class on labelled voxels; a voxel that it predicts as class k counts in its cross
    loss with probability rate_k = ((1 - c_k) / max(1 - c))^(1/2), drawn anew every step (mask M). Source: Lin et al.,
    MICCAI 2022.

        L = L_sup,omega(A) + L_sup,omega(B) + weight * ramp * cross
        cross = mean over all voxels of M_A omega[y_B] CE(z_A, y_B) + M_B omega[y_A] CE(z_B, y_A), y = argmax z

    The mean divides neither by the weights nor by the voxels drawn. The defaults are those of xmed-lab/DHC for
    abdomens: confidences are measured over 8 steps, where the authors' code for the knee (xmed-lab/CLD-Semi,
    `cld-knee`) has 2, and the weight is 0.1, as there (DHC's option default: 1). That code also lowers the learning
    rate by a constant factor per epoch and, for half of the patches, keeps away from the ends of the first axis;
    schedule and patches are the engine's here, polynomial and uniform as in DHC where the run says so. A class
    without labelled voxels counts as one voxel, where the official weight is infinite.
    """

    class Config(HorizonOptions, CoTrainingOptions, MethodConfig):
        """Options of CLD."""

        update_iter: int = Field(8, ge=1, description="steps over which confidences are measured")
        momentum: float = Field(0.999, ge=0, lt=1, description="share of the old confidences, after the first ones")
        rate_exponent: float = Field(0.5, ge=0, description="exponent of the sampling rates; 0: all voxels count")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.nets = make_pair(c, build)
        voxels = torch.tensor(task.class_voxels, dtype=torch.float32)
        self.class_weights = FixedWeights(inverse_roots(voxels))
        confidence = ClassConfidence(task.classes, c.update_iter, c.within(c.momentum, task.steps / c.update_iter))
        self.confidence = ModuleListOf([confidence, deepcopy(confidence)])

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, omega = self.config, batch.n, self.class_weights.weight
        logits = [net(batch.images) for net in self.nets]
        pseudo = [hard_labels(z) for z in logits]
        for z, confidence in zip(logits, self.confidence, strict=True):
            confidence.update(z[:n].detach(), batch.labels, clock.step)
        masks = [sampled(y, rates) for y, rates in zip(pseudo, self._rates(), strict=True)]
        crossed = zip(logits, reversed(pseudo), masks, strict=True)
        a, b = (kept_cross_entropy(z, y, mask, omega) for z, y, mask in crossed)
        supervised = supervised_pair(logits, batch.labels, c.loss, (omega, omega))
        yield Loss({"supervised": supervised, "cross": a + b}, {"cross": c.weight * c.ramp_up(clock)})

    def predictors(self) -> Sequence[Predicting]:
        return [*self.nets]

    def observations(self) -> dict[str, Tensor]:
        found = {f"confidence_{name}": each.value for name, each in zip("ab", self.confidence, strict=True)}
        return found | {f"rate_{name}": rates for name, rates in zip("ab", self._rates(), strict=True)}

    def _rates(self) -> list[Tensor]:
        return [sampling_rates(each.value, self.config.rate_exponent) for each in self.confidence]
