"""PS-MT: perturbed and strict mean teachers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import cast

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.adversarial import most_sensitive, unit_noise
from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.ema import Teacher, ema_update, ema_update_buffers
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.mixtures import draw_column_boxes
from semiseg.ingredients.modes import evaluating
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.strong_views import GreyViewOptions
from semiseg.ingredients.sure_labels import weighted_sure_loss
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init
from semiseg.networks.branches import BranchedNet
from semiseg.networks.modules import ModuleListOf

OFFICIAL = {"strong_labelled": True, "copy_start": False, "noise_reach": 1e-6, "horizon": None}


@register("psmt-official", paper="arXiv:2111.12903", title="PS-MT as its code has it", options=OFFICIAL)
@register("psmt", paper="arXiv:2111.12903", title="Perturbed and strict mean teachers (PS-MT)")
class PSMT(Method):
    """Two moving averages that take turns to follow label what the student sees disturbed in image and features.

    The student gets strong views with a box of another patch, and that noise on its bottleneck which changes what the
    teachers predict most; only sure labels count, weighted by how sure they are. The code (yyliu01/PS-MT) is for
    photographs; here noise acts on what the decoder enlarges first, its skips are left as they are, and supervised
    losses have a Dice. It looks for the noise at a distance of 1e-6 (`psmt-official`), where rounding in float32
    decides, and draws each teacher by itself. Source: Liu et al., CVPR 2022.

        L   = L_sup + w(t) mean over voxels with max q >= tau of max q CE(student(strong, f + r), argmax q)
        q   = softmax((t_1 + t_2) / 2)        r: of length eps, along the gradient of KL(q || q at f + xi d)
        t_k <- a t_k + (1 - a) student        in every other epoch
    """

    class Config(GreyViewOptions, RampOptions, HorizonOptions, MethodConfig):
        """Options; the defaults are those of the official runs, with their ramp as a share of the run."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        threshold: float = Field(0.6, ge=0, le=1, description="least probability of a label that counts")
        weight: float = Field(1.5, ge=0, description="weight of the unlabelled term after the ramp-up")
        ramp_length: float | None = Field(0.15, ge=0, description="length of the ramp-up in its unit; null: all")
        decay: float = Field(0.996, ge=0, lt=1, description="decay of a teacher, without warm-up")
        assisting: int = Field(7, ge=1, description="classes of which the resting teacher's logits are taken")
        noise_length: float = Field(2.0, ge=0, description="length of the feature noise, per patch")
        noise_reach: float = Field(0.1, gt=0, description="length of the random noise at which it is looked for")
        beta: float = Field(4.0, gt=0, description="both parameters of the distribution of a pasted box's size")
        strong_labelled: bool = Field(False, description="strong views of labelled patches too, as for photographs")
        copy_start: bool = Field(True, description="teachers start as copies of the student, not as own draws")
        init: Init = Field("default", description="initialisation of the convolutions")

        def smallest_batch(self) -> tuple[int, int]:
            return 1, 2

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)

        draw = partial(build, network="branches", decoders=1, init=config.init)
        self.student, decay = cast(BranchedNet, draw()), config.within(config.decay, task.steps / 2)
        starts = [deepcopy(self.student) if config.copy_start else draw() for _ in range(2)]
        self.teachers = ModuleListOf([Teacher(net, decay, dropout=True) for net in starts])

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, x, u = self.config, batch.labelled, batch.unlabelled
        turn = (clock.epoch if clock.epochs > 3 else clock.step) % 2
        core, resting = self.teachers[turn], self.teachers[1 - turn]
        terms = {"supervised": dice_ce(self._disturbed(c.strong(x) if c.strong_labelled else x), batch.labels, c.loss)}
        if len(u):
            of_core = full_precision(core(u))
            target = (of_core + assisted(of_core, full_precision(resting(u)), c.assisting)) / 2
            box, images = draw_column_boxes(u, c.beta), c.strong(u)
            images, target = (torch.where(box, each.roll(-(len(u) // 2), 0), each) for each in (images, target))
            terms["pseudo"] = weighted_sure_loss(self._disturbed(images), target, c.threshold)
        yield Loss(terms, {"pseudo": c.weight * c.ramp_up(clock)})
        ema_update(core.net, self.student, core.decay)
        ema_update_buffers(core.net, self.student, core.decay)

    def predictors(self) -> Sequence[Predicting]:
        return tuple(self.teachers)

    def _disturbed(self, images: Tensor) -> Tensor:
        """The student's logits with noise on the bottleneck."""
        *skips, deepest = self.student.encode(images)
        noise = self._noise([f.detach() for f in skips], deepest.detach())
        return self.student.decode_features([*skips, deepest + noise.to(deepest.dtype)])

    def _noise(self, skips: Sequence[Tensor], deepest: Tensor) -> Tensor:
        """The noise of its length that changes the teachers' prediction most."""
        c, nets = self.config, [cast(BranchedNet, teacher.net) for teacher in self.teachers]
        kept, deepest = [full_precision(f) for f in skips], full_precision(deepest)
        start = unit_noise(torch.rand(deepest.shape, dtype=deepest.dtype, device=deepest.device) - 0.5)

        def predict(x: Tensor) -> Tensor:
            return torch.stack([net.decode_features([*kept, x]) for net in nets]).mean(0)

        with evaluating(nets[0]), evaluating(nets[1]):
            return c.noise_length * most_sensitive(predict, deepest, start, c.noise_reach)


def assisted(core: Tensor, assistant: Tensor, top: int) -> Tensor:
    """Logits of the assistant for its `top` classes, where they are not exactly 0, and those of the core for others."""
    if top >= core.shape[1]:
        return torch.where(assistant == 0, core, assistant)
    least = assistant.topk(top, 1).values[:, -1:]
    return torch.where((assistant >= least) & (assistant != 0), assistant, core)
