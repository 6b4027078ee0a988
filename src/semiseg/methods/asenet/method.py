"""ASE-Net: adversarial consistency and dynamic convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

import torch
from pydantic import Field
from torch import Tensor, nn

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.consistency import ConsistencyOptions, noisy
from semiseg.ingredients.discrimination import deception_loss
from semiseg.ingredients.ema import StudentTeacherOptions, make_teacher
from semiseg.ingredients.losses import cross_entropy, dice_ce
from semiseg.ingredients.modes import evaluating
from semiseg.methods import base
from semiseg.methods.asenet.discriminator import DynamicDiscriminator
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register

PAPER = "doi:10.1109/TMI.2022.3225687"
OFFICIAL = {"ramp": "units150", "ramp_length": 40, "horizon": None}
"""Schedules of the published 3D script, of 6,000 steps; as it stands it cannot be run."""


@register("asenet", paper=PAPER, title="Adversarial consistency learning with dynamic convolution (ASE-Net)")
@register("asenet-official", paper=PAPER, title="ASE-Net with the schedules of its published code", options=OFFICIAL)
class ASENet(Method):
    """Two discriminators see predictions with their images; the student learns to deceive both.

    The first one tells predictions of labelled images from those of unlabelled ones, the second one the teacher's of a
    clean image from the student's of a noisy one. In addition the student's clean and noisy predictions and the
    teacher's noisy one shall be equal. Convolutions of network and discriminators have kernels of their own for every
    image. The published 3D script lacks parts, and its consistency of one channel is always 0; this is its logic with
    the whole softmax, as in the 2D script (SUST-reynole/ASE-Net), both discriminators with half of the adversarial
    weight, and what each compares in one batch. Source: Lei et al., IEEE Transactions on Medical Imaging 2022.

        L = L_sup + w(t) (C + (CE(D_1(s, u), labelled) + CE(D_2(s~, u), teacher)) / 2)
        C = mean of ((s - t~)^2 + (s~ - t~)^2 + (s - s~)^2) / 3      s, t: student, teacher; ~: of the noisy image
    """

    class Config(ConsistencyOptions, StudentTeacherOptions, MethodConfig):
        """Options; the defaults are those of the left atrium, with the ramp stretched to the length of the run."""

        dynamic: bool = Field(True, description="dynamic convolutions in the network; false: the plain architecture")
        weight: float = Field(1.0, ge=0, description="weight of consistency and adversarial terms after the ramp-up")
        discriminator_lr: float = Field(1e-4, gt=0, description="constant learning rate of the discriminators' Adam")
        discriminator_width: int | None = Field(
            None, ge=1, description="their channels after one convolution; null: four times the network's at full size"
        )

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.student = build(network="dynamic", init=c.init) if c.dynamic else build(init=c.init)
        self.teacher = make_teacher(deepcopy(self.student), c, task.steps)
        width = c.discriminator_width or 4 * self.student.taps["embedding"].channels
        self.of_labels, self.of_noise = (
            DynamicDiscriminator(task.classes, task.channels, task.spatial_dims, width) for _ in range(2)
        )

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, x, u = self.config, batch.n, batch.images, batch.unlabelled
        if not len(u):
            yield Loss({"supervised": dice_ce(self.student(x), batch.labels, c.loss)})
            self.teacher.follow(self.student, clock)
            return
        changed = noisy(u, c.noise)
        logits = self.student(torch.cat([x, changed]))
        clean, shaken = probabilities(logits[n:]).tensor_split(2)
        deceived = deception_loss(self.of_labels, clean, u) + deception_loss(self.of_noise, shaken, u)
        terms = {
            "supervised": dice_ce(logits[:n], batch.labels, c.loss),
            "consistency": three_way(clean, shaken, probabilities(self.teacher(changed))),
            "adversarial": deceived / 2,
        }
        weight = c.weight * c.ramp_up(clock)
        yield Loss(terms, {"consistency": weight, "adversarial": weight})

        with torch.no_grad(), evaluating(self.student):
            p = probabilities(self.student(torch.cat([x, changed])))
        plain, shaken = p[: len(x)], p[len(x) :]
        taught = probabilities(self.teacher(u))
        by_labels = self.of_labels(plain, x)
        by_noise = self.of_noise(torch.cat([taught, shaken]), torch.cat([u, u]))
        terms = {
            "discriminator_labels": _told_apart(by_labels, n),
            "discriminator_noise": _told_apart(by_noise, len(u)),
        }
        yield Loss(terms, group="discriminators")
        self.teacher.follow(self.student, clock)

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        judges = [*self.of_labels.parameters(), *self.of_noise.parameters()]
        return {"main": list(self.student.parameters()), "discriminators": judges}

    def optimisers(self) -> Mapping[str, base.OwnOptimiser]:
        return {"discriminators": base.OwnOptimiser(self.config.discriminator_lr)}


def three_way(clean: Tensor, shaken: Tensor, teacher: Tensor) -> Tensor:
    """Mean square of the differences of three predictions `[B, C, *S]`, of which the last one gets no gradient."""
    teacher = teacher.detach()
    pairs = ((clean, teacher), (shaken, teacher), (clean, shaken))
    return torch.stack([(a - b).square().mean() for a, b in pairs]).mean()


def _told_apart(verdicts: Tensor, first: int) -> Tensor:
    """Mean of the cross-entropies of the `first` samples, which are of class 1, and of the others, of class 0."""
    classes = (torch.arange(len(verdicts), device=verdicts.device) < first).long()
    one, other = cross_entropy(verdicts[:first], classes[:first]), cross_entropy(verdicts[first:], classes[first:])
    return (one + other) / 2
