"""MCF: mutual correction of two unlike networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import full_precision, probabilities
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import FORMS, cross_entropy, soft_dice
from semiseg.ingredients.masked import masked_probability_mse
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init, Network
from semiseg.networks.modules import ModuleListOf


@register("mcf", citation="CVPR 2023", title="Mutual correction framework (MCF)")
class MCF(Method):
    """Two unlike networks review the labelled voxels on which they disagree; at every step the better one teaches.

    Network A is the run's architecture, B its decoder behind a ResNet-34 encoder. Which one is better is told by the
    Dice of the labelled patches of the step; the other one follows its sharpened probabilities. The official code is
    for one structure; with more classes the Dice is the mean over them and all differences of labels are reviewed. It
    averages the networks' probabilities, here their logits are. Source: Wang et al., CVPR 2023; WYC-321/MCF.

        L   = sum over k = A, B of CE + Dice + R_k / 2 + [k is worse] w(t) mean (p_k - q)^2
        R_k = mean of (p_k - y)^2 over labelled voxels where A and B differ        q = p_better^(1/T), normalised
    """

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of the official runs, with the ramp stretched to the length of the run."""

        blocks: tuple[int, ...] = Field(
            (3, 4, 6, 3), min_length=1, description="residual blocks of B per stage after the first"
        )
        temperature: float = Field(0.1, ge=0.02, le=1, description="of the sharpening; 1: none")
        review_weight: float = Field(0.5, ge=0, description="weight of the review of differences")
        weight: float = Field(0.1, ge=0, description="weight of the pseudo-labels after the ramp-up")
        init: Init = Field("kaiming", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        residual = build(network="resnet", blocks=config.blocks, init=config.init)
        self.nets: ModuleListOf[Network] = ModuleListOf([build(init=config.init), residual])

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, y = self.config, batch.n, batch.labels
        logits = [net(batch.images) for net in self.nets]
        labelled = [z[:n] for z in logits]
        dices = [soft_dice(z, y, FORMS["la"]) for z in labelled]
        by_a, by_b = (hard_labels(z) for z in labelled)
        target = one_hot(y, logits[0].shape[1])

        terms = {
            "supervised": torch.stack(
                [cross_entropy(z, y) + dice for z, dice in zip(labelled, dices, strict=True)]
            ).sum(),
            "review": torch.stack([masked_probability_mse(z, target, by_a != by_b) for z in labelled]).sum(),
        }
        if n < len(batch.images):
            a, b = (z[n:] for z in logits)
            a_is_better = (dices[0] < dices[1]).detach()
            terms["pseudo"] = torch.where(a_is_better, self._follow(b, a), self._follow(a, b))
        yield Loss(terms, {"review": c.review_weight, "pseudo": c.weight * c.ramp_up(clock)})

    def predictors(self) -> Sequence[Predicting]:
        return tuple(self.nets)

    def _follow(self, logits: Tensor, better: Tensor) -> Tensor:
        """Mean squared difference from the other network's sharpened probabilities."""
        sharp = torch.softmax(full_precision(better.detach()) / self.config.temperature, 1)
        return F.mse_loss(probabilities(logits), sharp)
