"""DuCiSC: dual cross-image semantic consistency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from semiseg.errors import InputError
from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.confidence import SelectionOptions, Selector
from semiseg.ingredients.ema import STATISTICS_DOC, Statistics, Teacher
from semiseg.ingredients.ensemble import ensemble_probabilities
from semiseg.ingredients.features import feature_mse
from semiseg.ingredients.levels import level_taps, one_hot, resize_linear, resize_nearest, run_levels
from semiseg.ingredients.masked import SoftCE, dice_ce_parts, masked_parts, over_levels
from semiseg.ingredients.mixtures import Mixer, MixingOptions, mix
from semiseg.ingredients.prototypes import Absent, Pairing, Reduction, prototype_loss, prototypes
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import ramp_up
from semiseg.ingredients.snapshots import SnapshotOptions, Snapshots
from semiseg.methods.base import Batch, Clock, Loss, Method, MethodConfig, NetworkBuilder, Task, register
from semiseg.networks.base import Init


class View(NamedTuple):
    """One set of images as the student sees it, with class probabilities; per level, coarse to fine."""

    images: Tensor
    logits: list[Tensor]
    features: list[Tensor]
    masks: list[Tensor]


UNSUPERVISED = ("cs_ulb", "cs_mix", "proto_ulb", "proto_mix")
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

        L = L_sup / |L_sup| + sum_i w_i L_i / |L_i|          |.|: the value, without gradient
        L = L_sup + sum_i w_i L_i                            total: sum
        i = cs_ulb, cs_mix:      CE + Dice where the teacher is surer than the threshold of class and level
        i = proto_ulb, proto_mix: mean over levels and classes of (P_labelled - P_other)^2
    """

    class Config(SelectionOptions, MixingOptions, SnapshotOptions, MethodConfig):
        """Options; every row of the paper's ablations is one of them."""

        weight_cs_ulb: float = Field(0.3, ge=0, description="weight of the pseudo-labels on unlabelled patches")
        weight_cs_mix: float = Field(0.1, ge=0, description="weight of the labels of mixed patches")
        weight_proto_ulb: float = Field(0.1, ge=0, description="weight of labelled against unlabelled prototypes")
        weight_proto_mix: float = Field(0.1, ge=0, description="weight of labelled against mixed prototypes")
        total: Literal["normalised", "sum"] = Field(
            "normalised", description="`normalised`: each term is divided by its own value; `sum`: as printed"
        )
        warmup: float = Field(2 / 15, ge=0, le=1, description="share of the run with labelled patches alone")
        mix_ce: SoftCE = Field(
            "kl", description="on mixed labels: `kl`, the divergence, divided by the classes; `ce`, cross-entropy"
        )
        alignment: Literal["prototype", "feature"] = Field(
            "prototype", description="`feature`: voxel by voxel with the teacher's, without classes, in both terms"
        )
        proto_levels: int | None = Field(None, ge=1, description="coarsest levels with prototypes; null: all")
        pairing: Pairing = Field(
            "batch", description="`batch`: mean prototypes of the patches; `image`: patch against patch, as printed"
        )
        absent: Absent = Field(
            "level", description="what a class that a patch lacks takes out of the prototypes: the level, or the class"
        )
        reduction: Reduction = Field(
            "mean", description="`sum`: over levels and channels, and of cross-entropy and Dice, as printed"
        )
        features: Literal["auto", "sum", "dec"] = Field(
            "auto", description="features and heads: `dec`, on decoder stages; `sum`, on what enters them (V-Net alone)"
        )
        ensemble: Literal["mean_teacher", "temporal"] = Field(
            "mean_teacher", description="who gives the pseudo-labels: an average of weights, or of past predictions"
        )
        decay: float = Field(0.99, ge=0, lt=1, description="largest decay of the teacher, after its warm-up")
        teacher_statistics: Statistics = Field("batch", description=STATISTICS_DOC)
        teacher_dropout: bool = Field(True, description="keep the teacher's dropout on during training")
        init: Init = Field("default", description="initialisation of the convolutions")
        predict_with: Literal["student", "teacher"] = Field("student", description="network used for prediction")

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.config, self.classes = config, task.classes
        c = config
        self.student, start = (build(init=c.init, deep_supervision=True) for _ in range(2))
        self.teacher: Teacher | Snapshots = (
            Teacher(start, c.decay, c.teacher_statistics, dropout=c.teacher_dropout)
            if c.ensemble == "mean_teacher"
            else Snapshots(self.student, c)
        )
        if c.alignment == "feature" and c.ensemble != "mean_teacher":
            raise InputError("alignment: feature needs a teacher with features: set ensemble to mean_teacher")
        added = "sum1" in self.student.taps
        if c.features == "sum" and not added:
            raise InputError("features: sum needs a network that adds its skips: take dec, or the network vnet")
        self.taps = level_taps(self.student.taps, "sum" if added and c.features != "dec" else "dec")
        self.selector = Selector(c, task.classes, len(self.taps.features))
        self.mixer = Mixer(c)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits, features = run_levels(self.student, batch.labelled, self.taps)
        labels = [resize_nearest(batch.labels, z.shape[2:]) for z in logits]
        parts = [dice_ce_parts(z, y) for z, y in zip(logits, labels, strict=True)]
        terms = {"supervised": self._scale * over_levels(parts)}
        active = clock.step >= round(c.warmup * clock.steps)
        if len(batch.unlabelled) and any(getattr(c, f"weight_{name}") for name in UNSUPERVISED):
            labelled = View(batch.labelled, logits, features, self._one_hot(labels))
            # The warm-up makes all passes too, for the running statistics of both networks.
            with torch.set_grad_enabled(active):
                terms |= self._unsupervised(batch, labelled, clock, active)
        yield Loss(terms, self._weights(terms, active))
        self.teacher.update(self.student, clock.epoch if isinstance(self.teacher, Snapshots) else clock.step)

    def predict(self, images: Tensor) -> Tensor:
        return ensemble_probabilities([self.teacher if self.config.predict_with == "teacher" else self.student], images)

    def observations(self) -> dict[str, Tensor]:
        return self.selector.observations()

    def extra_state(self) -> dict[str, Any]:
        return self.teacher.extra_state() if isinstance(self.teacher, Snapshots) else {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        if isinstance(self.teacher, Snapshots):
            self.teacher.load_extra_state(state)

    def _unsupervised(self, batch: Batch, labelled: View, clock: Clock, active: bool) -> dict[str, Tensor]:
        c, u = self.config, batch.unlabelled
        guide, guide_features = run_levels(self.teacher.tapped, u, self.taps)
        pseudo = [hard_labels(z) for z in guide]
        certain = self.selector.keep(self._teach, u, _probabilities(guide), ramp_up(clock, "run"))
        seen = View(u, *run_levels(self.student, u, self.taps), self._one_hot(pseudo))
        terms = {}
        if c.weight_cs_ulb:
            terms["cs_ulb"] = self._masked(seen, certain)
        if c.weight_proto_ulb:
            terms["proto_ulb"] = self._aligned(labelled, seen, guide_features)
        if c.weight_cs_mix or c.weight_proto_mix:
            terms |= self._mixed(batch, labelled, seen, certain)
        if active:
            self.selector.follow(seen.logits, pseudo)
        return terms

    def _mixed(self, batch: Batch, labelled: View, seen: View, certain: list[Tensor]) -> dict[str, Tensor]:
        c, u = self.config, batch.unlabelled
        turn = torch.arange(len(u), device=u.device) % batch.n
        images, labels = batch.labelled[turn], batch.labels[turn]
        share = self.mixer.draw(labels)
        of_label = self.mixer.target_share(share)
        target = mix(one_hot(labels, self.classes), seen.masks[-1], of_label)
        mixed = self.mixer.images(images, u, share)
        logits, features = run_levels(self.student, mixed, self.taps)
        view = View(mixed, logits, features, [resize_linear(target, z.shape[2:]) for z in logits])
        terms = {}
        if c.weight_cs_mix:
            # What shows the labelled patch alone is as certain as its label.
            known = [m | (resize_nearest(of_label.squeeze(1), m.shape[1:]) >= 1) for m in certain]
            terms["cs_mix"] = self._masked(view, known, c.mix_ce)
        if c.weight_proto_mix:
            terms["proto_mix"] = self._aligned(labelled, view)
        return terms

    def _masked(self, view: View, keep: Sequence[Tensor], form: SoftCE = "ce") -> Tensor:
        levels = zip(view.logits, view.masks, keep, strict=True)
        return self._scale * over_levels([masked_parts(z, y, m, form) for z, y, m in levels])

    def _aligned(self, labelled: View, other: View, guide: Sequence[Tensor] | None = None) -> Tensor:
        """Distance of the other features to the labelled prototypes, or to the teacher's of the same images."""
        c = self.config
        if c.alignment == "feature":
            teachers = run_levels(self.teacher.tapped, other.images, self.taps).features if guide is None else guide
            return feature_mse(other.features, teachers)
        a, b = (
            [prototypes(f, m) for f, m in zip(view.features, view.masks, strict=True)][: c.proto_levels]
            for view in (labelled, other)
        )
        return prototype_loss(a, b, c.pairing, c.absent, c.reduction)

    def _teach(self, images: Tensor) -> list[Tensor]:
        return _probabilities(run_levels(self.teacher.tapped, images, self.taps).logits)

    def _one_hot(self, labels: Sequence[Tensor]) -> list[Tensor]:
        return [one_hot(y, self.classes) for y in labels]

    @property
    def _scale(self) -> float:
        """Undoes the means over levels and of cross-entropy and Dice where sums are asked for."""
        return 2.0 * len(self.taps.features) if self.config.reduction == "sum" else 1.0

    def _weights(self, terms: dict[str, Tensor], active: bool) -> dict[str, float | Tensor]:
        weights = {name: getattr(self.config, f"weight_{name}", 1.0) for name in terms}
        factors = {name: weight if active or name == "supervised" else 0.0 for name, weight in weights.items()}
        if self.config.total == "sum":
            return dict(factors)
        values = {name: term.detach() for name, term in terms.items()}
        return {name: torch.where(values[name] > 0, factor / values[name], 0.0) for name, factor in factors.items()}


def _probabilities(logits: Sequence[Tensor]) -> list[Tensor]:
    return [torch.softmax(full_precision(z), 1) for z in logits]
