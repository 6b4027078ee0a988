"""MICD: masked image consistency and discrepancy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.errors import InputError
from semiseg.ingredients.class_weights import ClassWeightOptions, make_both_weights
from semiseg.ingredients.co_training import PairView, observed_weights, supervised_pair, view_pair
from semiseg.ingredients.ema import TeacherOptions, frozen_statistics, make_teacher
from semiseg.ingredients.features import FeatureOptions, decoder_consistency
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, cross_entropy, cross_pseudo_loss
from semiseg.ingredients.masking import Masking, MaskingOptions
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init
from semiseg.networks.modules import ModuleListOf

PAPER = {"weight": 0.1, "mcpc": "masked_to_clean", "cfc_weight": 1.0, "freeze_masked": False, "horizon": None}
PAPER |= {"loss": "dhc", "weights_a": "diff", "weights_b": "dist"}
"""The paper's choices, and DHC's where it is silent, as far as they are not the defaults."""


@register("micd", paper="arXiv:2503.14013", title="Masked image consistency and discrepancy learning")
@register("micd-paper", paper="arXiv:2503.14013", title="MICD as printed", options=PAPER)
class MICD(Method):
    """Two students that see images with hidden blocks learn from each other and each from its own moving average.

    MCPC: each student learns the other's hard labels across views. CFC: their decoder features agree. CMD: on the
    masked image each student keeps to the hard labels of its own teacher, which keeps the two apart.

    `micd-paper` is the method as printed: built on DHC (without MCPC, CFC and CMD it is DHC), one weight of 0.1 for
    all terms, and labels from the *masked* image teach the clean view (its Eq. 3). The defaults of `micd` are those
    that beat the supervised control in docs/results.md within hundreds of steps: labels from the clean image teach the
    masked view (the paper's introduction), plain Dice and cross-entropy without class weights, weight 1, a hundredth
    of it for CFC, which otherwise outweighs the labels, and running statistics of whole images, as in prediction.

        L      = L_sup(A) + L_sup(B) + w(t) (L_mcpc + c L_cfc + L_cmd)          c: cfc_weight
        L_mcpc = CE(p_A of one view, argmax p_B of the other) + the same with A and B exchanged
        L_cfc  = sum_k 0.2 k KL(softmax d_k(A), softmax d_k(B))                 d_k: decoder stage k, from coarse
        L_cmd  = CE(p_A masked, argmax of A's teacher) + the same of B
    """

    class Config(MaskingOptions, FeatureOptions, ClassWeightOptions, TeacherOptions, RampOptions, MethodConfig):
        """Options; defaults where the paper is silent: dhc, and common practice of mean teachers."""

        weight: float = Field(1.0, ge=0, description="common weight of MCPC, CFC and CMD after the ramp-up")
        mcpc: Literal["masked_to_clean", "clean_to_masked", "off"] = Field(
            "clean_to_masked", description="which view teaches which; `off`: DHC's cross supervision without masks"
        )
        cfc: bool = Field(True, description="consistency of decoder features")
        cfc_weight: float = Field(0.01, ge=0, description="factor of CFC beside the common weight")
        cmd: bool = Field(True, description="discrepancy by teachers; without it there are none")
        mask_shared: bool = Field(True, description="both students see the same mask")
        kl_masked: bool = Field(False, description="compare the features of the masked image")
        teacher_dropout: bool = Field(False, description="keep the teachers' dropout on during training")
        cmd_weighted: bool = Field(False, description="class weights in the discrepancy too")
        unlabelled_only: bool = Field(False, description="MCPC, CFC and CMD on unlabelled patches only")
        freeze_masked: bool = Field(
            True, description="masked passes leave the students' running statistics (batch normalisation) alone"
        )
        views_apart: bool = Field(
            False, description="backward of each view by itself: less memory; not with mcpc: masked_to_clean"
        )
        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        init: Init = Field("kaiming", description="initialisation of the students' convolutions")
        predict_with: Literal["students", "teachers", "all"] = Field("students", description="networks for prediction")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        if not c.cmd and c.predict_with != "students":
            raise InputError(
                f"predict_with: {c.predict_with} needs teachers: set cmd to true, or predict with students"
            )
        if c.views_apart and c.mcpc == "masked_to_clean":
            raise InputError("views_apart: the clean view learns labels of the masked one: set mcpc to clean_to_masked")
        self.masking = Masking(c, task.spatial_dims)
        self.students = ModuleListOf([build(init=c.init), build(init=c.init)])
        self.teachers = ModuleListOf(
            make_teacher(deepcopy(net), c, task.steps) for net in (self.students if c.cmd else ())
        )
        self.class_weights = make_both_weights(c, task.class_voxels, task.steps)
        self._trains_masked = c.cmd or c.mcpc == "clean_to_masked" or (c.cfc and c.kl_masked)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        weight = c.weight * c.ramp_up(clock)
        weights = {"mcpc": weight, "cfc": weight * c.cfc_weight, "cmd": weight}
        parts = self._parts(batch)
        if c.views_apart:
            for number, terms in enumerate(parts):
                yield Loss(terms, weights, update=number == int(self._trains_masked))
        else:
            yield Loss({name: term for terms in parts for name, term in terms.items()}, weights)
        for teacher, student in zip(self.teachers, self.students, strict=False):  # no teachers without CMD
            teacher.update(student, clock.step)

    def _parts(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """The terms that train the clean view, then those that train the masked one."""
        c, x = self.config, batch.images
        used = slice(batch.n if c.unlabelled_only else 0, None)
        # Clean passes first: autocast keeps the cast weights of the first pass, and without gradient they carry none.
        clean = view_pair(self.students, [x, x], self.students[0].decoder_taps if c.cfc and not c.kl_masked else ())
        w = [weights.update(y, batch.labels) for weights, y in zip(self.class_weights, clean.labels, strict=True)]
        terms = {"supervised": supervised_pair(clean.logits, batch.labels, c.loss, w, strict=c.strict)}
        clean, masked = clean.part(used), None
        labels = clean.labels
        if c.mcpc == "masked_to_clean":
            masked = self._masked_view(x).part(used)
        if c.mcpc != "clean_to_masked":
            by = labels if masked is None else masked.labels
            terms["mcpc"] = cross_pseudo_loss(clean.logits, by, w, strict=c.strict)
        if c.cfc and not c.kl_masked:
            terms["cfc"] = decoder_consistency(*clean.features, c)
        yield terms
        if not self._trains_masked:
            return
        del clean, terms  # what their graphs hold is free for the other view
        masked = masked or self._masked_view(x).part(used)
        terms = {}
        if c.mcpc == "clean_to_masked":
            terms["mcpc"] = cross_pseudo_loss(masked.logits, labels, w, strict=c.strict)
        if c.cfc and c.kl_masked:
            terms["cfc"] = decoder_consistency(*masked.features, c)
        if c.cmd:
            targets = [hard_labels(teacher(x))[used] for teacher in self.teachers]
            kept = zip(masked.logits, targets, w if c.cmd_weighted else (None, None), strict=True)
            a, b = (cross_entropy(z, y, v, strict=c.strict) for z, y, v in kept)
            terms["cmd"] = a + b
        yield terms

    def predictors(self) -> Sequence[Predicting]:
        students, teachers = self.config.predict_with != "teachers", self.config.predict_with != "students"
        return [*(self.students if students else ()), *(self.teachers if teachers else ())]

    def observations(self) -> dict[str, Tensor]:
        return observed_weights(self.class_weights)

    def _masked_view(self, x: Tensor) -> PairView:
        """The view with hidden blocks; gradient only where a term trains it."""
        c = self.config
        first = self.masking.draw(x)
        second = first if c.mask_shared else self.masking.draw(x)
        images = [self.masking.hide(x, mask) for mask in (first, second)]
        with torch.set_grad_enabled(self._trains_masked), frozen_statistics(self.students, c.freeze_masked):
            return view_pair(self.students, images, self.students[0].decoder_taps if c.cfc and c.kl_masked else ())
