"""URPC: uncertainty-rectified pyramid consistency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.levels import resize_linear
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.pyramid import rectified_consistency, spread
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init


@register("urpc", paper="doi:10.1007/978-3-030-87196-3_30", title="Uncertainty rectified pyramid consistency")
class URPC(Method):
    """One network predicts at several decoder scales, and where they agree each is drawn to their mean.

    Total loss: supervised + weight * ramp * consistency. supervised is the mean over the heads. On unlabelled voxels,
    with p_s the softmax of head s, q their mean and V_s = KL(q || p_s), consistency is the mean over the heads of
    mean((q - p_s)^2 exp(-V_s)) / (mean(exp(-V_s)) + 1e-8) + mean(V_s). Nothing is detached, as in the official code
    (the paper does not say). The head at full resolution predicts.

    It works on every network: the heads are those of deep supervision, enlarged to full size. The published 3D runs
    have `network.name: unet3d`; those on ACDC `unet2d` with `side_kernel: 3` and `perturb_sides: true` among its
    options, and `enlarge: nearest`. The form of xmed-lab/DHC has `loss: dhc_half`. A network with a single decoder
    stage has a single head, and the consistency is zero.

        L      = mean_s L_sup(p_s) + w(t) L_cons
        L_cons = mean_s [mean((q - p_s)^2 exp(-V_s)) / mean(exp(-V_s)) + mean(V_s)]     V_s: KL(q, p_s); q: mean of p_s
    """

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of HiLab-git/SSL4MIS, with the ramp stretched to the length of the run."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        weight: float = Field(0.1, ge=0, description="weight of the consistency after the ramp-up")
        scales: int = Field(4, ge=2, description="heads at most, from full resolution on")
        enlarge: Literal["linear", "nearest"] = Field("linear", description="how logits of coarser heads are enlarged")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.net = build(init=config.init, deep_supervision=True)
        heads = [name for name in self.net.taps if name.startswith("head")]
        self.heads = tuple(heads[max(len(heads) - config.scales + 1, 0) :])
        for number in range(1, len(heads) - len(self.heads) + 1):
            self.net.get_submodule(f"heads.{number - 1}").requires_grad_(False)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n = self.config, batch.n
        logits = self._pyramid(batch.images)
        terms = {
            "supervised": torch.stack([dice_ce(z[:n], batch.labels, c.loss) for z in logits]).mean(),
            "consistency": rectified_consistency(spread([z[n:] for z in logits])).mean(),
        }
        yield Loss(terms, {"consistency": c.weight * c.ramp_up(clock)})

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        """Logits `[B, C, *S]` of all heads, coarse to fine."""
        if not self.heads:
            return [self.net(images)]
        logits, found = self.net(images, self.heads)
        sides = logits.shape[2:]
        if self.config.enlarge == "nearest":
            return [*(F.interpolate(found[name], size=sides) for name in self.heads), logits]
        return [*(resize_linear(found[name], sides) for name in self.heads), logits]
