"""What the files of DTC and SASSNet have in common: two heads, signed distances and schedules."""

from __future__ import annotations

import torch
from torch import nn

from semiseg.ingredients.signed_distance import signed_distances
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import learning_rate
from stand_ins import clock, close, labels

CLOSE = {"rtol": 1e-6, "atol": 1e-9}


class TwoHeads(nn.Module):
    """One foreground logit, beside a background of 0, and the distance before its tanh."""

    def __init__(self, logits, distances):
        super().__init__()
        self.logits, self.distances = logits, distances

    def with_distances(self, images):
        return torch.cat([torch.zeros_like(self.logits), self.logits], 1), torch.tanh(self.distances)


def check_distances(g):
    """The signed distances of a file; SASSNet's has the same keys."""
    for prefix in ("", "single_voxel_", "all_but_one_", "two_boxes_"):
        found = signed_distances(labels(g[f"sdf/{prefix}labels"]), 2).squeeze(1)
        close(found, g[f"sdf/{prefix}sdf"], **CLOSE)
    shape = g["sdf/shape"].tolist()
    empty = signed_distances(torch.zeros(1, *shape, dtype=torch.long), 2)
    close(empty.abs().max(), g["sdf/empty_sdf_max_abs"], rtol=0)
    assert float(g["sdf/full_foreground_nan_fraction"]) == 1
    assert not signed_distances(torch.ones(1, *shape, dtype=torch.long), 2).any()


def check_schedules(g, config):
    """Weights and learning rates; the file has the rate that is set after the step number i."""
    for i, expected in zip(g["weight_iter"].tolist(), g["weight"], strict=True):
        close(config.weight * config.ramp_up(clock(step=i)), expected, rtol=1e-9)
    steps = OptimiserConfig(name="sgd", lr=0.01, schedule="step", every=2500, factor=0.1)
    for i, expected in zip(g["sched_iter"].tolist(), g["sched_lr_after"], strict=True):
        close(learning_rate(steps, i, 6000), expected, rtol=1e-9)
