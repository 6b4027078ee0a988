"""UA-MT: uncertainty-aware mean teacher."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.confidence import low_entropy, monte_carlo_mean, relative_entropy_limit
from semiseg.ingredients.consistency import add_noise
from semiseg.ingredients.ema import Teacher
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.masked import masked_probability_mse
from semiseg.ingredients.ramps import RampOptions, sigmoid_ramp
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init


@register("uamt", paper="arXiv:1907.07034", title="Uncertainty-aware self-ensembling model")
class UAMT(Method):
    """The teacher constrains the student only where the entropy of its Monte-Carlo mean is low.

    Total loss: supervised + weight * ramp * consistency, where the consistency is
    sum(M (softmax(student) - softmax(teacher))^2) / (2 sum(M)) over the unlabelled voxels and all classes. M marks the
    voxels where the entropy of the mean of 8 noisy teacher passes with dropout is below (3/4 + r/4) ln 2; r rises from
    exp(-5) to 1 over the training. Without such a voxel the consistency is zero. The student predicts.

    The paper divides by the number of certain voxels, the official code (yulequan/UA-MT) by twice that, for any number
    of classes, as here. So is ln 2 the largest entropy, also with more than two classes, where `entropy_max: classes`
    takes ln C. The form of xmed-lab/DHC has `loss: dhc_half` and `counts: epochs`.

        L      = L_sup + w(t) L_cons
        L_cons = sum M (p_student - p_teacher)^2 / (2 sum M)      M: entropy of the teacher's mean < (3/4 + r/4) ln 2
    """

    class Config(HorizonOptions, RampOptions, MethodConfig):
        """Options; the defaults are those of the official runs, with the ramp stretched to the length of the run."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        weight: float = Field(0.1, ge=0, description="weight of the consistency after the ramp-up")
        counts: Literal["steps", "epochs"] = Field(
            "steps", description="what the limit of the entropy and the warm-up of the teacher count"
        )
        entropy_max: Literal["two", "classes"] = Field("two", description="largest entropy: ln 2, or ln of the classes")
        passes: int = Field(8, ge=2, multiple_of=2, description="Monte-Carlo passes of the teacher")
        noise: float = Field(0.1, ge=0, description="deviation of the teacher's input noise, cut at two deviations")
        decay: float = Field(0.99, ge=0, lt=1, description="largest decay of the teacher, after its warm-up")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.student = build(init=config.init)
        self.teacher = Teacher(
            build(init=config.init), config.within(config.decay, task.steps), dropout=True
        )  # the first update copies

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, images = self.config, batch.unlabelled
        logits = self.student(batch.images)
        supervised = dice_ce(logits[: batch.n], batch.labels, c.loss)
        consistency = torch.zeros_like(supervised)
        if len(images):
            target = self._teacher_probabilities(add_noise(images, torch.randn_like(images), c.noise))
            mask = self._low_entropy_mask(images, clock)
            consistency = masked_probability_mse(logits[batch.n :], target, mask) * logits.shape[1] / 2
        weight = c.weight * c.ramp_up(clock)
        yield Loss({"supervised": supervised, "consistency": consistency}, {"consistency": weight})
        self.teacher.update(self.student, clock.step if c.counts == "steps" else clock.epoch)

    def predictors(self) -> Sequence[Predicting]:
        return (self.student,)

    def _teacher_probabilities(self, images: Tensor) -> Tensor:
        return torch.softmax(full_precision(self.teacher(images)), 1)

    def _low_entropy_mask(self, images: Tensor, clock: Clock) -> Tensor:
        """Unlabelled voxels whose entropy is below the limit, `[B - n, *S]`."""
        c = self.config
        (mean,) = monte_carlo_mean(lambda x: [self._teacher_probabilities(x)], images, c.passes, c.noise)
        done, whole = (clock.step, clock.steps) if c.counts == "steps" else (clock.epoch, clock.epochs - 1)
        limit = relative_entropy_limit(sigmoid_ramp(done, whole))
        return low_entropy(mean, limit if c.entropy_max == "classes" else limit * math.log(2) / math.log(mean.shape[1]))
