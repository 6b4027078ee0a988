"""Mean teacher: agree with the moving average of oneself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field

from semiseg.batches.batch import Batch
from semiseg.ingredients.consistency import ConsistencyOptions, noisy, probability_mse
from semiseg.ingredients.ema import StudentTeacherOptions, make_teacher
from semiseg.ingredients.losses import dice_ce
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register


@register("mean_teacher", paper="arXiv:1703.01780", title="Mean teachers are better role models")
class MeanTeacher(Method):
    """The student gives the same probabilities as its moving average, which sees the image with noise.

    The segmentation form of HiLab-git/SSL4MIS: the student sees the clean image, and the squared difference is taken
    over the unlabelled patches. Source: Tarvainen and Valpola, NeurIPS 2017.

        L = L_sup + w(t) mean (p_student - p_teacher)^2
        teacher <- a teacher + (1 - a) student          after every step
    """

    class Config(ConsistencyOptions, StudentTeacherOptions, MethodConfig):
        """Options; the defaults are those of the official runs, with the ramp stretched to the length of the run."""

        consistency_start: int = Field(
            0, ge=0, description="first step with consistency; the official 2D script waits until step 1000"
        )
        noise: float = Field(0.1, ge=0, description="deviation of the teacher's input noise, cut at two deviations")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.student = build(init=config.init)
        self.teacher = make_teacher(build(init=config.init), config, task.steps)  # the first update copies

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = self.student(batch.images)
        supervised = dice_ce(logits[: batch.n], batch.labels, c.loss)
        consistency = torch.zeros_like(supervised)
        if clock.step >= c.consistency_start and len(batch.unlabelled):
            target = self.teacher(noisy(batch.unlabelled, c.noise))
            consistency = probability_mse(logits[batch.n :], target)
        weight = c.weight * c.ramp_up(clock)
        yield Loss({"supervised": supervised, "consistency": consistency}, {"consistency": weight})
        self.teacher.update(self.student, clock.step)

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)
