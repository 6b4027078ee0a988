"""CML: cross-view mutual learning."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.errors import InputError
from semiseg.ingredients.components import FILTERED_DOC, Filtered, filtered_classes
from semiseg.ingredients.discrepancy import mutual_similarity_loss
from semiseg.ingredients.ensemble import Average, PairOptions, ensemble_probabilities, of_pair
from semiseg.ingredients.mixing import PAIRS_DOC, Pairs
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.sample_losses import SAMPLE_DICE_CE_DOC, SampleDiceCE, sample_dice_ce
from semiseg.methods.base import Clock, Loss, Method, NetworkBuilder, Stage, Task, register
from semiseg.methods.cml.ablations import PlainImages
from semiseg.methods.cml.cutmix import CutMix, Pair, Targets, View, view_of
from semiseg.methods.pretraining import PRETRAINING, PretrainingOptions
from semiseg.networks.base import Network
from semiseg.networks.blocks import TwoDecoderOptions
from semiseg.networks.modules import ModuleListOf

PAPER = "doi:10.1145/3664647.3680699"
OFFICIAL = {"pretraining": 2 / 17, "pairs": "half", "ramp": "none", "largest_component": True}
CFL = {"cutmix": False, "largest_component": False}


@register("cml", paper=PAPER, title="Cross-view mutual learning for semi-supervised medical image segmentation")
@register("cml-official", paper=PAPER, title="CML as its published code has it", options=OFFICIAL)
@register("cml-cfl", paper=PAPER, title="CML without mixed images", options=CFL)
class CML(Method):
    """Two subnets that are made to look at an image differently teach each other on pairs of mixed images.

    CFL: the cosine between their deepest encoder features is minimised. CML: a box of one unlabelled image is pasted
    into another; outside of it a subnet learns the pseudo-label of the other subnet, inside its own. Before that, both
    are trained on mixed labelled images alone.

        L = w_l [Sup(A, y) + Sup(B, y)] + r(t) w_u [Sup(A, y_A) + Sup(B, y_B)]
            + r(t) w_d sum [Dis(f_A, f_B) + Dis(f_B, f_A)]
        Dis(f, g) = 1 + mean cos(f, g), no gradient to g          y_A = B's label outside of the box, A's own inside
    """

    class Config(TwoDecoderOptions, PairOptions, RampOptions, PretrainingOptions):
        """Options; weights of 0 and `cutmix` are the rows of the paper's Table 4 and Figure 6."""

        loss: SampleDiceCE = Field("sample", description=SAMPLE_DICE_CE_DOC)
        labelled_weight: float = Field(1.0, ge=0, description="weight of the loss on labelled images")
        unlabelled_weight: float = Field(1.0, ge=0, description="weight of the loss on pseudo-labels; 0: none are made")
        discrepancy_weight: float = Field(0.2, ge=0, description="weight of the similarity of the subnets' features")
        cutmix: bool = Field(True, description="mix pairs of images; without, each subnet learns the other's labels")
        pairs: Pairs = Field("all", description=PAIRS_DOC)
        mix_ratio: float = Field(2 / 3, gt=0, lt=1, description="side of the pasted box, as a share of the image's")
        targets: Targets = Field(
            "heterogeneous",
            description="labels of a mixed image: the other subnet's outside and one's own inside of the box, or the "
            "other's everywhere",
        )
        largest_component: Filtered = Field("auto", description=FILTERED_DOC)
        shared_subnets: bool = Field(
            False, description="one network, of `upsampling_b`, that differs by dropout alone, as released for ACDC"
        )
        average: Average = Field("logits", description="what is averaged; the paper says probabilities")

        def smallest_batch(self) -> tuple[int, int]:
            return (2, 2) if self.cutmix else (1, 0)

        def asks_for_pieces(self) -> bool:
            return self.largest_component == "auto"

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        kinds = (c.upsampling_b,) if c.shared_subnets else (c.upsampling_a, c.upsampling_b)
        self.subnets = ModuleListOf([build(upsampling=kind) for kind in kinds])
        if c.shared_subnets and not self.subnets[0].dropout_rate:
            remedy = "set network.options.dropout, take network.name=unet2d, or shared_subnets=false"
            raise InputError(f"options.shared_subnets: one network is two by its dropout, here it has none: {remedy}")
        filtered = filtered_classes(c.largest_component, task.one_piece, task.classes)
        self.mixing = CutMix(c.mix_ratio, c.pairs, c.targets, filtered) if c.cutmix else PlainImages(filtered)

    def stages(self) -> tuple[Stage, ...]:
        return self.config.stages()

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, u, pair = self.config, batch.unlabelled, (self.subnets[0], self.subnets[-1])
        images, labels = self.mixing.paste(batch.labelled, batch.labels)
        # Labelled images first: autocast keeps the cast weights of the first pass, which must have their gradient.
        views = [view_of(pair, images)]
        terms = {"supervised": self._loss(views[0], (labels, labels))}
        if clock.stage != PRETRAINING and len(u):
            if c.unlabelled_weight:
                view, targets = self.mixing.teach(pair, u)
                views.append(view)
                terms["unlabelled"] = self._loss(view, targets)
            elif c.discrepancy_weight:
                views.append(view_of(pair, *self.mixing.paste(u)))
        terms["discrepancy"] = torch.stack([mutual_similarity_loss(*view.features) for view in views]).sum()
        ramp = c.ramp_up(clock)
        weights = c.labelled_weight, ramp * c.unlabelled_weight, ramp * c.discrepancy_weight
        yield Loss(terms, dict(zip(("supervised", "unlabelled", "discrepancy"), weights, strict=True)))

    def predictors(self) -> list[Network]:
        return of_pair(self.subnets, self.config.predict_with)

    def predict(self, images: Tensor) -> Tensor:
        return ensemble_probabilities(self.predictors(), images, self.config.average)

    def _loss(self, view: View, targets: Pair) -> Tensor:
        a, b = (sample_dice_ce(z, y, self.config.loss) for z, y in zip(view.logits, targets, strict=True))
        return a + b
