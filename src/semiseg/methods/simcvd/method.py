"""SimCVD: contrastive voxel-wise representation distillation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.errors import InputError
from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.consistency import probability_mse
from semiseg.ingredients.ema import StudentTeacherOptions, make_teacher
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.signed_distance import signed_distances
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.methods.simcvd.contrast import SliceProjection, info_nce, patch_vectors, similarity_mse
from semiseg.networks.base import Init
from semiseg.networks.distance import DistanceNet


@register(
    "simcvd", paper="arXiv:2108.06227", title="Simple contrastive voxel-wise representation distillation (SimCVD)"
)
class SimCVD(Method):
    """Teacher and student see the same patch under other dropout; their signed distances and features are contrasted.

    Every slice of the student's distance maps is nearest to the same slice of the teacher's, every part of its features
    to the same part. No code is published; weights and sizes that the abstract does not give are choices of this
    project and options. Negatives are the slices and parts of the process's own patches. A slice of 2D data is a patch.
    Source: You et al., IEEE TMI 2022.

        L = L_sup + a mean (T - G)^2 + b L_slices + c L_parts + w(t) mean (p - p_teacher)^2
        L_slices, L_parts = -mean_i ln(exp(t_i s_i / T) / sum_j exp(t_i s_j / T))
        t, s: of teacher and student, of length one        T, G: predicted and true signed distances
    """

    class Config(RampOptions, StudentTeacherOptions, MethodConfig):
        """Options; the defaults are a reading of the paper, with the ramp stretched to the length of the run."""

        loss: DiceCE = Field("la", description=DICE_CE_DOC)
        distance_weight: float = Field(0.1, ge=0, description="a, weight of the supervised distances")
        slice_weight: float = Field(0.5, ge=0, description="b, weight of the contrast of slices of distance maps")
        part_weight: float = Field(0.1, ge=0, description="c, weight of the contrast of parts of features")
        weight: float = Field(0.1, ge=0, description="weight of the consistency after the ramp-up")
        temperature: float = Field(0.5, gt=0, description="T of the contrast of slices; that of parts has 1")
        parts: Literal["contrast", "matrices"] = Field(
            "contrast", description="parts are contrasted, or the squared difference of their similarities is taken"
        )
        feature: str = Field("dec1", pattern=r"^dec\d+$", description="decoder stage whose features have the parts")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.classes = task.classes
        self.student = cast(DistanceNet, build(network="distance", maps=task.classes - 1, init=config.init))
        self.teacher = make_teacher(deepcopy(self.student), config, task.steps)
        self.projection = SliceProjection(task.classes - 1)
        if config.feature not in self.student.taps:
            stages = ", ".join(self.student.decoder_taps)
            raise InputError(f"feature: the network has no {config.feature}: choose one of {stages}")

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, x = self.config, batch.n, batch.images
        logits, distances, features = self.student.with_distances_and_features(x, (c.feature,))
        distances = full_precision(distances)
        with torch.no_grad():
            target, target_distances, target_features = self._teach(x)
            slices = self.projection(full_precision(target_distances))
            parts = patch_vectors(target_features[c.feature])
        terms = {
            "supervised": dice_ce(logits[:n], batch.labels, c.loss),
            "distance": (distances[:n] - signed_distances(batch.labels, self.classes)).square().mean(),
            "slices": info_nce(slices, self.projection(distances), c.temperature),
            "parts": self._compare(parts, patch_vectors(features[c.feature])),
        }
        if n < len(x):
            terms["consistency"] = probability_mse(logits[n:], target[n:])
        weights = {"distance": c.distance_weight, "slices": c.slice_weight, "parts": c.part_weight}
        yield Loss(terms, {**weights, "consistency": c.weight * c.ramp_up(clock)})
        self.teacher.update(self.student, clock.step)

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)

    def _teach(self, images: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        dropout = None if self.teacher.dropout else False
        net = cast(DistanceNet, self.teacher.net)
        return net.with_distances_and_features(images, (self.config.feature,), dropout=dropout)

    def _compare(self, teacher: Tensor, student: Tensor) -> Tensor:
        return similarity_mse(teacher, student) if self.config.parts == "matrices" else info_nce(teacher, student, 1.0)
