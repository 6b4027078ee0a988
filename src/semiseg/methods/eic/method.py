"""EIC: exploring inherent consistency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semiseg.batches.batch import Batch
from semiseg.ingredients.adversarial import virtual_adversarial_loss
from semiseg.ingredients.class_sums import full_precision, probabilities
from semiseg.ingredients.consistency import ConsistencyOptions, noisy, probability_dice, probability_mse
from semiseg.ingredients.ema import StudentTeacherOptions, make_teacher
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import FORMS, dice_ce
from semiseg.ingredients.modes import evaluating
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Stage, Task, register
from semiseg.methods.eic.autoencoder import AutoEncoder, noisy_one_hot

CODES = "autoencoder"
"""The first stage."""


@register("eic", citation="IEEE Transactions on Medical Imaging 2024", title="Exploring inherent consistency (EIC)")
class EIC(Method):
    """A prediction has the code of its label, or keeps its own under the noise that changes that code most.

    The code is that of an auto-encoder of segmentations, which is trained first, on labels alone (its loss is the
    `supervised` one of that stage), and then stays as it is. Beside it stands a method of any kind: the mean teacher,
    or virtual adversarial training on the Dice, here on all images and over the classes (the code, weihuang-cs/IC4SSL,
    takes one image and its rows). That code is for slices; volumes are the same formulas. Source: Huang et al., IEEE
    TMI 2024.

        L    = L_sup + w(t) L_base + a (L_s + L_u)
        L_s  = mean (e(p) - e(y))^2 on labelled patches             e: code
        L_u  = mean (e(p(x + r)) - e(p(x)))^2 on unlabelled ones    r: of length 6, along the gradient of this at 10
    """

    class Config(ConsistencyOptions, StudentTeacherOptions, MethodConfig):
        """Options; the defaults are those of the official runs, with stages and ramp as shares of the run."""

        autoencoder: float = Field(0.25, ge=0, lt=1, description="share of the steps that train the auto-encoder")
        base: Literal["mean_teacher", "vat"] = Field("mean_teacher", description="the method beside which it stands")
        consistency_start: int = Field(
            0, ge=0, description="first step of the second stage with a mean teacher; the official script: 1000"
        )
        code_weight: float = Field(0.1, ge=0, description="a, weight of both terms of codes")
        noise_length: float = Field(6.0, gt=0, description="length of the adversarial noise per patch")
        noise_reach: float = Field(10.0, gt=0, description="length of the random noise at which it is looked for")

        def stages(self) -> tuple[Stage, Stage]:
            return Stage(CODES, self.autoencoder, schedule="stage"), Stage(
                "main", 1 - self.autoencoder, schedule="stage"
            )

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.classes = task.classes
        self.student = build(init=config.init)
        self.teacher = make_teacher(deepcopy(self.student), config, task.steps)
        self.autoencoder = AutoEncoder(task.classes, self.student.taps)

    def stages(self) -> tuple[Stage, ...]:
        return self.config.stages()

    def groups(self) -> dict[str, list[nn.Parameter]]:
        codes = [p for p in self.autoencoder.parameters() if p.requires_grad]
        return {"main": list(self.student.parameters())} | ({CODES: codes} if codes else {})

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, x, y = self.config, batch.n, batch.images, batch.labels
        self.autoencoder.requires_grad_(clock.stage == CODES)
        if clock.stage == CODES:
            uniform = torch.rand(n, 1, *y.shape[1:], device=y.device)
            reconstructed = self.autoencoder(noisy_one_hot(y, self.classes, uniform))
            yield Loss({"supervised": dice_ce(reconstructed, y, c.loss)}, group=CODES)
            return

        logits = self.student(x)
        terms = {"supervised": dice_ce(logits[:n], y, c.loss)}
        with evaluating(self.autoencoder):
            terms["code"] = self._distance(logits[:n], one_hot(y, self.classes))
            if n < len(x):
                u = x[n:]
                terms["sensitivity"] = virtual_adversarial_loss(
                    self.student, u, self._distance, c.noise_length, c.noise_reach
                )
        done = round(c.autoencoder * clock.steps)
        inner = replace(clock, step=max(clock.step - done, 0), steps=clock.steps - done)
        if n < len(x) and (c.base == "vat" or inner.step >= c.consistency_start):
            terms["base"] = self._base(x[n:], logits[n:])
        weights = {"code": c.code_weight, "sensitivity": c.code_weight, "base": c.weight * c.ramp_up(inner)}
        yield Loss(terms, weights)
        self.teacher.update(self.student, inner.step)

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)

    def _distance(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean squared difference of the codes of a prediction and of probabilities `[B, C, *S]`."""
        found, wanted = (self.autoencoder.encode(p) for p in (probabilities(logits), target))
        return F.mse_loss(full_precision(found), full_precision(wanted.detach()))

    def _base(self, images: Tensor, logits: Tensor) -> Tensor:
        c = self.config
        if c.base == "vat":
            dice = partial(probability_dice, form=FORMS["ssl4mis"])
            return virtual_adversarial_loss(self.student, images, dice, c.noise_length, c.noise_reach)
        return probability_mse(logits, self.teacher(noisy(images, c.noise)))
