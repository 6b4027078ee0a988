"""CReST in generations: the networks of the last one label what the next one learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_weights import EqualWeights, reversed_shares
from semiseg.ingredients.co_training import CoTrainingOptions, make_pair, observed_weights, weighted_terms
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
    Task,
    Tiles,
    register,
)
from semiseg.methods.crest.labeller import PseudoLabeller
from semiseg.networks.modules import ModuleListOf


@register("crest-generations", paper="arXiv:2102.09559", title="Class-rebalancing self-training (CReST) in generations")
class CReSTGenerations(Method):
    """Training starts over with pseudo-labels of the last generation, of rare classes more than of frequent ones.

    The paper, on classification, joins the labelled set by pseudo-labelled images after each generation, of every class
    the share mu' by the *labelled* counts (see `crest`), the surest first, and starts over. Here that is done with
    voxels: at the start of a generation the networks of the last one go through all unlabelled scans, which gives a
    threshold per class that keeps the share mu'_c of its voxels, then two new networks learn from those as well.
    Distribution alignment (CReST+) is not part of it. Source: Wei et al., CVPR 2021.

        L = L_sup(A) + L_sup(B) + weight * ramp * cross + CE(z_A, y) + CE(z_B, y) over kept voxels

    with y the labels of the last generation, and cross that of `crest` without class weights.
    """

    class Config(CoTrainingOptions, MethodConfig):
        """Options; the defaults are those of `crest`."""

        alpha: float = Field(1 / 3, ge=0, description="exponent of the frequencies; 0: all classes are kept alike")
        generations: int = Field(5, ge=2, description="rounds of self-training, of equal length")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.build = build
        self.nets = make_pair(config, build)
        self.class_weights = ModuleListOf(EqualWeights(task.classes) for _ in self.nets)
        rates = reversed_shares(torch.tensor(task.class_voxels, dtype=torch.float32), config.alpha)
        self.labeller = PseudoLabeller(self.nets, rates)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = [net(batch.images) for net in self.nets]
        terms = weighted_terms(logits, batch.labels, c.loss, self.class_weights)
        if not self._is_first(clock):
            labels, keep = self.labeller(batch.unlabelled)
            a, b = (kept_cross_entropy(z[batch.n :], labels, keep, over="kept") for z in logits)
            terms["pseudo"] = a + b
        yield Loss(terms, {"cross": c.weight * c.ramp_up(clock)})

    def predictors(self) -> Sequence[Predicting]:
        return [*self.nets]

    def stages(self) -> tuple[Stage, ...]:
        count = self.config.generations
        return tuple(Stage(f"generation{k + 1}", 1 / count, "stage", "anew") for k in range(count))

    def refresh_at(self) -> RefreshAt:
        return "stage"

    def refresh(self, pool: Iterable[Tiles], clock: Clock) -> None:
        """Begin a generation: the networks become the labeller, and new ones take their place."""
        if self._is_first(clock):
            return
        self.labeller.follow(self.nets, ((tiles.images, tiles.counted) for tiles in pool))
        for net, new in zip(self.nets, make_pair(self.config, self.build), strict=True):
            net.load_state_dict(new.state_dict())

    def observations(self) -> dict[str, Tensor]:
        return observed_weights(self.class_weights) | {"threshold": self.labeller.threshold}

    def _is_first(self, clock: Clock) -> bool:
        return clock.stage == self.stages()[0].name
