"""Temporal ensembling: agree with what one said of the same voxels before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.batches.places import Place
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.consistency import ConsistencyOptions, noisy
from semiseg.ingredients.losses import dice_ce
from semiseg.ingredients.reduce import batch_sum
from semiseg.ingredients.volume_memory import VolumeMemory
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register


@register("temporal_ensembling", paper="arXiv:1610.02242", title="Temporal ensembling for semi-supervised learning")
class TemporalEnsembling(Method):
    """The network gives the probabilities that it has given the same voxels on average in earlier epochs.

    The paper averages the output of every image, Z <- a Z + (1 - a) z once per epoch, with the target Z / (1 - a^t)
    after t updates. For patches the average is kept in the scan's frame: a patch's probabilities are moved back to
    where its voxels come from, every voxel has its own t, and the target is read from there, moved as the patch was,
    before the patch is added. Voxels that were never seen have no target; the squared difference is the mean over
    those that have one, of all patches as in the paper. A case comes once per epoch, so an update per visit is one
    per epoch. Weight and ramp are those of `mean_teacher`, since the paper's weight belongs to its classification
    data. The memory takes 2 C + 1 bytes per voxel of all scans and is part of checkpoints. Patches that come without
    their places count as scans of their own. Source: Laine and Aila, ICLR 2017.

        L = L_sup + w(t) mean (p - Z / (1 - a^t))^2          over voxels with t > 0
    """

    class Config(ConsistencyOptions, MethodConfig):
        """Options of temporal ensembling."""

        decay: float = Field(0.6, ge=0, lt=1, description="share of the average that stays at an update")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.net = build(init=config.init)
        self.memory = VolumeMemory(task.classes, config.decay)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        cases = batch.cases
        places = batch.places or (Place.whole(batch.images.shape[2:]),) * len(cases)
        logits = self.net(noisy(batch.images, c.noise))
        supervised = dice_ce(logits[: batch.n], batch.labels, c.loss)
        p = probabilities(logits)
        consistency = torch.zeros_like(supervised)
        if cases:
            target, known = self.memory.read(cases, places, batch.images.shape[2:])
            consistency = _known_mse(p, target, known)
        weight = c.weight * c.ramp_up(clock)
        yield Loss({"supervised": supervised, "consistency": consistency}, {"consistency": weight})
        if cases:
            self.memory.update(cases, places, p)

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)


def _known_mse(p: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Mean over the known voxels and the classes; 0 where none is known."""
    total, count = batch_sum(torch.stack([((p - target).square() * known).sum(), known.sum().to(p.dtype)]))
    mean: Tensor = total / (p.shape[1] * count).clamp(min=1)
    return mean
