"""MICD: masked image consistency and discrepancy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from semiseg.errors import InputError
from semiseg.ingredients.class_weights import (
    MOMENTUM_DOC,
    WEIGHTING_DOC,
    WINDOW_DOC,
    ClassWeights,
    Weighting,
    make_weights,
)
from semiseg.ingredients.ema import STATISTICS_DOC, Statistics, Teacher, frozen_statistics
from semiseg.ingredients.ensemble import ensemble_probabilities
from semiseg.ingredients.features import Direction, feature_consistency, stage_weights
from semiseg.ingredients.losses import DICE_CE_DOC, STRICT_DOC, DiceCE, cross_entropy, cross_pseudo_loss, dice_ce
from semiseg.ingredients.masking import Fill, draw_block_mask, hide
from semiseg.ingredients.modules import ModuleListOf
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import LENGTH_DOC, RAMP_DOC, RampUnit, ramp_up
from semiseg.methods.base import Batch, Clock, Loss, Method, MethodConfig, NetworkBuilder, Task, register
from semiseg.networks.base import Init

Side = Annotated[int, Field(ge=1)]


class View(NamedTuple):
    """What the two students make of one view of the batch: logits, hard labels, decoder features."""

    logits: list[Tensor]
    labels: list[Tensor]
    features: list[list[Tensor]]


PAPER = {
    "weight": 0.1,
    "mcpc": "masked_to_clean",
    "cfc_weight": 1.0,
    "loss": "dhc",
    "weights_a": "diff",
    "weights_b": "dist",
}
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
    masked view (the paper's introduction), plain Dice and cross-entropy without class weights, weight 1, and a
    hundredth of it for CFC, which otherwise outweighs the labels.

        L      = L_sup(A) + L_sup(B) + w(t) (L_mcpc + c L_cfc + L_cmd)          c: cfc_weight
        L_mcpc = CE(p_A of one view, argmax p_B of the other) + the same with A and B exchanged
        L_cfc  = sum_k 0.2 k KL(softmax d_k(A), softmax d_k(B))                 d_k: decoder stage k, from coarse
        L_cmd  = CE(p_A masked, argmax of A's teacher) + the same of B
    """

    class Config(MethodConfig):
        """Options; defaults where the paper is silent: dhc, and common practice of mean teachers."""

        weight: float = Field(1.0, ge=0, description="common weight of MCPC, CFC and CMD after the ramp-up")
        ramp: RampUnit = Field("run", description=RAMP_DOC)
        ramp_length: float | None = Field(None, ge=0, description=LENGTH_DOC)
        mcpc: Literal["masked_to_clean", "clean_to_masked", "off"] = Field(
            "clean_to_masked", description="which view teaches which; `off`: DHC's cross supervision without masks"
        )
        cfc: bool = Field(True, description="consistency of decoder features")
        cfc_weight: float = Field(0.01, ge=0, description="factor of CFC beside the common weight")
        cmd: bool = Field(True, description="discrepancy by teachers; without it there are none")
        mask_ratio: float = Field(0.5, ge=0, le=1, description="share of the image to hide")
        mask_block: Side | tuple[Side, ...] = Field(3, description="side of a hidden block in voxels, or one per axis")
        mask_exact: bool = Field(False, description="hide exactly this share of the blocks instead of on average")
        mask_shared: bool = Field(True, description="both students see the same mask")
        mask_fill: Fill = Field("zero", description="what hidden voxels become: 0, or the mean of sample and channel")
        kl_direction: Direction = Field("a_to_b", description="direction of the divergence of features")
        kl_temperature: float = Field(1.0, gt=0, description="divides the features before their softmax")
        kl_detach: Literal["none", "a", "b"] = Field("none", description="student whose features get no gradient")
        kl_reversed: bool = Field(False, description="give the coarsest decoder stage the largest weight")
        kl_masked: bool = Field(False, description="compare the features of the masked image")
        decay: float = Field(0.99, ge=0, lt=1, description="largest decay of the teachers, after their warm-up")
        teacher_statistics: Statistics = Field("batch", description=STATISTICS_DOC)
        teacher_dropout: bool = Field(False, description="keep the teachers' dropout on during training")
        cmd_weighted: bool = Field(False, description="class weights in the discrepancy too")
        unlabelled_only: bool = Field(False, description="MCPC, CFC and CMD on unlabelled patches only")
        freeze_masked: bool = Field(False, description="masked passes leave the students' running statistics alone")
        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        weights_a: Weighting = Field("none", description=WEIGHTING_DOC)
        weights_b: Weighting = Field("none", description=WEIGHTING_DOC)
        window: float = Field(50.0, ge=1, description=WINDOW_DOC)
        momentum: float = Field(0.99, ge=0, lt=1, description=MOMENTUM_DOC)
        strict: bool = Field(False, description=STRICT_DOC)
        init: Init = Field("kaiming", description="initialisation of the students' convolutions")
        predict_with: Literal["students", "teachers", "all"] = Field("students", description="networks for prediction")

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.config = c = config
        if not c.cmd and c.predict_with != "students":
            raise InputError(
                f"predict_with: {c.predict_with} needs teachers: set cmd to true, or predict with students"
            )
        self.block = c.mask_block if isinstance(c.mask_block, tuple) else (c.mask_block,) * task.spatial_dims
        if len(self.block) != task.spatial_dims:
            raise InputError(f"mask_block: expected one side or {task.spatial_dims}, came {list(self.block)}")
        self.students = ModuleListOf([build(init=c.init), build(init=c.init)])
        self.teachers = ModuleListOf(
            Teacher(deepcopy(net), c.decay, c.teacher_statistics, dropout=c.teacher_dropout)
            for net in (self.students if c.cmd else ())
        )
        self.class_weights = ModuleListOf[ClassWeights](
            make_weights(kind, task.class_voxels, c.window, c.momentum, strict=c.strict)
            for kind in (c.weights_a, c.weights_b)
        )

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, x = self.config, batch.images
        used = slice(batch.n if c.unlabelled_only else 0, None)
        # Clean passes first: autocast keeps the cast weights of the first pass, and without gradient they carry none.
        clean = self._view([x, x], with_features=c.cfc and not c.kl_masked)
        masked = self._masked_view(x, clean)
        targets = [hard_labels(teacher(x)) for teacher in self.teachers]
        w = [weights.update(y, batch.labels) for weights, y in zip(self.class_weights, clean.labels, strict=True)]

        terms = {"supervised": self._supervised(clean, batch, w)}
        pupil = masked if c.mcpc == "clean_to_masked" else clean
        source = masked if c.mcpc == "masked_to_clean" else clean
        cross = [z[used] for z in pupil.logits], [y[used] for y in source.labels]
        terms["mcpc"] = cross_pseudo_loss(*cross, w, strict=c.strict)
        if c.cfc:
            terms["cfc"] = self._feature_term(masked if c.kl_masked else clean, used)
        if c.cmd:
            parts = zip(masked.logits, targets, w if c.cmd_weighted else (None, None), strict=True)
            a, b = (cross_entropy(z[used], y[used], v, strict=c.strict) for z, y, v in parts)
            terms["cmd"] = a + b
        weight = c.weight * ramp_up(clock, c.ramp, c.ramp_length)
        yield Loss(terms, {"mcpc": weight, "cfc": weight * c.cfc_weight, "cmd": weight})
        for teacher, student in zip(self.teachers, self.students, strict=False):  # no teachers without CMD
            teacher.update(student, clock.step)

    def predict(self, images: Tensor) -> Tensor:
        students, teachers = self.config.predict_with != "teachers", self.config.predict_with != "students"
        nets = [*(self.students if students else ()), *(self.teachers if teachers else ())]
        return ensemble_probabilities(nets, images)

    def observations(self) -> dict[str, Tensor]:
        return {f"class_weight_{name}": w.weight for name, w in zip("ab", self.class_weights, strict=True)}

    def _view(self, images: Sequence[Tensor], *, with_features: bool) -> View:
        taps = self.students[0].decoder_taps if with_features else ()
        passes = [net(x, taps=taps) if taps else (net(x), {}) for net, x in zip(self.students, images, strict=True)]
        logits = [z for z, _ in passes]
        return View(logits, [hard_labels(z) for z in logits], [[found[tap] for tap in taps] for _, found in passes])

    def _masked_view(self, x: Tensor, clean: View) -> View:
        """The view with hidden blocks; the clean one where no term needs it. Gradient only where a term trains it."""
        c = self.config
        trained = c.cmd or c.mcpc == "clean_to_masked" or (c.cfc and c.kl_masked)
        if not trained and c.mcpc == "off":
            return clean
        first = draw_block_mask(x, c.mask_ratio, self.block, exact=c.mask_exact)
        second = first if c.mask_shared else draw_block_mask(x, c.mask_ratio, self.block, exact=c.mask_exact)
        images = [hide(x, mask, c.mask_fill) for mask in (first, second)]
        with torch.set_grad_enabled(trained), frozen_statistics(self.students, c.freeze_masked):
            return self._view(images, with_features=c.cfc and c.kl_masked)

    def _supervised(self, clean: View, batch: Batch, w: Sequence[Tensor]) -> Tensor:
        pairs = zip(clean.logits, w, strict=True)
        c = self.config
        a, b = (dice_ce(z[: batch.n], batch.labels, c.loss, v, strict=c.strict) for z, v in pairs)
        return a + b

    def _feature_term(self, view: View, used: slice) -> Tensor:
        c = self.config
        a, b = (
            [(f.detach() if c.kl_detach == name else f)[used] for f in features]
            for name, features in zip("ab", view.features, strict=True)
        )
        weights = stage_weights(len(a))[:: -1 if c.kl_reversed else 1]
        return feature_consistency(a, b, weights, c.kl_direction, c.kl_temperature)
