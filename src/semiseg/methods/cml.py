"""CML: cross-view mutual learning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.errors import InputError
from semiseg.ingredients.components import FILTERED_DOC, Filtered, filtered_classes, keep_largest
from semiseg.ingredients.discrepancy import mutual_discrepancy
from semiseg.ingredients.ensemble import Average, PairOptions, ensemble_probabilities, of_pair
from semiseg.ingredients.mixing import PAIRS_DOC, Pairs, draw_outside_box, mix, mix_partners, partners
from semiseg.ingredients.pseudo_labels import threshold_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.sample_losses import SAMPLE_DICE_CE_DOC, SampleDiceCE, sample_dice_ce
from semiseg.methods.base import Clock, Loss, Method, NetworkBuilder, Stage, Task, register
from semiseg.methods.pretraining import PRETRAINING, PretrainingOptions
from semiseg.networks.base import Init, Network
from semiseg.networks.blocks import TwoDecoderOptions
from semiseg.networks.modules import ModuleListOf

PAPER = "doi:10.1145/3664647.3680699"
OFFICIAL = {"pretraining": 2 / 17, "pairs": "half", "ramp": "none", "largest_component": True}
CFL = {"cutmix": False, "largest_component": False}


class View(NamedTuple):
    """What the two subnets make of the same images: logits, and the features that their decoders receive."""

    logits: list[Tensor]
    features: list[Tensor]


@register("cml", paper=PAPER, title="Cross-view mutual learning for semi-supervised medical image segmentation")
@register("cml-official", paper=PAPER, title="CML as its published code has it", options=OFFICIAL)
@register("cml-cfl", paper=PAPER, title="CML without mixed images", options=CFL)
class CML(Method):
    """Two subnets that are made to look at an image differently teach each other on pairs of mixed images.

    CFL: the cosine between their deepest encoder features is minimised. CML: a box of one unlabelled image is pasted
    into another; outside of it a subnet learns the pseudo-label of the other subnet, inside its own. Before that, both
    are trained on mixed labelled images alone. `cml-cfl` leaves the images unmixed, so that each subnet learns the
    other's labels; with `discrepancy_weight: 0` too, that is cross pseudo supervision (the paper's Figure 6).

    `cml-official` is the published code: of two images it mixes them one way, so that half of the patches count, and
    pseudo-labels have full weight at once, with one component per class. The defaults keep both mixtures, let the
    weights rise, pre-train for 2,000 steps or half of a shorter run, and leave classes alone that come in pieces.

        L = w_l [Sup(A, y) + Sup(B, y)] + r(t) w_u [Sup(A, y_A) + Sup(B, y_B)]
            + r(t) w_d sum [Dis(f_A, f_B) + Dis(f_B, f_A)]
        Dis(f, g) = 1 + mean cos(f, g), no gradient to g          y_A = B's label outside of the box, A's own inside
    """

    class Config(TwoDecoderOptions, PairOptions, RampOptions, PretrainingOptions):
        """Options; weights and sizes are those of the official left-atrium run."""

        loss: SampleDiceCE = Field("sample", description=SAMPLE_DICE_CE_DOC)
        labelled_weight: float = Field(1.0, ge=0, description="weight of the loss on labelled images")
        unlabelled_weight: float = Field(1.0, ge=0, description="weight of the loss on pseudo-labels; 0: none are made")
        discrepancy_weight: float = Field(0.2, ge=0, description="weight of the similarity of the subnets' features")
        cutmix: bool = Field(True, description="mix pairs of images; without, each subnet learns the other's labels")
        pairs: Pairs = Field("all", description=PAIRS_DOC)
        mix_ratio: float = Field(2 / 3, gt=0, lt=1, description="side of the pasted box, as a share of the image's")
        targets: Literal["heterogeneous", "other"] = Field(
            "heterogeneous",
            description="labels of a mixed image: the other subnet's outside and one's own inside of the box, or the "
            "other's everywhere",
        )
        largest_component: Filtered = Field("auto", description=FILTERED_DOC)
        shared_subnets: bool = Field(
            False, description="one network, of `upsampling_b`, that differs by dropout alone, as released for ACDC"
        )
        init: Init = Field("default", description="initialisation of the convolutions")
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
        self.subnets = ModuleListOf([build(upsampling=kind, init=c.init) for kind in kinds])
        if c.shared_subnets and not self.subnets[0].dropout_rate:
            remedy = "set network.options.dropout, take network.name=unet2d, or shared_subnets=false"
            raise InputError(f"options.shared_subnets: one network is two by its dropout, here it has none: {remedy}")
        self.filtered = filtered_classes(c.largest_component, task.one_piece, task.classes)

    def stages(self) -> tuple[Stage, ...]:
        return self.config.stages()

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        images, labels = self._paste(batch.labelled, batch.labels)
        # Labelled images first: autocast keeps the cast weights of the first pass, which must have their gradient.
        views = [self._view(images)]
        terms = {"supervised": self._loss(views[0], (labels, labels))}
        if clock.stage != PRETRAINING and len(batch.unlabelled):
            if c.unlabelled_weight:
                view, targets = self._mixed(batch.unlabelled) if c.cutmix else self._plain(batch.unlabelled)
                views.append(view)
                terms["unlabelled"] = self._loss(view, targets)
            elif c.discrepancy_weight:
                views.append(self._view(*self._paste(batch.unlabelled)))
        terms["discrepancy"] = torch.stack([mutual_discrepancy(*view.features) for view in views]).sum()
        ramp = c.ramp_up(clock)
        weights = c.labelled_weight, ramp * c.unlabelled_weight, ramp * c.discrepancy_weight
        yield Loss(terms, dict(zip(("supervised", "unlabelled", "discrepancy"), weights, strict=True)))

    def predictors(self) -> list[Network]:
        return of_pair(self.subnets, self.config.predict_with)

    def predict(self, images: Tensor) -> Tensor:
        return ensemble_probabilities(self.predictors(), images, self.config.average)

    def _paste(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Each image's partner pasted into it, by one box for all; unchanged without CutMix."""
        if not self.config.cutmix:
            return values
        mask = draw_outside_box(values[0], self.config.mix_ratio)
        return tuple(mix_partners(value, mask, self.config.pairs) for value in values)

    def _view(self, images: Tensor) -> View:
        passes = [net(images, taps=("bottleneck",)) for net in (self.subnets[0], self.subnets[-1])]
        return View([logits for logits, _ in passes], [taps["bottleneck"] for _, taps in passes])

    def _mixed(self, images: Tensor) -> tuple[View, tuple[Tensor, Tensor]]:
        """The view of mixed images, and the targets of the two subnets."""
        c = self.config
        with torch.no_grad():
            labels = self._pseudo_labels([net(images) for net in (self.subnets[0], self.subnets[-1])])
        mask = draw_outside_box(images, c.mix_ratio)
        view = self._view(mix_partners(images, mask, c.pairs))  # on a GPU, while the components are found on the host
        (outside_a, inside_a), (outside_b, inside_b) = (partners(found, c.pairs) for found in labels())
        if c.targets == "other":
            inside_a, inside_b = inside_b, inside_a
        return view, (mix(outside_b, inside_a, mask), mix(outside_a, inside_b, mask))

    def _plain(self, images: Tensor) -> tuple[View, tuple[Tensor, Tensor]]:
        """The view of images as they are; each subnet learns the other's labels."""
        view = self._view(images)
        a, b = self._pseudo_labels(view.logits)()
        return view, (b, a)

    def _pseudo_labels(self, logits: Sequence[Tensor]) -> Callable[[], tuple[Tensor, Tensor]]:
        """A function that waits for the labels by the first and by the second subnet."""
        labels = torch.cat([threshold_labels(z) for z in logits])
        found = keep_largest(labels, self.filtered)
        return lambda: cast(tuple[Tensor, Tensor], found().tensor_split(2))

    def _loss(self, view: View, targets: tuple[Tensor, Tensor]) -> Tensor:
        a, b = (sample_dice_ce(z, y, self.config.loss) for z, y in zip(view.logits, targets, strict=True))
        return a + b
