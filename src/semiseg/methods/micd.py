"""MICD: masked image consistency and discrepancy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from semiseg.errors import InputError
from semiseg.ingredients.class_weights import ClassWeightOptions, make_both_weights
from semiseg.ingredients.co_training import observed_weights
from semiseg.ingredients.ema import TeacherOptions, frozen_statistics, make_teacher
from semiseg.ingredients.features import FeatureOptions, decoder_consistency
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, cross_entropy, cross_pseudo_loss, dice_ce
from semiseg.ingredients.masking import Masking, MaskingOptions
from semiseg.ingredients.modules import ModuleListOf
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Batch, Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init

PAPER = {
    "weight": 0.1,
    "mcpc": "masked_to_clean",
    "cfc_weight": 1.0,
    "loss": "dhc",
    "weights_a": "diff",
    "weights_b": "dist",
    "freeze_masked": False,
}
"""The paper's choices, and DHC's where it is silent, as far as they are not the defaults."""


Labels = Sequence[Tensor]
"""By student A and by student B, `[B, *S]`."""
Weights = Sequence[Tensor | None]
"""Of the classes, for A and for B."""


class View(NamedTuple):
    """What the two students make of one view of the batch: logits, hard labels, decoder features."""

    logits: list[Tensor]
    labels: list[Tensor]
    features: list[list[Tensor]]


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
            False,
            description="backward of each view by itself: the same gradients in about half of the memory; not with "
            "mcpc: masked_to_clean",
        )
        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        init: Init = Field("kaiming", description="initialisation of the students' convolutions")
        predict_with: Literal["students", "teachers", "all"] = Field("students", description="networks for prediction")

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.config = c = config
        if not c.cmd and c.predict_with != "students":
            raise InputError(
                f"predict_with: {c.predict_with} needs teachers: set cmd to true, or predict with students"
            )
        if c.views_apart and c.mcpc == "masked_to_clean":
            raise InputError("views_apart: the clean view learns labels of the masked one: set mcpc to clean_to_masked")
        self.masking = Masking(c, task.spatial_dims)
        self.students = ModuleListOf([build(init=c.init), build(init=c.init)])
        self.teachers = ModuleListOf(make_teacher(deepcopy(net), c) for net in (self.students if c.cmd else ()))
        self.class_weights = make_both_weights(c, task.class_voxels)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        weight = c.weight * c.ramp_up(clock)
        weights = {"mcpc": weight, "cfc": weight * c.cfc_weight, "cmd": weight}
        parts = self._parts(batch)
        if c.views_apart:
            last = int(self._trains_masked)
            for number, terms in enumerate(parts):
                yield Loss(terms, weights, update=number == last)
        else:
            yield Loss({name: term for terms in parts for name, term in terms.items()}, weights)
        for teacher, student in zip(self.teachers, self.students, strict=False):  # no teachers without CMD
            teacher.update(student, clock.step)

    def _parts(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """Terms of the clean view and, by themselves where it teaches nothing, those of the masked view."""
        c, x = self.config, batch.images
        # Clean passes first: autocast keeps the cast weights of the first pass, and without gradient they carry none.
        clean = self._view([x, x], with_features=c.cfc and not c.kl_masked)
        labels = clean.labels
        w = [weights.update(y, batch.labels) for weights, y in zip(self.class_weights, labels, strict=True)]
        if c.mcpc == "masked_to_clean":
            masked = self._masked_view(x)
            yield self._clean_terms(batch, clean, masked.labels, w) | self._masked_terms(batch, masked, labels, w)
            return
        yield self._clean_terms(batch, clean, labels, w)
        del clean  # its features
        if self._trains_masked:
            yield self._masked_terms(batch, self._masked_view(x), labels, w)

    def _clean_terms(self, batch: Batch, clean: View, labels: Labels, w: Weights) -> dict[str, Tensor]:
        """What trains the clean view; `labels` by the view that teaches it."""
        c = self.config
        parts = zip(clean.logits, w, strict=True)
        a, b = (dice_ce(z[: batch.n], batch.labels, c.loss, v, strict=c.strict) for z, v in parts)
        terms = {"supervised": a + b}
        if c.mcpc != "clean_to_masked":
            terms["mcpc"] = self._cross(batch, clean, labels, w)
        if c.cfc and not c.kl_masked:
            terms["cfc"] = self._consistency(batch, clean)
        return terms

    def _masked_terms(self, batch: Batch, masked: View, labels: Labels, w: Weights) -> dict[str, Tensor]:
        """What trains the masked view; `labels` by the clean one."""
        c, used = self.config, self._used(batch)
        terms = {}
        if c.mcpc == "clean_to_masked":
            terms["mcpc"] = self._cross(batch, masked, labels, w)
        if c.cfc and c.kl_masked:
            terms["cfc"] = self._consistency(batch, masked)
        if c.cmd:
            targets = [hard_labels(teacher(batch.images)) for teacher in self.teachers]
            kept = zip(masked.logits, targets, w if c.cmd_weighted else (None, None), strict=True)
            a, b = (cross_entropy(z[used], y[used], v, strict=c.strict) for z, y, v in kept)
            terms["cmd"] = a + b
        return terms

    def _cross(self, batch: Batch, pupil: View, labels: Labels, w: Weights) -> Tensor:
        used = self._used(batch)
        logits = [z[used] for z in pupil.logits]
        return cross_pseudo_loss(logits, [y[used] for y in labels], w, strict=self.config.strict)

    def _consistency(self, batch: Batch, view: View) -> Tensor:
        used = self._used(batch)
        of_a, of_b = ([f[used] for f in each] for each in view.features)
        return decoder_consistency(of_a, of_b, self.config)

    def _used(self, batch: Batch) -> slice:
        return slice(batch.n if self.config.unlabelled_only else 0, None)

    def predictors(self) -> Sequence[Predicting]:
        students, teachers = self.config.predict_with != "teachers", self.config.predict_with != "students"
        return [*(self.students if students else ()), *(self.teachers if teachers else ())]

    def observations(self) -> dict[str, Tensor]:
        return observed_weights(self.class_weights)

    def _view(self, images: Sequence[Tensor], *, with_features: bool) -> View:
        taps = self.students[0].decoder_taps if with_features else ()
        passes = [net(x, taps=taps) if taps else (net(x), {}) for net, x in zip(self.students, images, strict=True)]
        logits = [z for z, _ in passes]
        return View(logits, [hard_labels(z) for z in logits], [[found[tap] for tap in taps] for _, found in passes])

    @property
    def _trains_masked(self) -> bool:
        c = self.config
        return c.cmd or c.mcpc == "clean_to_masked" or (c.cfc and c.kl_masked)

    def _masked_view(self, x: Tensor) -> View:
        """The view with hidden blocks; gradient only where a term trains it."""
        c = self.config
        first = self.masking.draw(x)
        second = first if c.mask_shared else self.masking.draw(x)
        images = [self.masking.hide(x, mask) for mask in (first, second)]
        with torch.set_grad_enabled(self._trains_masked), frozen_statistics(self.students, c.freeze_masked):
            return self._view(images, with_features=c.cfc and c.kl_masked)
