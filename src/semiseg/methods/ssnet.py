"""SS-Net: smoothness and class separation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from semiseg.batches.batch import Batch
from semiseg.ingredients.adversarial import virtual_adversarial_loss
from semiseg.ingredients.class_contrast import Selected, Selectors, contrast_loss, mlp, remember, rows_of, usable_rows
from semiseg.ingredients.class_memory import ClassMemory
from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.consistency import probability_dice
from semiseg.ingredients.dices import DICES, DICES_DOC, DicePair
from semiseg.ingredients.ema import recomputed
from semiseg.ingredients.losses import soft_dice
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init

TAP = "embedding"


@register("ssnet", paper="arXiv:2203.01324", title="Exploring smoothness and class-separation")
class SSNet(Method):
    """Predictions shall not change in their most sensitive direction, and features gather around good ones of a class.

    Total loss: supervised + weight * ramp * (vat + 0.1 (contrast on labelled + contrast on unlabelled voxels)).
    supervised is Dice alone. vat is the Dice distance of the prediction at noise of length `magnitude`, in the
    direction of the largest change, from the clean one, on all patches. For contrast, each voxel's embedding passes two
    perceptrons; 1 - its mean cosine with a memory of its class (label or pseudo-label) is averaged with weights that a
    selector per class learns, and summed over the foreground classes, divided by the number of all classes. The memory
    holds up to 32 projected embeddings of correctly classified labelled voxels per class, replaced at every step that
    has some; before the first of them contrast is zero.

    The left-atrium run has `dice: la` and `weight: 1`, that of xmed-lab/DHC `dice: dhc`. The paper keeps the voxels
    with the highest scores, the official code (ycwu1997/SS-Net) those with the lowest, which is the default; `selected:
    highest` follows the paper. The paper's weights of the memory cancel out in the code, so there are none. Searching
    for the sensitive direction gives the parameters no gradient; the step of xmed-lab/DHC leaves it in the update
    (without the factor by which its losses are scaled for half precision). With several processes each one contrasts
    the voxels of its own patches with a memory of its own; checkpoints hold that of the first one.

        L = Dice + w(t) (L_vat + 0.1 (L_contrast on labelled + L_contrast on unlabelled))
    """

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of the official ACDC run, its ramp stretched to the length of the run."""

        dice: DicePair = Field("acdc", description=DICES_DOC)
        weight: float = Field(0.1, ge=0, description="weight of smoothness and contrast after the ramp-up")
        magnitude: float | None = Field(
            None, gt=0, description="length of the adversarial noise per patch; null: 10 in 3D and 6 in 2D, as official"
        )
        reach: float = Field(10.0, gt=0, description="length of the noise with which its direction is looked for")
        contrast_weight: float = Field(0.1, ge=0, description="factor of the contrast beside the common weight")
        memory: int = Field(32, ge=2, description="embeddings kept per class")
        selected: Selected = Field("lowest", description="which ones are kept where there are more, by their scores")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.net = build(init=c.init)
        width = 2 * self.net.taps[TAP].channels
        self.projection, self.prediction = mlp(width // 2, width), mlp(width, width)
        self.selectors = Selectors(task.classes, width)
        self.memory = ClassMemory(task.classes, c.memory, width)
        self.magnitude = c.magnitude or {2: 6.0, 3: 10.0}[task.spatial_dims]

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, dices = self.config, batch.n, DICES[self.config.dice]
        logits, features = self.net(batch.images, (TAP,))
        labels, vectors = hard_labels(logits), features[TAP]
        self._remember(vectors[:n], labels[:n], batch.labels)
        distance = partial(probability_dice, form=dices.between, pooled=dices.pooled)
        terms = {
            "supervised": soft_dice(logits[:n], batch.labels, dices.supervised),
            "contrast": self._contrast(vectors[:n], batch.labels) + self._contrast(vectors[n:], labels[n:]),
            "vat": virtual_adversarial_loss(self.net, batch.images, distance, self.magnitude, c.reach),
        }
        weight = c.weight * c.ramp_up(clock)
        yield Loss(terms, {"vat": weight, "contrast": weight * c.contrast_weight})

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)

    def observations(self) -> dict[str, Tensor]:
        return {"memory_sizes": self.memory.kept}

    @torch.no_grad()
    def _remember(self, features: Tensor, predicted: Tensor, labels: Tensor) -> None:
        """Keep projected features of correctly predicted foreground voxels."""
        correct = ((predicted == labels) & (predicted > 0)).flatten().nonzero().squeeze(1)
        # In full precision, or autocast would keep weights without gradient for the passes that follow.
        with torch.autocast(features.device.type, enabled=False):
            self.projection.eval()
            vectors = self.projection(full_precision(rows_of(features).index_select(0, correct)))
            self.projection.train()
        remember(self.memory, self.selectors, vectors, labels.flatten().index_select(0, correct), self.config.selected)

    def _contrast(self, features: Tensor, labels: Tensor) -> Tensor:
        """The contrast loss of all voxels; their many hidden vectors are computed again for the gradient."""
        if len(features) == 0:
            return full_precision(features).sum()
        found_by_class = usable_rows(self.memory, labels.flatten())

        def loss(rows: Tensor) -> Tensor:
            vectors = self.prediction(self.projection(rows))
            return contrast_loss(self.memory, self.selectors, vectors, labels.flatten(), found_by_class)

        found: Tensor = checkpoint(loss, rows_of(features), use_reentrant=False, context_fn=recomputed(self))
        return found
