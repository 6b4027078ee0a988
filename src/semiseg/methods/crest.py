"""CReST: class-rebalancing self-training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_weights import ClassWeights, EqualWeights, crest_weights, reversed_shares
from semiseg.ingredients.co_training import CoTrainingOptions, make_pair, observed_weights, weighted_terms
from semiseg.ingredients.generations import GenerationOptions, PseudoLabeller
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.losses import kept_cross_entropy
from semiseg.methods.base import (
    Clock,
    Loss,
    Method,
    MethodConfig,
    NetworkBuilder,
    Predicting,
    RefreshAt,
    Stage,
    StageStart,
    Task,
    Tiles,
    register,
)
from semiseg.networks.modules import ModuleListOf

TITLE = "Class-rebalancing self-training (CReST)"


@register("crest", paper="arXiv:2102.09559", title=TITLE)
@register("crest-generations", paper="arXiv:2102.09559", title=f"{TITLE} in generations", options={"generations": 5})
class CReST(Method):
    """Two networks teach each other; classes count by the reversed order of how frequent they are.

    With n_c the voxels of class c and mu_c = (n_c / max n)^(1/3), the class at rank l of C by frequency has the
    mu of rank C + 1 - l: the most frequent one the smallest, the rarest 1. A network's class weights follow that value
    of its own hard predictions on the unlabelled patches, w <- 0.99 w + 0.01 mu', from that of the labelled scans on.
    All losses of a network have its own weights. Source: Wei et al., CVPR 2021.

        L = L_sup,w(A) + L_sup,w(B) + weight * ramp * [CE_w(z_A, argmax z_B) + CE_w(z_B, argmax z_A)]

    This is the form of xmed-lab/DHC for segmentation, and the default. The paper, on classification, trains in
    generations: after each the labelled set is joined by pseudo-labelled images, of every class the share mu' by the
    *labelled* counts, the surest first, and training starts over. `crest-generations` does so with voxels: at the
    start of a generation the networks of the last one go through all unlabelled scans, which gives a threshold per
    class that keeps the share mu'_c of its voxels, then two new networks learn from those as well; w = 1.

        L = L_sup(A) + L_sup(B) + weight * ramp * cross + pseudo_weight * [CE(z_A, y) + CE(z_B, y)] over kept voxels

    with y the labels of the last generation. Distribution alignment (CReST+) is not part of it.
    """

    class Config(HorizonOptions, CoTrainingOptions, GenerationOptions, MethodConfig):
        """Options; the defaults are those of xmed-lab/DHC, with the weight of its documented run."""

        alpha: float = Field(1 / 3, ge=0, description="exponent of the frequencies; 0: all classes count alike")
        momentum: float = Field(0.99, ge=0, lt=1, description="share of the old class weights")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.build = build
        self.nets = make_pair(c, build)
        self.class_weights: ModuleListOf[ClassWeights] = ModuleListOf(
            crest_weights(task.class_voxels, c.within(c.momentum, task.steps), c.alpha)
            if c.generations == 1
            else EqualWeights(task.classes)
            for _ in self.nets
        )
        rates = reversed_shares(torch.tensor(task.class_voxels, dtype=torch.float32), c.alpha)
        self.labeller = PseudoLabeller(self.nets, rates) if c.generations > 1 else None

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = [net(batch.images) for net in self.nets]
        terms = weighted_terms(logits, batch.labels, c.loss, self.class_weights)
        if self.labeller and not self._is_first(clock):
            labels, keep = self.labeller(batch.unlabelled)
            a, b = (kept_cross_entropy(z[batch.n :], labels, keep, over="kept") for z in logits)
            terms["pseudo"] = a + b
        yield Loss(terms, {"cross": c.weight * c.ramp_up(clock), "pseudo": c.pseudo_weight})

    def predictors(self) -> Sequence[Predicting]:
        return [*self.nets]

    def stages(self) -> tuple[Stage, ...]:
        count = self.config.generations
        if count == 1:
            return super().stages()
        start: StageStart = "anew" if self.config.restart else "last"
        return tuple(Stage(f"generation{k + 1}", 1 / count, "stage", start) for k in range(count))

    def refresh_at(self) -> RefreshAt:
        return "stage" if self.labeller else "never"

    def refresh(self, pool: Iterable[Tiles], clock: Clock) -> None:
        """Begin a generation: the networks become the labeller, and new ones take their place."""
        if not self.labeller or self._is_first(clock):
            return
        self.labeller.follow(self.nets, ((tiles.images, tiles.counted) for tiles in pool))
        if self.config.restart:
            for net, new in zip(self.nets, make_pair(self.config, self.build), strict=True):
                net.load_state_dict(new.state_dict())

    def observations(self) -> dict[str, Tensor]:
        found = observed_weights(self.class_weights)
        return found | ({"threshold": self.labeller.threshold} if self.labeller else {})

    def _is_first(self, clock: Clock) -> bool:
        return clock.stage == self.stages()[0].name
