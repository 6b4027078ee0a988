"""TraCoCo: translation-consistent co-training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.mixtures import draw_column_boxes
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.methods.tracoco.crops import Axis, crop_sides, cut, draw_crops, translation_losses
from semiseg.methods.tracoco.pseudo import Complement, confident_loss
from semiseg.networks.base import Init, Network
from semiseg.networks.modules import ModuleListOf

PRINTED = {"agreement": "classes", "cutmix": "both"}


@register("tracoco-paper", paper="arXiv:2203.14523", title="TraCoCo as described", options=PRINTED)
@register("tracoco", paper="arXiv:2203.14523", title="Translation consistent co-training (TraCoCo)")
class TraCoCo(Method):
    """Two networks teach each other, and each says the same of a voxel whatever its surroundings.

    Both see two crops of every patch; where these overlap their predictions agree and are not too sure. The code
    (yyliu01/TraCoCo) draws both crops from a whole scan, here they lie in the patch, whose sides they have a share
    `crop` of. It compares softmaxes over the first axis of space; `tracoco-paper` does over the classes. Labels of the
    second network come from patches with a box of another one. The Dice and the cleaned labels of its runs on slices
    are not here. Source: Liu et al., IEEE TMI 2024.

        L   = sum over both of L_sup + w(t) (CRC(z, t_other) + a KL(second crop | first crop) + b mean sum p log p)
        CRC: mean of max q (-log p_y) where max q >= 0.65, and of min q (-log(1 - p_c)) where min q < 0.1, c not y
    """

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of the official runs on the left atrium, with a ramp by share."""

        loss: DiceCE = Field("la", description=DICE_CE_DOC)
        crop: float = Field(0.84, gt=0.5, le=1, description="sides of both crops, as a share of the patch's")
        noise: float = Field(0.2, ge=0, description="largest uniform noise on each network's images")
        threshold: float = Field(0.65, ge=0, le=1, description="least probability of a label that counts")
        least: float = Field(0.1, ge=0, le=1, description="probability below which a voxel is surely not of a class")
        complement: Complement = Field(
            "others", description="classes that it is not: `others` than the label, or `all`"
        )
        cutmix: Literal["second", "both"] = Field("second", description="networks whose patches have boxes of others")
        beta: float = Field(4.0, gt=0, description="both parameters of the distribution of a box's size")
        agreement: Axis = Field("space", description="softmax that must agree: over the first axis, or over classes")
        weight: float = Field(1.0, ge=0, description="weight of the unsupervised terms after the ramp-up")
        spatial_weight: float = Field(0.3, ge=0, description="weight of the agreement among them")
        entropy_weight: float = Field(0.1, ge=0, description="weight of the negative entropy among them")
        ramp_length: float | None = Field(0.02, ge=0, description="length of the ramp-up in its unit; null: all")
        init: Init = Field("default", description="initialisation of the convolutions")

        def smallest_batch(self) -> tuple[int, int]:
            return 1, 1

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.nets: ModuleListOf[Network] = ModuleListOf([build(init=config.init) for _ in range(2)])

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n = self.config, batch.n
        crops = draw_crops(batch.images, crop_sides(batch.images.shape[2:], c.crop, self.nets[0].divisor))
        first, second = (cut(batch.images, starts, crops.sides) for starts in (crops.first, crops.second))
        labels = cut(batch.labels.unsqueeze(1), crops.first[:n], crops.sides).squeeze(1)
        with torch.no_grad():
            peers = [net(first) for net in self.nets][::-1]

        terms: dict[str, list[Tensor]] = {"supervised": [], "agreement": [], "entropy": [], "cross": []}
        for number, (net, target) in enumerate(zip(self.nets, peers, strict=True)):
            z, shifted = net(self._noisy(first)), net(self._noisy(second))
            terms["supervised"].append(dice_ce(z[:n], labels, c.loss))
            agreement, entropy = translation_losses(z, shifted, crops.first - crops.second, c.agreement)
            terms["agreement"].append(agreement)
            terms["entropy"].append(entropy)
            if n < len(first):
                images = first
                if number or c.cutmix == "both":
                    box = draw_column_boxes(first, c.beta)
                    images, target = (torch.where(box, v.roll(-(len(v) // 2), 0), v) for v in (first, target))
                terms["cross"].append(
                    confident_loss(net(self._noisy(images))[n:], target[n:], c.threshold, c.least, c.complement)
                )
        w = c.weight * c.ramp_up(clock)
        weights = {"cross": w, "agreement": w * c.spatial_weight, "entropy": w * c.entropy_weight}
        yield Loss({name: torch.stack(each).sum() for name, each in terms.items() if each}, weights)

    def predictors(self) -> Sequence[Predicting]:
        return tuple(self.nets)

    def _noisy(self, images: Tensor) -> Tensor:
        noise = torch.rand(images.shape, dtype=images.dtype, device=images.device)
        return images + self.config.noise * (2 * noise - 1)
