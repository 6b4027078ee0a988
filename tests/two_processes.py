"""A batch split over two processes; what each of them computes is written to a file."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from itertools import product
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from semiseg.ingredients.adaptive_thresholds import AdaptiveThresholds
from semiseg.ingredients.class_performance import class_indicators
from semiseg.ingredients.class_sampling import ClassConfidence
from semiseg.ingredients.class_weights import DiffDW, DistDW, simis_weights
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import cross_entropy, dice_ce, kept_cross_entropy
from semiseg.ingredients.masked import masked_parts, masked_probability_mse, over_levels
from semiseg.ingredients.prototypes import prototype_loss, prototypes


def problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images `[4, 2, *S]`, targets, class weights and the parameters (a matrix from channels to classes)."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(4, 2, 5, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(3, (4, 5, 6), generator=generator)
    target[:2] *= (target[:2] != 2).long()
    weight = torch.tensor([0.0, 1.5, 3.0], dtype=torch.float64)
    return images, target, weight, torch.randn(3, 2, generator=generator, dtype=torch.float64)


def results(share: slice) -> dict[str, Tensor]:
    """Losses, the gradients of this process and class weights for a share of the batch."""
    images, target, weight, start = problem()
    images, target = images[share], target[share]
    found: dict[str, Tensor] = {}
    losses = {
        "dhc": lambda z: dice_ce(z, target, "dhc", weight),
        "ssl4mis": lambda z: dice_ce(z, target, "ssl4mis"),
        "weighted": lambda z: cross_entropy(z, target, weight),
        "kept": lambda z: kept_cross_entropy(z, target, images[:, 0] > 0, weight, over="kept"),
        "masked": lambda z: over_levels([masked_parts(z, one_hot(target, 3), images[:, 0] > 0, "kl")]),
        "squares": lambda z: masked_probability_mse(z, one_hot(target, 3), images[:, 0] > 0),
    }
    for pairing, absent in product(("batch", "image"), ("level", "class")):
        losses[f"prototypes {pairing} {absent}"] = partial(prototype_gap, target, pairing, absent)
    for name, loss in losses.items():
        parameters = start.clone().requires_grad_()
        value = loss(torch.einsum("kc,bc...->bk...", parameters, images))
        value.backward()
        found[name], found[f"{name} gradient"] = value.detach(), parameters.grad
    predicted = torch.einsum("kc,bc...->bk...", start, images).argmax(1)
    found["difficulty"] = DiffDW(3).update(predicted, target)
    found["rarity"] = DistDW([9, 3, 1]).update(predicted, target[:0])
    found["distance"] = simis_weights([9, 3, 1]).update(predicted, target)
    logits = torch.einsum("kc,bc...->bk...", start, images)
    confidence = ClassConfidence(3, window=1, momentum=0.9)
    confidence.value.zero_()
    found["confidence"] = confidence.update(logits, target, 0)
    for pairs in (True, False):
        found[f"indicators {pairs}"] = class_indicators(logits, target, pairs=pairs)
    for exact in (True, False):
        thresholds = AdaptiveThresholds(3, 5, 0.6, exact=exact)
        found[f"thresholds {exact}"] = [thresholds.update(logits.softmax(1), step) for step in range(2)][1]
    return found


def prototype_gap(target: Tensor, pairing: str, absent: str, features: Tensor) -> Tensor:
    masks = one_hot(target, 3)
    return prototype_loss([prototypes(features, masks)], [prototypes(features.square(), masks)], pairing, absent)


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    start = f"file://{folder}/start"
    dist.init_process_group("gloo", init_method=start, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    torch.save(results(slice(2 * rank, 2 * rank + 2)), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
