"""DuCiSC: dual cross-image semantic consistency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.errors import InputError
from semiseg.ingredients.confidence import SelectionOptions, Selector
from semiseg.ingredients.features import feature_mse
from semiseg.ingredients.levels import (
    Levels,
    View,
    coarse_labels,
    level_taps,
    one_hot,
    one_hots,
    resize_linear,
    resize_nearest,
    run_levels,
)
from semiseg.ingredients.masked import BATCH_DICE, SOFT_DICE, SoftCE, dice_ce_parts, masked_levels, over_levels
from semiseg.ingredients.mixtures import Mixer, MixingOptions, mix
from semiseg.ingredients.prototypes import PrototypeOptions, level_prototypes, prototype_loss
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions, ramp_up
from semiseg.ingredients.snapshots import EnsembleOptions, make_ensemble
from semiseg.ingredients.totals import TotalOptions, self_normalised
from semiseg.methods.base import Batch, Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init

UNSUPERVISED = ("cs_ulb", "cs_mix", "proto_ulb", "proto_mix")
OFFICIAL = {
    "total": "normalised",
    "ramp": "none",
    "memory": None,
    "snapshot_every": 40 / 15_000,  # ten passes over eight labelled scans, two at a time
    "coarse_labels": "first",
    "squares": False,
    "absent": "level",
}
"""What ShanghaiTech-IMPACT/DuCiSC does, made for 15,000 steps of SGD at a constant rate."""
PAPER = {
    **OFFICIAL,
    "total": "sum",
    "warmup": 0.0,
    "threshold_clamp": False,
    "threshold_per_level": False,
    "pseudo_labels": "finest",
    "pairing": "image",
    "reduction": "sum",
    "mix_ce": "ce",
}
"""What is printed, where the official code does otherwise; its weight decay of 5e-4 is in the presets."""


@register(
    "ducisc", paper="arXiv:2507.21440", title="Dual cross-image semantic consistency with self-aware pseudo labels"
)
@register("ducisc-official", paper="arXiv:2507.21440", title="DuCiSC as its published code has it", options=OFFICIAL)
@register("ducisc-paper", paper="arXiv:2507.21440", title="DuCiSC as printed", options=PAPER)
class DuCiSC(Method):
    """Mean features of each class agree between labelled, unlabelled and mixed images, beside pseudo-labels.

    A mean teacher labels the unlabelled patches at every decoder level. The student learns these labels where the
    teacher is surer than a threshold per class and level that follows the student, and learns mixtures of labelled and
    unlabelled patches. Class prototypes of the labelled patches are drawn to those of both.

    `ducisc-official` is the published code: each term is divided by its own value, so that its weight is its share of
    the gradient of log losses, and has all of it after the supervised 2/15 of the run. In runs of some hundred steps
    the labels then count 30 to 40 times less than printed, by a teacher that is half a run old. The defaults add the
    terms up as printed, let them rise, shorten the averages, take labels and mixtures at the same places of coarse
    levels, and learn mixed labels by a Dice that is least at the label itself.

        L = L_sup + r(t) sum_i w_i L_i                       Eq. 11
        L = L_sup / |L_sup| + sum_i w_i L_i / |L_i|          total: normalised; |.|: the value, without gradient
        i = cs_ulb, cs_mix:      CE + Dice where the teacher is surer than the threshold of class and level
        i = proto_ulb, proto_mix: mean over levels and classes of (P_labelled - P_other)^2         Eq. 4, 7
    """

    class Config(
        SelectionOptions, MixingOptions, PrototypeOptions, EnsembleOptions, TotalOptions, RampOptions, MethodConfig
    ):
        """Options; every row of the paper's ablations is one of them."""

        weight_cs_ulb: float = Field(0.3, ge=0, description="weight of the pseudo-labels on unlabelled patches")
        weight_cs_mix: float = Field(0.1, ge=0, description="weight of the labels of mixed patches")
        weight_proto_ulb: float = Field(0.1, ge=0, description="weight of labelled against unlabelled prototypes")
        weight_proto_mix: float = Field(0.1, ge=0, description="weight of labelled against mixed prototypes")
        warmup: float = Field(2 / 15, ge=0, le=1, description="share of the run with labelled patches alone")
        pseudo_labels: Literal["heads", "finest"] = Field(
            "heads",
            description="labels of coarse levels: of the teacher's own `heads` there, or those of the `finest` level "
            "made coarser, with what is certain of them, as printed",
        )
        mix_ce: SoftCE = Field("kl", description="on mixed labels: `kl`, divergence / classes; `ce`, cross-entropy")
        squares: bool = Field(True, description="Dice of mixed labels with squares, which is least at the label itself")
        alignment: Literal["prototype", "feature"] = Field(
            "prototype", description="`feature`: voxel by voxel with the teacher's, without classes, in both terms"
        )
        init: Init = Field("default", description="initialisation of the convolutions")

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.config = c = config
        self.classes = task.classes
        self.student, start = (build(init=c.init, deep_supervision=True) for _ in range(2))
        self.teacher = make_ensemble(c, self.student, start, task.steps)
        if c.alignment == "feature" and c.ensemble != "mean_teacher":
            raise InputError("alignment: feature needs a teacher with features: set ensemble to mean_teacher")
        self.taps = level_taps(self.student.taps, c.features)
        self.selector = Selector(c, task.classes, len(self.taps.features), task.steps)
        self.mixer = Mixer(c)
        self.acting = torch.zeros(2)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits, features = run_levels(self.student, batch.labelled, self.taps)
        labels = self._coarse(batch.labels, logits)
        parts = [dice_ce_parts(z, y) for z, y in zip(logits, labels, strict=True)]
        terms = {"supervised": over_levels(parts, c.reduction)}
        active = clock.step >= round(c.warmup * clock.steps)
        if len(batch.unlabelled) and any(getattr(c, f"weight_{name}") for name in UNSUPERVISED):
            labelled = View(batch.labelled, logits, features, one_hots(labels, self.classes))
            # The warm-up makes all passes too, for the running statistics of both networks.
            with torch.set_grad_enabled(active):
                terms |= self._unsupervised(batch, labelled, clock, active)
        ramp = c.ramp_up(clock) if active else 0.0
        weights = {name: ramp * getattr(c, f"weight_{name}") if name != "supervised" else 1.0 for name in terms}
        yield Loss(terms, weights if c.total == "sum" else self_normalised(terms, weights))
        self.teacher.follow(self.student, clock)

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)

    def observations(self) -> dict[str, Tensor]:
        return self.selector.observations() | {"prototypes_acting": self.acting}

    def extra_state(self) -> dict[str, Any]:
        return self.teacher.extra_state()

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.teacher.load_extra_state(state)

    def _unsupervised(self, batch: Batch, labelled: View, clock: Clock, active: bool) -> dict[str, Tensor]:
        c, u = self.config, batch.unlabelled
        guide = run_levels(self.teacher.tapped, u, self.taps)
        pseudo, certain = self._pseudo_labels(u, guide, ramp_up(clock, "run"))
        seen = View(u, *run_levels(self.student, u, self.taps), one_hots(pseudo, self.classes))
        terms = {}
        if c.weight_cs_ulb:
            terms["cs_ulb"] = masked_levels(seen, certain, reduction=c.reduction)
        if c.weight_proto_ulb:
            terms["proto_ulb"] = self._aligned(labelled, seen, guide.features)
        if c.weight_cs_mix or c.weight_proto_mix:
            terms |= self._mixed(batch, labelled, seen, certain)
        if active:
            self.selector.follow(seen.logits, pseudo)
        aligned = [terms[name].detach() for name in ("proto_ulb", "proto_mix") if name in terms]
        self.acting = torch.stack(aligned).gt(0).float() if aligned else self.acting
        return terms

    def _pseudo_labels(self, images: Tensor, guide: Levels, ramp: float) -> tuple[list[Tensor], list[Tensor]]:
        """The teacher's labels of all levels, and where they count."""
        c = self.config
        certain = self.selector.keep(self._teach, images, guide.probabilities(), ramp)
        if c.pseudo_labels == "heads":
            return [hard_labels(z) for z in guide.logits], certain
        keep = certain[-1]
        return self._coarse(hard_labels(guide.logits[-1]), guide.logits), [
            resize_nearest(keep, z.shape[2:]) for z in guide.logits
        ]

    def _coarse(self, labels: Tensor, levels: Sequence[Tensor]) -> list[Tensor]:
        """Labels at the sizes of all levels."""
        return [coarse_labels(labels, z.shape[2:], self.classes, self.config.coarse_labels) for z in levels]

    def _mixed(self, batch: Batch, labelled: View, seen: View, certain: list[Tensor]) -> dict[str, Tensor]:
        c, u = self.config, batch.unlabelled
        turn = torch.arange(len(u), device=u.device) % batch.n
        images, labels = self.mixer.resized(batch.labelled[turn], batch.labels[turn])
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
            terms["cs_mix"] = masked_levels(view, known, c.mix_ce, c.reduction, SOFT_DICE if c.squares else BATCH_DICE)
        if c.weight_proto_mix:
            terms["proto_mix"] = self._aligned(labelled, view)
        return terms

    def _aligned(self, labelled: View, other: View, guide: Sequence[Tensor] | None = None) -> Tensor:
        """Distance of the other features to the labelled prototypes, or to the teacher's of the same images."""
        c = self.config
        if c.alignment == "feature":
            teachers = run_levels(self.teacher.tapped, other.images, self.taps).features if guide is None else guide
            return feature_mse(other.features, teachers, c.reduction)
        a, b = (level_prototypes(view, c.proto_levels) for view in (labelled, other))
        return prototype_loss(a, b, c.pairing, c.absent, c.reduction)

    def _teach(self, images: Tensor) -> list[Tensor]:
        return run_levels(self.teacher.tapped, images, self.taps).probabilities()
