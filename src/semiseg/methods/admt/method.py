"""AD-MT: alternate diverse teaching."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.ema import ema_update, ema_update_buffers
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.modes import evaluating
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.admt.alternation import Alternation, teacher_decay
from semiseg.methods.admt.teaching import Lesson, LessonOptions, fuse, heard, mixed
from semiseg.methods.admt.views import draw_boxes, jitter
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init
from semiseg.networks.modules import ModuleListOf

PAPER = "arXiv:2311.17325"
OFFICIAL = {"ramp": "units150", "ramp_length": 40, "horizon": None}
"""The published code, on the left atrium."""


@register("admt", paper=PAPER, title="Alternate diverse teaching for semi-supervised segmentation (AD-MT)")
@register("admt-official", paper=PAPER, title="AD-MT as its published code has it", options=OFFICIAL)
class ADMT(Method):
    """Two teachers are updated in turn, for periods of random length, and each sees the student learn another view.

    In the first one's periods the student sees unlabelled patches with changed grey values, in the second one's with
    boxes of each other. The teachers' predictions of the weak view (what the batch holds) are averaged, the surer one
    counting more; where they name different classes, the student's class holds if it is surer. As in ZhenZHAO/AD-MT
    the student is heard about the patch without the box, at the place where the box lies now (`mix_student` moves what
    it says as well). A step without a sure voxel has a loss of 0, where that code has NaN. Source: Zhao et al., ECCV
    2024.

        L = L_sup + w(t) mean over voxels with max q >= threshold of CE(student on the strong view, argmax q)
        q = a q_1 + (1 - a) q_2      a = exp(-H_1) / (exp(-H_1) + exp(-H_2)), H: entropy in bits
    """

    class Config(LessonOptions, RampOptions, HorizonOptions, MethodConfig):
        """Options; the defaults are those of the left atrium, with lengths that follow that of the run."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        weight: float = Field(2.0, ge=0, description="weight of the unlabelled term after the ramp-up")
        mix_student: bool = Field(False, description="what the student says is moved with the boxes, as labels are")
        box_beta: float = Field(4.0, gt=0, description="b of Beta(b, b), from which the size of the boxes is drawn")
        longest_period: int = Field(19, ge=1, description="largest number of steps that a teacher is updated in turn")
        warm_up: int = Field(40, ge=0, description="updates of each teacher, half of the steps, that copy the student")
        decay: float = Field(0.99, ge=0, lt=1, description="largest decay of the teachers, after their warm-up")
        init: Init = Field("default", description="initialisation of the convolutions")

        def smallest_batch(self) -> tuple[int, int]:
            return 1, 2

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.student = build(init=c.init)
        self.teachers = ModuleListOf(build(init=c.init).requires_grad_(False) for _ in range(2))
        self.alternation = Alternation(int(c.reach(c.longest_period, task.steps)), torch.initial_seed())
        self.warm_up, self.decay = c.reach(c.warm_up, task.steps / 2), c.within(c.decay, task.steps / 2)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, u, active = self.config, batch.n, batch.unlabelled, self.alternation.active(clock.step)
        if not len(u):
            yield Loss({"supervised": dice_ce(self.student(batch.labelled), batch.labels, c.loss)})
            self._follow(active, clock)
            return
        view, lesson, order, box = jitter(u), self._lesson(u, active), None, None
        if active == 1:
            order, box = torch.randperm(len(u), device=u.device), draw_boxes(u, c.box_beta)
            view, lesson = torch.where(box, u[order], u), mixed(lesson, order, box)

        logits = self.student(torch.cat([batch.images, view]))
        opinion = logits[n : n + len(u)].detach()
        if c.mix_student and order is not None and box is not None:
            opinion = torch.where(box, opinion[order], opinion)
        supervised = dice_ce(logits[:n], batch.labels, c.loss)
        unlabelled = c.unlabelled(logits[n + len(u) :], heard(lesson, opinion))
        weight = c.weight * c.ramp_up(clock)
        yield Loss({"supervised": supervised, "unlabelled": unlabelled}, {"unlabelled": weight})
        self._follow(active, clock)

    def predictors(self) -> Sequence[Predicting]:
        return (self.student,)

    def extra_state(self) -> dict[str, Any]:
        return {"alternation": self.alternation.seed}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.alternation = Alternation(self.alternation.longest, state["alternation"])

    @torch.no_grad()
    def _lesson(self, images: Tensor, active: int) -> Lesson:
        """Labels of both teachers; the idle one sees the patches in evaluation mode."""
        with evaluating(self.teachers[1 - active]):
            first, second = (teacher(images) for teacher in self.teachers)
        return fuse(first, second)

    def _follow(self, active: int, clock: Clock) -> None:
        """The active teacher moves towards the student, running statistics included."""
        decay = teacher_decay(clock.step, self.warm_up, self.decay)
        ema_update(self.teachers[active], self.student, decay)
        ema_update_buffers(self.teachers[active], self.student, decay)
