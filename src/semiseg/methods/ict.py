"""ICT: interpolation consistency training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.ema import StudentTeacherOptions, make_teacher
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.mixing import PAIRS_DOC, Pairs, partners
from semiseg.ingredients.mixtures import draw_beta, mixup
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init

PRINTED = {"pairs": "all", "share": "batch"}


@register("ict-paper", paper="arXiv:1903.03825", title="ICT as for classification", options=PRINTED)
@register("ict", paper="arXiv:1903.03825", title="Interpolation consistency training")
class ICT(Method):
    """What the student says of a blend of two unlabelled patches is the blend of what the teacher says of each.

    In HiLab-git/SSL4MIS, which the tables of medical papers have, the two halves of the unlabelled patches are blended
    and the student sees no plain one; for classification (`ict-paper`) each has a partner, with one share for all.
    Source: Verma et al., IJCAI 2019.

        L = L_sup + w(t) mean (student(m u_1 + (1 - m) u_0) - m p_1 - (1 - m) p_0)^2
        p_0, p_1: teacher on u_0, u_1       m ~ Beta(a, a)
    """

    class Config(RampOptions, StudentTeacherOptions, MethodConfig):
        """Options; the defaults are those of SSL4MIS, with the ramp stretched to the length of the run."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        weight: float = Field(0.1, ge=0, description="weight of the consistency after the ramp-up")
        beta: float = Field(0.2, gt=0, description="both parameters of the distribution of the share")
        share: Literal["pair", "batch"] = Field("pair", description="one draw of the share for each pair, or for all")
        pairs: Pairs = Field("half", description=PAIRS_DOC)
        init: Init = Field("default", description="initialisation of the convolutions")

        def smallest_batch(self) -> tuple[int, int]:
            return 1, 2

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.student = build(init=config.init)
        self.teacher = make_teacher(build(init=config.init), config, task.steps)  # the first update copies

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n = self.config, batch.n
        first, second = partners(batch.unlabelled, c.pairs)
        drawn = draw_beta(c.beta, first.new_empty(len(first) if c.share == "pair" else 1))
        m = drawn.expand(len(first)).view(-1, *(1,) * (first.ndim - 1))

        logits = self.student(torch.cat([batch.labelled, mixup(second, first, m)]))
        terms = {"supervised": dice_ce(logits[:n], batch.labels, c.loss)}
        if len(first):
            of_second, of_first = (probabilities(self.teacher(images)) for images in (second, first))
            q = mixup(of_second, of_first, m)
            terms["consistency"] = F.mse_loss(probabilities(logits[n:]), q)
        yield Loss(terms, {"consistency": c.weight * c.ramp_up(clock)})
        self.teacher.update(self.student, clock.step)

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)
