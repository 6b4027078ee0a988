"""DuCiSC: dual cross-image semantic consistency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.errors import InputError
from semiseg.ingredients.alignment import AlignmentOptions, make_alignment
from semiseg.ingredients.confidence import SelectionOptions, Selector
from semiseg.ingredients.levels import View, coarse, level_taps, one_hots, resize_linear, resize_nearest, run_levels
from semiseg.ingredients.masked import BATCH_DICE, SOFT_DICE, SoftCE, dice_ce_parts, masked_levels, over_levels
from semiseg.ingredients.mixtures import Mixer, MixingOptions, mix_with_labelled
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions, ramp_up
from semiseg.ingredients.snapshots import EnsembleOptions, make_ensemble
from semiseg.ingredients.totals import TotalOptions, self_normalised
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init

UNSUPERVISED = ("cs_ulb", "cs_mix", "proto_ulb", "proto_mix")
OFFICIAL: dict[str, Any] = {"total": "normalised", "ramp": "none", "horizon": None, "coarse_labels": "first"}
OFFICIAL |= {"squares": False, "snapshot_every": 40 / 15_000}  # ten passes over eight labelled scans, two at a time
"""What ShanghaiTech-IMPACT/DuCiSC does, made for 15,000 steps of SGD at a constant rate."""
PRINTED: dict[str, Any] = {"total": "sum", "warmup": 0.0, "pseudo_labels": "finest", "pairing": "image"}
PRINTED |= {"reduction": "sum", "threshold_clamp": False, "threshold_per_level": False, "mix_ce": "ce"}
"""What is printed, where the official code does otherwise; its weight decay of 5e-4 is in the presets."""


@register("ducisc", paper="arXiv:2507.21440", title="Dual cross-image semantic consistency (DuCiSC)")
@register("ducisc-official", paper="arXiv:2507.21440", title="DuCiSC as its published code has it", options=OFFICIAL)
@register("ducisc-paper", paper="arXiv:2507.21440", title="DuCiSC as printed", options=OFFICIAL | PRINTED)
class DuCiSC(Method):
    """Mean features of each class agree between labelled, unlabelled and mixed images, beside pseudo-labels.

    A mean teacher labels the unlabelled patches at every decoder level. The student learns these labels where the
    teacher is surer than a threshold per class and level that follows the student, and learns mixtures of labelled and
    unlabelled patches. Class prototypes of the labelled patches are drawn to those of both.

    `ducisc-official` is the published code: each term is divided by its own value, so that its weight is its share of
    the gradient of log losses. In runs of some hundred steps the labels then count 30 to 40 times less than printed,
    beside those of a teacher that is half a run old. The defaults add the terms up as printed, let them rise, shorten
    the averages, and take coarse labels where mixtures have them. A class that a patch lacks drops its level, as in
    that code: dropping the class alone (`absent: class`) cost up to 20 Dice in short runs, and is needed where patches
    seldom hold all classes.

        L = L_sup + r(t) sum_i w_i L_i                       Eq. 11
        L = L_sup / |L_sup| + sum_i w_i L_i / |L_i|          total: normalised; |.|: the value, without gradient
        cs_ulb, cs_mix: CE + Dice where the teacher is sure      proto_ulb, proto_mix: mean (P_labelled - P_other)^2
    """

    class Config(
        SelectionOptions, MixingOptions, AlignmentOptions, EnsembleOptions, TotalOptions, RampOptions, MethodConfig
    ):
        """Options; every row of the paper's ablations is one of them."""

        weight_cs_ulb: float = Field(0.3, ge=0, description="weight of the pseudo-labels on unlabelled patches")
        weight_cs_mix: float = Field(0.1, ge=0, description="weight of the labels of mixed patches")
        weight_proto_ulb: float = Field(0.1, ge=0, description="weight of labelled against unlabelled prototypes")
        weight_proto_mix: float = Field(0.1, ge=0, description="weight of labelled against mixed prototypes")
        warmup: float = Field(2 / 15, ge=0, le=1, description="share of the run with labelled patches alone")
        pseudo_labels: Literal["heads", "finest"] = Field(
            "heads", description="coarse labels: of the teacher's own `heads`, or of the `finest` one, as printed"
        )
        mix_ce: SoftCE = Field("kl", description="on mixed labels: `kl`, divergence / classes; `ce`, cross-entropy")
        squares: bool = Field(True, description="Dice of mixed labels with squares, which is least at the label itself")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.classes = task.classes
        self.student, start = (build(init=c.init, deep_supervision=True) for _ in range(2))
        self.teacher = make_ensemble(c, self.student, start, task.steps)
        if c.alignment == "feature" and c.ensemble != "mean_teacher":
            raise InputError("alignment: feature needs a teacher with features: set ensemble to mean_teacher")
        self.taps = level_taps(self.student.taps, c.features)
        levels = len(self.taps.features)
        self.selector = Selector(c, task.classes, levels, task.steps)
        self.align_ulb, self.align_mix = (make_alignment(c, levels) for _ in range(2))
        self.mixer = Mixer(c)

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

    def _unsupervised(self, batch: Batch, labelled: View, clock: Clock, active: bool) -> dict[str, Tensor]:
        c, u = self.config, batch.unlabelled
        guide = run_levels(self.teacher.tapped, u, self.taps)
        pseudo = [hard_labels(z) for z in guide.logits]
        certain = self.selector.keep(self._teach, u, guide.probabilities(), ramp_up(clock, "run"))
        if c.pseudo_labels == "finest":
            pseudo = self._coarse(pseudo[-1], guide.logits)
            certain = [resize_nearest(certain[-1], z.shape[2:]) for z in guide.logits]
        seen = View(u, *run_levels(self.student, u, self.taps), one_hots(pseudo, self.classes))
        terms = {}
        if c.weight_cs_ulb:
            terms["cs_ulb"] = masked_levels(seen, certain, reduction=c.reduction)
        if c.weight_proto_ulb:
            terms["proto_ulb"] = self.align_ulb(labelled, seen, lambda: guide.features)
        if c.weight_cs_mix or c.weight_proto_mix:
            terms |= self._mixed(batch, labelled, seen, certain)
        if active:
            self.selector.follow(seen.logits, pseudo)
        return terms

    def _mixed(self, batch: Batch, labelled: View, seen: View, certain: list[Tensor]) -> dict[str, Tensor]:
        c, known = self.config, (batch.labelled, batch.labels)
        images, target, of_label = mix_with_labelled(self.mixer, *known, seen.images, seen.masks[-1])
        logits, features = run_levels(self.student, images, self.taps)
        view = View(images, logits, features, [resize_linear(target, z.shape[2:]) for z in logits])
        terms = {}
        if c.weight_cs_mix:
            # What shows the labelled patch alone is as certain as its label.
            certain = [m | (resize_nearest(of_label.squeeze(1), m.shape[1:]) >= 1) for m in certain]
            dice = SOFT_DICE if c.squares else BATCH_DICE
            terms["cs_mix"] = masked_levels(view, certain, c.mix_ce, c.reduction, dice)
        if c.weight_proto_mix:
            guide = partial(run_levels, self.teacher.tapped, images, self.taps)
            terms["proto_mix"] = self.align_mix(labelled, view, lambda: guide().features)
        return terms

    def _coarse(self, labels: Tensor, levels: Sequence[Tensor]) -> list[Tensor]:
        """Labels at the sizes of all levels."""
        return [coarse(labels, z.shape[2:], self.classes, self.config.coarse_labels) for z in levels]

    def _teach(self, images: Tensor) -> list[Tensor]:
        return run_levels(self.teacher.tapped, images, self.taps).probabilities()

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)

    def observations(self) -> dict[str, Tensor]:
        kinds = {"ulb": self.align_ulb, "mix": self.align_mix}
        usable = {f"{name}_{kind}": value for kind, a in kinds.items() for name, value in a.observations().items()}
        return self.selector.observations() | usable

    def extra_state(self) -> dict[str, Any]:
        return self.teacher.extra_state()

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.teacher.load_extra_state(state)
