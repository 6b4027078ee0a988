"""MICD: masked image consistency and discrepancy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_weights import ClassWeightOptions, make_both_weights
from semiseg.ingredients.co_training import PairView, observed_weights, supervised_pair, view_pair
from semiseg.ingredients.ema import TeacherOptions, frozen_statistics, make_teacher
from semiseg.ingredients.features import decoder_consistency
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, cross_entropy, cross_pseudo_loss
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.methods.micd.masking import Masking, MaskingOptions
from semiseg.networks.modules import ModuleListOf

PAPER = {"weight": 0.1, "mcpc": "masked_to_clean", "cfc_weight": 1.0, "freeze_masked": False, "horizon": None}
PAPER |= {"loss": "dhc", "weights_a": "diff", "weights_b": "dist"}
"""The paper's choices, and DHC's where it is silent, as far as they are not the defaults."""


@register("micd", paper="arXiv:2503.14013", title="Masked image consistency and discrepancy learning")
@register("micd-paper", paper="arXiv:2503.14013", title="MICD as printed", options=PAPER)
class MICD(Method):
    """Two students that see images with hidden blocks learn from each other and each from its own moving average.

    MCPC: each student learns the other's hard labels across the clean and the masked view. CFC: their decoder features
    agree. CMD: on the masked view each student keeps to the hard labels of its own teacher, which keeps the two apart.
    `micd-paper` is the method as printed, built on DHC.

        L      = L_sup(A) + L_sup(B) + w(t) (L_mcpc + c L_cfc + L_cmd)          Eq. 7; c: cfc_weight
        L_mcpc = CE(p_A of one view, argmax p_B of the other) + the same with A and B exchanged            Eq. 3
        L_cfc  = sum_k 0.2 k KL(softmax d_k(A), softmax d_k(B))                 Eq. 4; d_k: decoder stage k, from coarse
        L_cmd  = CE(p_A masked, argmax of A's teacher) + the same of B                                     Eq. 5
    """

    class Config(MaskingOptions, ClassWeightOptions, TeacherOptions, RampOptions, MethodConfig):
        """Options; `mcpc`, `cfc` and `cmd` are the rows of the paper's Table IV."""

        weight: float = Field(1.0, ge=0, description="common weight of MCPC, CFC and CMD after the ramp-up")
        mcpc: Literal["masked_to_clean", "clean_to_masked", "off"] = Field(
            "clean_to_masked", description="which view teaches which; `off`: DHC's cross supervision without masks"
        )
        cfc: bool = Field(True, description="consistency of decoder features")
        cfc_weight: float = Field(0.01, ge=0, description="factor of CFC beside the common weight")
        cmd: bool = Field(True, description="discrepancy by teachers; without it there are none")
        freeze_masked: bool = Field(
            True, description="masked passes leave the students' running statistics (batch normalisation) alone"
        )
        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.masking = Masking(c, task.spatial_dims)
        self.students = ModuleListOf([build(init="kaiming"), build(init="kaiming")])
        self.teachers = ModuleListOf(
            make_teacher(deepcopy(net), c, task.steps, dropout=False) for net in (self.students if c.cmd else ())
        )
        self.class_weights = make_both_weights(c, task.class_voxels, task.steps)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, x = self.config, batch.images
        # Clean passes first: autocast keeps the cast weights of the first pass, and without gradient they carry none.
        clean = view_pair(self.students, [x, x], self.students[0].decoder_taps if c.cfc else ())
        w = [weights.update(y, batch.labels) for weights, y in zip(self.class_weights, clean.labels, strict=True)]
        terms = {"supervised": supervised_pair(clean.logits, batch.labels, c.loss, w)}  # Eq. 6
        if c.cfc:
            terms["cfc"] = decoder_consistency(*clean.features)  # Eq. 4

        masked = self._masked_view(x) if c.cmd or c.mcpc != "off" else clean
        views = {"clean_to_masked": (clean, masked), "masked_to_clean": (masked, clean), "off": (clean, clean)}
        guide, learner = views[c.mcpc]
        terms["mcpc"] = cross_pseudo_loss(learner.logits, guide.labels, w)  # Eq. 3
        if c.cmd:
            own = [hard_labels(teacher(x)) for teacher in self.teachers]
            a, b = (cross_entropy(z, y) for z, y in zip(masked.logits, own, strict=True))
            terms["cmd"] = a + b  # Eq. 5

        weight = c.weight * c.ramp_up(clock)
        yield Loss(terms, {"mcpc": weight, "cfc": weight * c.cfc_weight, "cmd": weight})  # Eq. 7
        for teacher, student in zip(self.teachers, self.students, strict=False):  # no teachers without CMD
            teacher.update(student, clock.step)

    def predictors(self) -> Sequence[Predicting]:
        return [*self.students]

    def observations(self) -> dict[str, Tensor]:
        return observed_weights(self.class_weights)

    def _masked_view(self, x: Tensor) -> PairView:
        """Both students on the same image with hidden blocks (Eq. 2); gradient only where a term trains this view."""
        c, hidden = self.config, self.masking.hide(x)
        trained = c.cmd or c.mcpc == "clean_to_masked"
        with torch.set_grad_enabled(trained), frozen_statistics(self.students, c.freeze_masked):
            return view_pair(self.students, [hidden, hidden])
