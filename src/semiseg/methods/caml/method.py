"""CAML: correlation-aware mutual learning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_contrast import mlp, rows_of
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import soft_dice
from semiseg.ingredients.masked import BATCH_DICE
from semiseg.ingredients.modes import evaluating
from semiseg.ingredients.pseudo_labels import confident_labels, hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.sharpening import sharpen
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.methods.caml.correlation import correlation_loss, correlations, surest
from semiseg.methods.caml.memory import ImageMemory
from semiseg.networks.base import Init
from semiseg.networks.modules import ModuleListOf

WIDTH = 32
"""Channels of compared features; the published script has an option for 64 that is passed to nothing."""
OFFICIAL = {"ramp": "units150", "ramp_length": 40}
"""The published code, of 15,000 steps on the left atrium; its runs with 8 labelled scans have a length of 20."""


@register("caml-official", paper="arXiv:2307.06312", title="CAML as its code has it", options=OFFICIAL)
@register("caml", paper="arXiv:2307.06312", title="Correlation-aware mutual learning (CAML)")
class CAML(Method):
    """Two networks, one with attention among the patches of a batch, agree on voxels and on what these are alike to.

    The first, v, predicts; a enlarges linearly and attends to the other patches (of its process). A memory has features
    of labelled voxels that both get right; the surest unlabelled voxels on which both agree are compared with them. No
    side of any agreement is detached, as in the code (Herschel555/CAML). Source: Gao et al., MICCAI 2023.

        L   = L_s / 2 + w(t) (L_c + b L_o)
        L_s = Dice(p_v, y) + Dice(p_a, y)
        L_c = mean (p_v - sharp(p_a))^2 + mean (p_a - sharp(p_v))^2        sharp: temperature 0.1
        L_o = mean CE(r_v, r_a)        r: softmax of 10 times the products with the memory
    """

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of the official runs with 8 labelled scans, the ramp as a share of it."""

        ramp_length: float | None = Field(0.2, ge=0, description="length of the ramp-up in its unit; null: all")
        weight: float = Field(1.0, ge=0, description="weight of the agreement after the ramp-up")
        correlation_weight: float = Field(0.05, ge=0, description="b, weight of the correlations beside it")
        temperature: float = Field(0.1, ge=0.02, le=1, description="of the sharpening, and of the correlations")
        images: int = Field(16, ge=1, description="labelled images of which the memory has features")
        memory: int = Field(256, ge=1, description="features of a class that are kept of an image, and drawn of all")
        most: int = Field(12800, ge=2, description="unlabelled voxels of a class that are compared")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.v = build(init=config.init)
        self.a = build(network="attentive", upsampling="linear", init=config.init)
        self.projections = ModuleListOf([mlp(net.taps["embedding"].channels, WIDTH) for net in (self.v, self.a)])
        self.comparers = ModuleListOf([mlp(WIDTH, WIDTH) for _ in range(2)])
        self.memory = ImageMemory(config.images, task.classes, config.memory, WIDTH)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, y = self.config, batch.n, batch.labels
        found = [net(batch.images, ("embedding",)) for net in (self.v, self.a)]
        logits, features = [z for z, _ in found], [taps["embedding"] for _, taps in found]
        p_v, p_a = (probabilities(z) for z in logits)
        self._remember(batch, [z[:n] for z in logits], [f[:n] for f in features])
        terms = {
            "supervised": torch.stack([soft_dice(z[:n], y, BATCH_DICE) for z in logits]).sum(),
            "agreement": F.mse_loss(p_v, sharpen(p_a, c.temperature)) + F.mse_loss(p_a, sharpen(p_v, c.temperature)),
        }
        if n < len(batch.images):
            terms["correlation"] = self._correlation([z[n:] for z in logits], [f[n:] for f in features])
        weight = c.weight * c.ramp_up(replace(clock, step=clock.step + 1))  # the code counts steps from 1
        yield Loss(terms, {"supervised": 0.5, "agreement": weight, "correlation": c.correlation_weight * weight})

    def predictors(self) -> Sequence[Predicting]:
        return (self.v,)

    def extra_state(self) -> dict[str, Any]:
        return self.memory.extra_state()

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.memory.load_extra_state(state)

    @torch.no_grad()
    def _remember(self, batch: Batch, logits: Sequence[Tensor], features: Sequence[Tensor]) -> None:
        """Keep projections of labelled voxels that both networks get right."""
        y, names = batch.labels, batch.cases[: batch.n] or tuple(map(str, range(batch.n)))
        right = (hard_labels(logits[0]) == y) & (hard_labels(logits[1]) == y)
        masks = (one_hot(y, logits[0].shape[1]).bool() & right.unsqueeze(1)).flatten(2)
        at, valid = self.memory.choose(masks)
        with evaluating(self.projections):
            chosen = [f.flatten(2).transpose(1, 2).take_along_dim(at.flatten(1).unsqueeze(2), 1) for f in features]
            rows = [project(f.flatten(0, 1)) for project, f in zip(self.projections, chosen, strict=True)]
        self.memory.replace(names, (rows[0] + rows[1]).view(*at.shape, -1) / 2, valid, masks.sum(2))

    def _correlation(self, logits: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """Distance of the networks' correlations with the memory, at voxels where they say the same; 0 without any."""
        confidence, labels = (each.flatten() for each in confident_labels(logits[0]))
        agreed = (labels == hard_labels(logits[1]).flatten()).nonzero().flatten()
        at = agreed if len(agreed) > 1 else torch.arange(2, device=labels.device)  # as many as normalisation needs
        pairs = zip(features, self.projections, self.comparers, strict=True)
        v, a = (compare(project(rows_of(f)[at])) for f, project, compare in pairs)
        memory = self.memory.draw()
        best = surest(confidence[at], labels[at], logits[0].shape[1], self.config.most)
        if not len(memory) or not len(best) or len(agreed) < 2:
            return torch.stack([v.sum(), a.sum()]).sum().mul(0.0)
        return correlation_loss(*(correlations(rows[best], memory, self.config.temperature) for rows in (v, a)))
