"""Adsh: thresholds that adapt to the class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.adaptive_thresholds import AdaptiveThresholds, above, take_pool
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.co_training import CoTrainingOptions, make_pair, supervised_pair
from semiseg.ingredients.losses import cross_entropy, kept_cross_entropy
from semiseg.methods.base import (
    Clock,
    Loss,
    Method,
    MethodConfig,
    NetworkBuilder,
    Predicting,
    RefreshAt,
    Task,
    Tiles,
    register,
)
from semiseg.networks.modules import ModuleListOf

TITLE = "Class-imbalanced semi-supervised learning with adaptive thresholding"
PAPER = {"use": "loss", "majority": 0.95, "update": "epoch"}
"""What the paper does where xmed-lab/DHC departs from it."""


@register("adsh", citation="ICML 2022", title=TITLE)
@register("adsh-paper", citation="ICML 2022", title=f"{TITLE}, as printed", options=PAPER)
class Adsh(Method):
    """Two networks teach each other under thresholds with which all classes keep the same share of pseudo-labels.

    That share is what the majority class keeps above 0.9. The thresholds t of a network come from its scores on the
    unlabelled patches of the last quarter of an epoch, and are 0 at first. Source: Guo and Li, ICML 2022.

        L = L_sup(A) + L_sup(B) + weight * ramp * cross
        cross = CE(z_A * M_B, argmax z_B) + CE(z_B * M_A, argmax z_A), over all voxels
        M_c = 1 where softmax(z)_c > t_c, else 0, every channel c by itself

    This is the form of xmed-lab/DHC for segmentation, which multiplies the *logits* with the mask, so that masked
    channels become logit 0 and have no gradient, and ranks the scores of all voxels. It keeps all scores of the bank in
    memory (3.4 GB for abdomens); here they are counted in 4096 bins, which gives the thresholds to 0.00025. `exact:
    true` keeps them. The paper, on classification, keeps a pseudo-label whose probability is above the threshold of its
    class, renews the thresholds once per epoch from the whole set and from the scores of what is predicted as the
    class, and has 0.95 for the majority: `adsh-paper`, where cross is the mean over all voxels of keep_B CE(z_A, y_B) +
    keep_A CE(z_B, y_A) and every epoch begins with a pass over all unlabelled scans.
    """

    class Config(CoTrainingOptions, MethodConfig):
        """Options; the defaults are those of xmed-lab/DHC."""

        use: Literal["logits", "loss"] = Field(
            "logits", description="what thresholds do: mask channels of the logits, or leave voxels out of the loss"
        )
        update: Literal["bank", "epoch"] = Field(
            "bank",
            description="where thresholds come from: a `bank` of the last unlabelled patches and all scores, or, every "
            "`epoch`, all unlabelled scans and the scores of the predicted classes",
        )
        majority: float = Field(0.9, ge=0, le=1, description="threshold of the most frequent class")
        capacity: int | None = Field(
            None, ge=2, description="unlabelled patches that thresholds come from; null: a quarter of the cases"
        )
        exact: bool = Field(False, description="keep all scores instead of counts in bins")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.nets = make_pair(c, build)
        capacity = max(task.unlabelled // 4, 2) if c.capacity is None else c.capacity
        self.thresholds = ModuleListOf(
            AdaptiveThresholds(task.classes, capacity, c.majority, exact=c.exact) for _ in self.nets
        )

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n = self.config, batch.n
        logits = [net(batch.images) for net in self.nets]
        scores = [probabilities(z.detach()) for z in logits]
        if c.update == "bank":
            for thresholds, p in zip(self.thresholds, scores, strict=True):
                thresholds.update(p[n:], clock.step)
        limits = [thresholds.value for thresholds in self.thresholds]
        crossed = zip(logits, reversed(scores), reversed(limits), strict=True)
        a, b = (self._cross(z, p, limit) for z, p, limit in crossed)
        supervised = supervised_pair(logits, batch.labels, c.loss)
        yield Loss({"supervised": supervised, "cross": a + b}, {"cross": c.weight * c.ramp_up(clock)})

    def predictors(self) -> Sequence[Predicting]:
        return [*self.nets]

    def refresh_at(self) -> RefreshAt:
        return "epoch" if self.config.update == "epoch" else "never"

    def refresh(self, pool: Iterable[Tiles], clock: Clock) -> None:
        """New thresholds from all unlabelled scans."""
        take_pool(self.thresholds, self.nets, ((tiles.images, tiles.counted) for tiles in pool))

    def observations(self) -> dict[str, Tensor]:
        return {f"threshold_{name}": each.value for name, each in zip("ab", self.thresholds, strict=True)}

    def _cross(self, logits: Tensor, taught: Tensor, limit: Tensor) -> Tensor:
        """The cross loss of one network, taught by the other's probabilities under the other's thresholds."""
        highest, labels = taught.max(1)
        if self.config.use == "logits":
            return cross_entropy(logits * above(taught, limit), labels)
        return kept_cross_entropy(logits, labels, highest > limit.index_select(0, labels.flatten()).view_as(labels))
