"""DuCiSC: dual cross-image semantic consistency."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.errors import InputError
from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.confidence import (
    SELECTION_DOC,
    Selection,
    SelfAwareThresholds,
    low_entropy,
    monte_carlo_mean,
    probable,
    relative_entropy_limit,
)
from semiseg.ingredients.ema import STATISTICS_DOC, Statistics, Teacher
from semiseg.ingredients.ensemble import ensemble_probabilities
from semiseg.ingredients.features import feature_mse
from semiseg.ingredients.levels import Levels, level_taps, one_hot, resize_linear, resize_nearest, run_levels
from semiseg.ingredients.masked import SoftCE, dice_ce_parts, masked_parts, over_levels
from semiseg.ingredients.mixing import MIXTURE_DOC, Mixer, Mixture, mix
from semiseg.ingredients.prototypes import Absent, Pairing, prototype_loss, prototypes
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import ramp_up
from semiseg.methods.base import Batch, Clock, Loss, Method, MethodConfig, NetworkBuilder, Task, register
from semiseg.networks.base import Init

PAPER = {
    "total": "sum",
    "warmup": 0.0,
    "threshold_clamp": False,
    "threshold_per_level": False,
    "pairing": "image",
    "reduction": "sum",
    "mix_ce": "ce",
}
"""What is printed, where the official code does otherwise."""


@register(
    "ducisc", paper="arXiv:2507.21440", title="Dual cross-image semantic consistency with self-aware pseudo labels"
)
@register("ducisc-paper", paper="arXiv:2507.21440", title="DuCiSC as printed", options=PAPER)
class DuCiSC(Method):
    """Mean features of each class agree between labelled, unlabelled and mixed images, beside pseudo-labels.

    A mean teacher labels the unlabelled patches at every decoder level. The student learns these labels where the
    teacher is surer than a threshold per class and level that follows the student, and learns mixtures of labelled and
    unlabelled patches. Class prototypes of the labelled patches are drawn to those of both.

    The defaults are those of ShanghaiTech-IMPACT/DuCiSC: each term is divided by its own value, so that its weight is
    its share of the gradient of log losses, and the first 2/15 of the run are supervised. `ducisc-paper` is printed.
    """

    class Config(MethodConfig):
        """Options; every row of the paper's ablations is one of them."""

        weight_cs_ulb: float = Field(0.3, ge=0, description="weight of the pseudo-labels on unlabelled patches")
        weight_cs_mix: float = Field(0.1, ge=0, description="weight of the labels of mixed patches")
        weight_proto_ulb: float = Field(0.1, ge=0, description="weight of labelled against unlabelled prototypes")
        weight_proto_mix: float = Field(0.1, ge=0, description="weight of labelled against mixed prototypes")
        total: Literal["normalised", "sum"] = Field(
            "normalised", description="`normalised`: each term is divided by its own value; `sum`: as printed"
        )
        warmup: float = Field(2 / 15, ge=0, le=1, description="share of the run with labelled patches alone")
        selection: Selection = Field("self_aware", description=SELECTION_DOC)
        probability: float = Field(0.95, ge=0, le=1, description="threshold of the selection by probability")
        ambiguous: bool = Field(False, description="selection by entropy keeps the other voxels, as AC-MT does")
        mc_passes: int = Field(8, ge=2, multiple_of=2, description="passes of the selection by MC dropout")
        mc_noise: float = Field(0.1, ge=0, description="deviation of their input noise, cut at two deviations")
        threshold_momentum: float = Field(0.99, ge=0, le=1, description="share of the old self-aware threshold")
        threshold_clamp: bool = Field(True, description="keep self-aware thresholds between floor and cap")
        threshold_floor: float | None = Field(
            None, ge=0, le=1, description="floor; null: 1/classes, the start; the official code, for two classes: 0.5"
        )
        threshold_cap: float = Field(0.95, ge=0, le=1, description="cap of the self-aware thresholds")
        threshold_per_level: bool = Field(True, description="thresholds per class and level, not per class")
        mixing: Mixture = Field("mixup", description=MIXTURE_DOC)
        mix_low: float = Field(0.25, ge=0, le=1, description="least share of the labelled patch in Mixup")
        mix_high: float = Field(0.75, ge=0, le=1, description="largest share of the labelled patch in Mixup")
        box_side: float = Field(2 / 3, gt=0, le=1, description="side of the box of CutMix and CutOut, as a share")
        box_beta: float | None = Field(
            None, gt=0, description="instead, boxes of the CutMix rule with Beta(b, b); null: boxes of fixed size"
        )
        mix_ce: SoftCE = Field("kl", description="mixed labels: divergence also divided by the classes, or `ce`")
        alignment: Literal["prototype", "feature"] = Field(
            "prototype", description="`feature`: voxel by voxel with the teacher's, without classes, in both terms"
        )
        proto_levels: int | None = Field(None, ge=1, description="coarsest levels with prototypes; null: all")
        pairing: Pairing = Field("batch", description="mean prototypes of the batch, or image against image")
        absent: Absent = Field("level", description="what a class that an image lacks takes out of the prototypes")
        reduction: Literal["mean", "sum"] = Field(
            "mean", description="`sum`: over levels and channels, and of cross-entropy and Dice, as printed"
        )
        features: Literal["auto", "sum", "dec"] = Field(
            "auto",
            description="features and heads: `dec`, decoder stages; `sum`, what enters them (V-Net); auto: `sum`"
            " where there is one",
        )
        decay: float = Field(0.99, ge=0, lt=1, description="largest decay of the teacher, after its warm-up")
        teacher_statistics: Statistics = Field("batch", description=STATISTICS_DOC)
        teacher_dropout: bool = Field(True, description="keep the teacher's dropout on during training")
        init: Init = Field("default", description="initialisation of the convolutions")
        predict_with: Literal["student", "teacher"] = Field("student", description="network used for prediction")

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.config = c = config
        self.student = build(init=c.init, deep_supervision=True)
        self.teacher = Teacher(
            build(init=c.init, deep_supervision=True), c.decay, c.teacher_statistics, dropout=c.teacher_dropout
        )
        has_sums = "sum1" in self.student.taps
        if c.features == "sum" and not has_sums:
            raise InputError("features: this network joins its skips without sums: use dec, or the network vnet")
        if c.mix_low > c.mix_high:
            raise InputError(f"mix_low: expected at most mix_high ({c.mix_high}), came {c.mix_low}")
        self.taps = level_taps(self.student.taps, "sum" if has_sums and c.features != "dec" else "dec")
        self.classes, levels = task.classes, len(self.taps.features)
        floor = 1 / task.classes if c.threshold_floor is None else c.threshold_floor
        self.thresholds = SelfAwareThresholds(
            task.classes,
            levels if c.threshold_per_level else 1,
            c.threshold_momentum,
            (floor, c.threshold_cap) if c.threshold_clamp else None,
        )
        self.mixer = Mixer(c.mixing, c.mix_low, c.mix_high, c.box_side, c.box_beta)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        labelled = run_levels(self.student, batch.labelled, self.taps)
        pairs = zip(labelled.logits, _coarser(batch.labels, labelled), strict=True)
        terms = {"supervised": self._scale * over_levels([dice_ce_parts(z, y) for z, y in pairs])}
        active = clock.step >= round(c.warmup * clock.steps)
        if len(batch.unlabelled):
            # The warm-up runs all passes too, for the running statistics of both networks.
            with torch.set_grad_enabled(active):
                terms |= self._unsupervised(batch, labelled, clock, active)
        yield Loss(terms, self._weights(terms, active))
        self.teacher.update(self.student, clock.step)

    def predict(self, images: Tensor) -> Tensor:
        return ensemble_probabilities([self.teacher if self.config.predict_with == "teacher" else self.student], images)

    def observations(self) -> dict[str, Tensor]:
        if self.config.selection != "self_aware":
            return {}
        return {f"threshold_{level}": row for level, row in enumerate(self.thresholds.value.unbind(1), 1)}

    def _unsupervised(self, batch: Batch, labelled: Levels, clock: Clock, active: bool) -> dict[str, Tensor]:
        c, u = self.config, batch.unlabelled
        guide = run_levels(self.teacher.tapped, u, self.taps)
        pseudo = [hard_labels(z) for z in guide.logits]
        masks = [one_hot(y, self.classes) for y in pseudo]
        certain = self._certain(_probabilities(guide), pseudo, u, clock)
        student, terms = run_levels(self.student, u, self.taps), {}
        reference = [one_hot(y, self.classes) for y in _coarser(batch.labels, labelled)]
        if c.weight_cs_ulb:
            terms["cs_ulb"] = self._masked(student, masks, certain)
        if c.weight_proto_ulb:
            terms["proto_ulb"] = self._aligned((labelled, reference), (student, masks), u)
        if c.weight_cs_mix or c.weight_proto_mix:
            turn = torch.arange(len(u), device=u.device) % batch.n
            images, labels = batch.labelled[turn], batch.labels[turn]
            share = self.mixer.draw(labels)
            mixed = self.mixer.images(images, u, share)
            of_label = self.mixer.target_share(share)
            target = mix(one_hot(labels, self.classes), masks[-1], of_label)
            student_mixed = run_levels(self.student, mixed, self.taps)
            targets = [resize_linear(target, z.shape[2:]) for z in student_mixed.logits]
            # What shows the labelled patch alone is as certain as its label.
            given = [resize_nearest(of_label.squeeze(1), keep.shape[1:]) >= 1 for keep in certain]
            if c.weight_cs_mix:
                known = [keep | sure for keep, sure in zip(certain, given, strict=True)]
                terms["cs_mix"] = self._masked(student_mixed, targets, known, c.mix_ce)
            if c.weight_proto_mix:
                terms["proto_mix"] = self._aligned((labelled, reference), (student_mixed, targets), mixed)
        if active and c.selection == "self_aware":
            self._follow(student, pseudo)
        return terms

    def _certain(self, q: list[Tensor], pseudo: list[Tensor], images: Tensor, clock: Clock) -> list[Tensor]:
        """Voxels per level whose pseudo-label counts."""
        c = self.config
        limit = relative_entropy_limit(ramp_up(clock, "run"), rise=0.2 if c.ambiguous else 0.25)
        match c.selection:
            case "self_aware":
                own = c.threshold_per_level
                return [
                    self.thresholds.keep(k if own else 0, p, y) for k, (p, y) in enumerate(zip(q, pseudo, strict=True))
                ]
            case "all":
                return [torch.ones_like(y, dtype=torch.bool) for y in pseudo]
            case "probability":
                return [probable(p, c.probability) for p in q]
            case "entropy":
                return [low_entropy(p, limit, ambiguous=c.ambiguous) for p in q]
            case "mc_dropout":
                mean = monte_carlo_mean(self._teacher_probabilities, images, c.mc_passes, c.mc_noise)
                return [low_entropy(p, limit) for p in mean]

    def _follow(self, student: Levels, pseudo: list[Tensor]) -> None:
        found = list(zip(student.logits, pseudo, strict=True))
        for level, (z, y) in enumerate(found if self.config.threshold_per_level else found[-1:]):
            self.thresholds.update(level, z, y)

    def _teacher_probabilities(self, images: Tensor) -> list[Tensor]:
        return _probabilities(run_levels(self.teacher.tapped, images, self.taps))

    def _masked(self, found: Levels, targets: list[Tensor], keep: list[Tensor], form: SoftCE = "ce") -> Tensor:
        parts = zip(found.logits, targets, keep, strict=True)
        return self._scale * over_levels([masked_parts(z, y, m, form) for z, y, m in parts])

    def _aligned(
        self, labelled: tuple[Levels, list[Tensor]], other: tuple[Levels, list[Tensor]], images: Tensor
    ) -> Tensor:
        """Distance of the other features to the labelled prototypes, or to the teacher's of the same images."""
        c = self.config
        if c.alignment == "feature":
            return feature_mse(other[0].features, run_levels(self.teacher.tapped, images, self.taps).features)
        a, b = (
            [prototypes(f, m) for f, m in zip(found.features, masks, strict=True)] for found, masks in (labelled, other)
        )
        return prototype_loss(a[: c.proto_levels], b[: c.proto_levels], c.pairing, c.absent, c.reduction)

    @property
    def _scale(self) -> float:
        """Undoes the means over cross-entropy and Dice and over levels where sums are asked for."""
        return 2.0 * len(self.taps.features) if self.config.reduction == "sum" else 1.0

    def _weights(self, terms: dict[str, Tensor], active: bool) -> dict[str, float | Tensor]:
        c = self.config
        plain = {"supervised": 1.0} | {
            name: getattr(c, f"weight_{name}") * active for name in terms if name != "supervised"
        }
        if c.total == "sum":
            return dict(plain)
        values = {name: term.detach() for name, term in terms.items()}
        return {name: torch.where(values[name] > 0, weight / values[name], 0.0) for name, weight in plain.items()}


def _probabilities(found: Levels) -> list[Tensor]:
    return [torch.softmax(full_precision(z), 1) for z in found.logits]


def _coarser(labels: Tensor, found: Levels) -> list[Tensor]:
    return [resize_nearest(labels, z.shape[2:]) for z in found.logits]
