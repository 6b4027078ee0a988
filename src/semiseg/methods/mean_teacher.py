"""Mean teacher: agree with the moving average of oneself."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.ingredients.consistency import add_noise, probability_mse
from semiseg.ingredients.ema import STATISTICS_DOC, Statistics, Teacher
from semiseg.ingredients.ensemble import ensemble_probabilities
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.ramps import LENGTH_DOC, RAMP_DOC, RampUnit, ramp_up
from semiseg.methods.base import Batch, Clock, Loss, Method, MethodConfig, NetworkBuilder, Task, register
from semiseg.networks.base import Init


@register("mean_teacher", paper="arXiv:1703.01780", title="Mean teachers are better role models")
class MeanTeacher(Method):
    """The student gives the same probabilities as its moving average, which sees the image with noise.

    The segmentation form of HiLab-git/SSL4MIS: the student sees the clean image, and the squared difference is taken
    over the unlabelled patches. Source: Tarvainen and Valpola, NeurIPS 2017.

        L = L_sup + w(t) mean (p_student - p_teacher)^2
        teacher <- a teacher + (1 - a) student          after every step
    """

    class Config(MethodConfig):
        """Options; the defaults are those of the official runs, with the ramp stretched to the length of the run."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        weight: float = Field(0.1, ge=0, description="weight of the consistency after the ramp-up")
        ramp: RampUnit = Field("run", description=RAMP_DOC)
        ramp_length: float | None = Field(None, ge=0, description=LENGTH_DOC)
        consistency_start: int = Field(
            0, ge=0, description="first step with consistency; the official 2D script waits until step 1000"
        )
        decay: float = Field(0.99, ge=0, lt=1, description="largest decay of the teacher, after its warm-up")
        noise: float = Field(0.1, ge=0, description="deviation of the teacher's input noise, cut at two deviations")
        student_noise: float = Field(0.0, ge=0, description="the same for the student; the paper adds noise to both")
        on_labelled: bool = Field(False, description="consistency on labelled patches too, as in the paper")
        copy_start: bool = Field(
            False,
            description="start the teacher as a copy of the student, not as a draw of its own; the first update copies",
        )
        teacher_statistics: Statistics = Field("batch", description=STATISTICS_DOC)
        teacher_dropout: bool = Field(True, description="keep the teacher's dropout on during training")
        predict_with: Literal["student", "teacher"] = Field("student", description="network used for prediction")
        init: Init = Field("default", description="initialisation of the convolutions")

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.config = config
        self.student = build(init=config.init)
        start = deepcopy(self.student) if config.copy_start else build(init=config.init)
        self.teacher = Teacher(start, config.decay, config.teacher_statistics, dropout=config.teacher_dropout)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = self.student(_noisy(batch.images, c.student_noise))
        supervised = dice_ce(logits[: batch.n], batch.labels, c.loss)
        first = 0 if c.on_labelled else batch.n
        consistency = torch.zeros_like(supervised)
        if clock.step >= c.consistency_start and first < len(logits):
            target = self.teacher(_noisy(batch.images[first:], c.noise))
            consistency = probability_mse(logits[first:], target)
        weight = c.weight * ramp_up(clock, c.ramp, c.ramp_length)
        yield Loss({"supervised": supervised, "consistency": consistency}, {"consistency": weight})
        self.teacher.update(self.student, clock.step)

    def predict(self, images: Tensor) -> Tensor:
        return ensemble_probabilities([self.teacher if self.config.predict_with == "teacher" else self.student], images)


def _noisy(images: Tensor, deviation: float) -> Tensor:
    return add_noise(images, torch.randn_like(images), deviation) if deviation else images
