"""DuCiSC: dual cross-image semantic consistency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.levels import Levels, level_taps
from semiseg.ingredients.masked import BATCH_DICE, SOFT_DICE, SoftCE, labelled_levels, masked_levels
from semiseg.ingredients.ramps import RampOptions, ramp_up
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.methods.ducisc.ablations import MIXERS, AblationOptions, make_alignment, make_ensemble, make_selection
from semiseg.methods.ducisc.totals import TotalOptions, self_normalised
from semiseg.methods.ducisc.views import LevelViews, PseudoLabels, sure_in_mixture

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

        L = L_sup + r(t) sum_i w_i L_i                                                             Eq. 11
        L = L_sup / |L_sup| + sum_i w_i L_i / |L_i|          total: normalised; |.|: the value, without gradient
        cs_ulb, cs_mix: CE + Dice where the teacher is sure      proto_ulb, proto_mix: mean (P_labelled - P_other)^2
    """

    class Config(AblationOptions, TotalOptions, RampOptions, MethodConfig):
        """Options; a weight of 0 is a row of Table VI and leaves a term out, with passes that serve it alone."""

        weight_cs_ulb: float = Field(0.3, ge=0, description="weight of the pseudo-labels on unlabelled patches")
        weight_cs_mix: float = Field(0.1, ge=0, description="weight of the labels of mixed patches")
        weight_proto_ulb: float = Field(0.1, ge=0, description="weight of labelled against unlabelled prototypes")
        weight_proto_mix: float = Field(0.1, ge=0, description="weight of labelled against mixed prototypes")
        warmup: float = Field(2 / 15, ge=0, le=1, description="share of the run with labelled patches alone")
        pseudo_labels: PseudoLabels = Field(
            "heads", description="coarse labels: of the teacher's own `heads`, or of the `finest` one, as printed"
        )
        mix_ce: SoftCE = Field("kl", description="on mixed labels: `kl`, divergence / classes; `ce`, cross-entropy")
        squares: bool = Field(True, description="Dice of mixed labels with squares, which is least at the label itself")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.student, start = build(deep_supervision=True), build(deep_supervision=True)
        self.teacher = make_ensemble(c, self.student, start, task.steps)
        self.views = LevelViews(level_taps(self.student.taps), task.classes, c.coarse_labels)
        levels = len(self.views.taps.features)
        self.selector = make_selection(c, task.classes, levels, task.steps)
        self.align_ulb, self.align_mix = (make_alignment(c, levels, name) for name in ("ulb", "mix"))
        self.mixer = MIXERS[c.mixing]()
        self.weights = {name: getattr(c, f"weight_{name}") for name in ("cs_ulb", "cs_mix", "proto_ulb", "proto_mix")}

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, u, w, views = self.config, batch.unlabelled, self.weights, self.views
        active = clock.step >= round(c.warmup * clock.steps)
        levels = views.run(self.student, batch.labelled)
        labels = views.coarse(batch.labels, levels.logits)
        terms = {"supervised": labelled_levels(levels.logits, labels, c.reduction)}
        if len(u) and any(w.values()):
            # The warm-up makes all passes too, for the running statistics of both networks.
            with torch.set_grad_enabled(active):
                labelled, guide = views.labelled(batch.labelled, levels, labels), self._teacher_levels(u)
                sure = self.selector.keep(self._teacher_levels, u, guide.probabilities(), ramp_up(clock, "run"))
                pseudo, sure = views.pseudo_labels(guide, sure, c.pseudo_labels)
                seen = views.labelled(u, views.run(self.student, u), pseudo)
                if w["cs_ulb"]:
                    terms["cs_ulb"] = masked_levels(seen, sure, reduction=c.reduction)
                if w["proto_ulb"]:
                    terms["proto_ulb"] = self.align_ulb(labelled, seen, lambda _: guide)  # Eq. 4
                if w["cs_mix"] or w["proto_mix"]:
                    mixture = self.mixer(batch.labelled, batch.labels, u, seen.masks[-1])
                    mixed = views.mixed(self.student, mixture)
                if w["cs_mix"]:
                    dice = SOFT_DICE if c.squares else BATCH_DICE
                    terms["cs_mix"] = masked_levels(mixed, sure_in_mixture(sure, mixture), c.mix_ce, c.reduction, dice)
                if w["proto_mix"]:
                    terms["proto_mix"] = self.align_mix(labelled, mixed, self._teacher_levels)  # Eq. 7
            if active:
                self.selector.follow(seen.logits, pseudo)  # Eq. 9
        ramp = c.ramp_up(clock) if active else 0.0
        weights = {name: ramp * w[name] if name in w else 1.0 for name in terms}
        yield Loss(terms, weights if c.total == "sum" else self_normalised(terms, weights))  # Eq. 11
        self.teacher.follow(self.student, clock)

    def _teacher_levels(self, images: Tensor) -> Levels:
        return self.views.run(self.teacher.tapped, images)

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)

    def observations(self) -> dict[str, Tensor]:
        return self.selector.observations() | self.align_ulb.observations() | self.align_mix.observations()

    def extra_state(self) -> dict[str, Any]:
        return self.teacher.extra_state()

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.teacher.load_extra_state(state)
