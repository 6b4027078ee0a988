"""BCP: bidirectional copy-paste."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.components import FILTERED_DOC, Filtered, filtered_classes, keep_largest
from semiseg.ingredients.ema import StudentTeacherOptions, make_teacher
from semiseg.ingredients.mixing import PAIRS_DOC, Pairs, draw_outside_box, halves, in_turn, paste, paste_partners
from semiseg.ingredients.pseudo_labels import threshold_labels
from semiseg.ingredients.regions import REGION_DICE_DOC, RegionDice, region_dice_ce
from semiseg.ingredients.sample_losses import sample_dice_ce
from semiseg.methods.base import Clock, Loss, Method, NetworkBuilder, Predicting, Stage, Task, register
from semiseg.methods.pretraining import PRETRAINING, PretrainingOptions
from semiseg.networks.base import Init

OFFICIAL = {"pretraining": 2 / 17, "pairs": "half", "horizon": None, "dice": "sample", "largest_component": True}
"""The published code, on the left atrium."""


@register("bcp", paper="arXiv:2305.00673", title="Bidirectional copy-paste for semi-supervised segmentation")
@register("bcp-official", paper="arXiv:2305.00673", title="BCP as its published code has it", options=OFFICIAL)
class BCP(Method):
    """The student sees no plain image: a box of an unlabelled one is pasted into a labelled one, and the reverse.

    Outside and inside of the box are supervised apart, labelled voxels by their labels, the others with half the
    weight by the moving average's pseudo-labels. Before that, labelled images are pasted into each other. In the
    published code (`bcp-official`) one half of a batch makes the one mixture and one the other; by default every patch
    takes part in both, so that as many labelled voxels count as for other methods. Source: Bai et al., CVPR 2023.

        L = l(z1; y_a outside, q_a inside / 2) + l(z2; q_b outside / 2, y_b inside)
        z1: student on x_a with the box of u_a          z2: student on u_b with the box of x_b
        l: half of cross-entropy + Dice over outside and over inside, each averaged on its own; q: teacher's labels
    """

    class Config(StudentTeacherOptions, PretrainingOptions):
        """Options; official values per dataset are in the presets `la`, `pancreas` and `acdc`."""

        pairs: Pairs = Field("all", description=PAIRS_DOC)
        mix_ratio: float = Field(2 / 3, gt=0, lt=1, description="side of the pasted box, as a share of the image's")
        pseudo_weight: float = Field(0.5, ge=0, description="weight of the voxels with pseudo-labels; labelled ones: 1")
        dice: RegionDice = Field("batch", description=REGION_DICE_DOC)
        largest_component: Filtered = Field("auto", description=FILTERED_DOC)
        init: Init = Field("default", description="initialisation of the convolutions")

        def smallest_batch(self) -> tuple[int, int]:
            return 2, 0

        def asks_for_pieces(self) -> bool:
            return self.largest_component == "auto"

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.student = build(init=config.init)
        self.teacher = make_teacher(deepcopy(self.student), config, task.steps)
        self.filtered = filtered_classes(config.largest_component, task.one_piece, task.classes)

    def stages(self) -> tuple[Stage, ...]:
        return self.config.stages()

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        x, y, u = batch.labelled, batch.labels, batch.unlabelled
        outside = draw_outside_box(batch.images, c.mix_ratio)
        if clock.stage == PRETRAINING or not len(u):
            yield Loss({"supervised": self._supervised(x, y, outside)})
            self.teacher.copy(self.student)
            return

        q = self._pseudo_labels(u)
        count = max(len(x), len(u))
        (x_a, x_b), (y_a, y_b), (u_a, u_b), (q_a, q_b) = (self._roles(in_turn(each, count)) for each in (x, y, u, q))
        first, second = self.student(paste(x_a, u_a, outside)), self.student(paste(u_b, x_b, outside))
        labelled = region_dice_ce(first, y_a, outside, c.dice) + region_dice_ce(second, y_b, ~outside, c.dice)
        pseudo = region_dice_ce(first, q_a, ~outside, c.dice) + region_dice_ce(second, q_b, outside, c.dice)
        yield Loss({"supervised": labelled, "pseudo": pseudo}, {"pseudo": c.pseudo_weight})
        self.teacher.follow(self.student, clock)

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)

    def _roles(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """What takes part in the first mixture and in the second: a half each, or all in both."""
        return halves(values) if self.config.pairs == "half" else (values, values)

    def _supervised(self, images: Tensor, labels: Tensor, outside: Tensor) -> Tensor:
        """Loss of labelled images that were pasted into each other."""
        images, labels = (paste_partners(each, outside, self.config.pairs) for each in (images, labels))
        logits, dice = self.student(images), self.config.dice
        if dice == "sample":
            return sample_dice_ce(logits, labels)
        return region_dice_ce(logits, labels, outside, dice) + region_dice_ce(logits, labels, ~outside, dice)

    def _pseudo_labels(self, images: Tensor) -> Tensor:
        """The teacher's labels of both halves, which it sees one after the other."""
        labels = torch.cat([threshold_labels(self.teacher(half)) for half in images.tensor_split(2) if len(half)])
        return keep_largest(labels, self.filtered)()
