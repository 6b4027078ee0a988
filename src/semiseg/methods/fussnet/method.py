"""FUSSNet: two sources of uncertainty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import cast

import torch
from pydantic import Field

from semiseg.batches.batch import Batch
from semiseg.ingredients.ema import StudentTeacherOptions, make_teacher
from semiseg.ingredients.ramps import sigmoid_ramp
from semiseg.methods.base import Clock, Loss, Method, NetworkBuilder, Predicting, Stage, Task, register
from semiseg.methods.fussnet.aleatoric import AleatoricHead
from semiseg.methods.fussnet.labeller import Labeller
from semiseg.methods.fussnet.losses import certain, supervised, uncertain
from semiseg.methods.pretraining import PRETRAINING, PretrainingOptions
from semiseg.networks.base import Init
from semiseg.networks.late_branches import LateBranchedNet

PAPER = "doi:10.1007/978-3-031-16452-1_46"
OFFICIAL = {"pretraining": 50 / 652, "ramp_epochs": 40, "refresh_epochs": 10, "horizon": None}
"""The published code, on the left atrium with 16 labelled scans: 800 steps and 301 epochs of 32 steps."""


@register("fussnet", paper=PAPER, title="Fusing two sources of uncertainty (FUSSNet)")
@register("fussnet-official", paper=PAPER, title="FUSSNet as its published code has it", options=OFFICIAL)
class FUSSNet(Method):
    """Four branches with four losses; where they agree they give labels, elsewhere a moving average teaches.

    The branches part at the last stage. Labels are those of an earlier student, taken anew thirty times in a run; the
    official code keeps them for the centre of every scan, here they are asked for where the patch lies. Beside this
    stands the cross-entropy of random logits, of which as published only the features learn: its own three layers are
    in no optimiser there (`train_aleatoric`). There too cross-entropy and focal loss of pseudo-labels are means over
    all voxels, for their mask cancels (`mask_all`). With several classes, branches agree on a class. The first branch
    predicts. Source: Xiang et al., MICCAI 2022; grant-jpg/FUSSNet.

        L   = L_sup + L_c + w(t) L_u            L_sup = (CE_0 + Dice_1 + focal_2 + IoU_3 + a L_random) / (4 + a)
        L_c = mean of the four losses at labels of branch 2, where branches 0 and 2 agree, and 1 and 3
        L_u = mean over branches and the other voxels of sum_c (p_k - t_k)^2
    """

    class Config(StudentTeacherOptions, PretrainingOptions):
        """Options; the defaults are those of the left atrium, with ramp and refreshes as shares of the run."""

        aleatoric_weight: float = Field(0.8, ge=0, description="a, weight of the random logits; 0: none")
        train_aleatoric: bool = Field(False, description="train the layers that make logits random as well")
        rank: int = Field(10, ge=1, description="rank of their covariance, besides its diagonal")
        pairs: int = Field(10, ge=1, description="pairs of opposite samples of random logits per step")
        mask_all: bool = Field(False, description="all four losses of pseudo-labels on certain voxels alone")
        certain_weight: float = Field(1.0, ge=0, description="weight of the losses of pseudo-labels")
        weight: float = Field(1.0, ge=0, description="weight of the consistency after the ramp-up")
        ramp_share: float = Field(0.13, ge=0, le=1, description="length of the ramp-up as a share of self-training")
        ramp_epochs: float | None = Field(None, ge=0, description="its length in epochs, instead of the share")
        refresh_share: float = Field(
            1 / 30, gt=0, le=1, description="share of self-training from one student that gives labels to the next one"
        )
        refresh_epochs: float | None = Field(None, gt=0, description="the same in epochs, instead of the share")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.student = cast(LateBranchedNet, build(network="late_branches", branches=4, init=config.init))
        self.teacher = make_teacher(deepcopy(self.student), config, task.steps)
        self.labeller = Labeller(self.student)
        head = AleatoricHead(self.student.shared_channels, task.classes, task.spatial_dims, config.rank)
        self.aleatoric = head.requires_grad_(config.train_aleatoric)

    def stages(self) -> tuple[Stage, ...]:
        return self.config.stages()

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, y = self.config, batch.n, batch.labels
        if clock.stage == PRETRAINING or n == len(batch.images):
            logits, shared = self.student.branch(batch.labelled)
            # Weightless, so that its layers have a gradient, of zero, wherever they are trained.
            yield Loss({"supervised": supervised(logits, y), "aleatoric": shared.new_zeros(())}, {"aleatoric": 0})
            self.teacher.copy(self.student)
            self.labeller.copy(self.student)
            return

        inner = c.selftraining(clock)
        if self._is_due(inner):
            self.labeller.copy(self.student)
        labels, agreed = self.labeller(batch.unlabelled)
        with torch.no_grad():
            taught, _ = cast(LateBranchedNet, self.teacher.net).branch(batch.unlabelled)
        logits, shared = self.student.branch(batch.images)
        free = [z[n:] for z in logits]
        terms = {
            "supervised": supervised([z[:n] for z in logits], y),
            "certain": certain(free, labels, agreed, mask_all=c.mask_all),
            "uncertain": uncertain(free, taught, ~agreed),
        }
        nothing = shared.new_zeros(())
        terms["aleatoric"] = self.aleatoric(shared[:n], y, c.pairs) if c.aleatoric_weight else nothing
        whole = 4 + c.aleatoric_weight
        weights = {"supervised": 4 / whole, "aleatoric": c.aleatoric_weight / whole, "certain": c.certain_weight}
        yield Loss(terms, weights | {"uncertain": c.weight * self._ramp_up(inner)})
        self.teacher.follow(self.student, clock)

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)

    def _is_due(self, clock: Clock) -> bool:
        c = self.config
        share = c.refresh_share if c.refresh_epochs is None else c.refresh_epochs / clock.epochs
        return clock.step % max(round(share * clock.steps), 1) == 0

    def _ramp_up(self, clock: Clock) -> float:
        c = self.config
        if c.ramp_epochs is None:
            return sigmoid_ramp(clock.step / clock.steps, c.ramp_share)
        return sigmoid_ramp(clock.epoch, c.ramp_epochs)
