"""TraCoCo against its official functions, which are of parts of a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden_files import golden
from semiseg.ingredients.losses import FORMS
from semiseg.ingredients.masked import dice_of_sums
from semiseg.ingredients.mixtures import column_box
from semiseg.ingredients.ramps import sigmoid_ramp
from semiseg.methods.base import entry
from semiseg.methods.tracoco.crops import overlap, translation_losses
from semiseg.methods.tracoco.pseudo import confident_loss
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import learning_rate
from stand_ins import close, leaf, tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture(scope="module")
def g():
    return golden("tracoco")


@pytest.mark.parametrize("case", ["crc_a", "crc_noconf", "cbc4_a", "cbc4_noconf"])
def test_confident_loss(g, case):
    logits = leaf(g[f"{case}_inputs"], torch.float32)
    target = tensor(g[f"{case}_targets"], torch.float32)
    kind = "others" if case.startswith("crc") else "all"
    loss = confident_loss(logits, target, float(g["threshold"]), float(g["neg_threshold"]), kind)
    loss.backward()
    close(loss, g[f"{case}_loss"], **CLOSE)
    close(logits.grad, g[f"{case}_grad"], **CLOSE)


def shifts(g):
    return torch.from_numpy(g["sp_shifted_ranges"][:, 0] - g["sp_normal_ranges"][:, 0]).T.long()


def test_translation_losses(g):
    """A crop that starts later on one axis is first there: the file's samples are shifted either way."""
    a, b = (leaf(g[f"sp_logits_{name}"], torch.float32) for name in ("normal", "shifted"))
    shift = shifts(g)
    flipped = [tuple(axis + 2 for axis in np.flatnonzero(row < 0)) for row in shift.numpy()]

    def turned(z):
        return torch.stack([each.unsqueeze(0).flip(axes)[0] for each, axes in zip(z, flipped, strict=True)])

    agreement, entropy = translation_losses(turned(a), turned(b), shift.abs(), "space")
    close(agreement, g["sp_loss"].item(), **CLOSE)
    close(entropy, g["sp_negentropy"].item(), **CLOSE)
    (float(g["sp_spatial_weight"]) * agreement + float(g["sp_hyp"]) * entropy).backward()
    close(a.grad, g["sp_grad_normal"], **CLOSE)
    close(b.grad, g["sp_grad_shifted"], **CLOSE)


def test_overlaps(g):
    patch = (112, 112, 80)
    for row in g["crop_rows"]:
        _, first, second, in_first, in_second = np.split(row, [3, 6, 9, 15])
        shift = torch.from_numpy(first - second)
        found = overlap(shift.unsqueeze(0), patch)[0, 0].nonzero()
        (starts, stops), (shifted, _) = in_first.reshape(3, 2).T, in_second.reshape(3, 2).T
        assert found.min(0).values.tolist() == starts.tolist()
        assert (found.max(0).values + 1).tolist() == stops.tolist()
        assert shifted.tolist() == shift.tolist()


def test_boxes(g):
    count, _, *size = g["box_size"].tolist()
    for number, (lam, expected) in enumerate(zip(g["box_lam"], g["box_x1y1x2y2"], strict=True)):
        draw = np.random.RandomState(int(g["box_seed_first"]) + number)
        assert draw.beta(4, 4) == pytest.approx(lam)
        centres = [draw.randint(side // 8, side, size=count) for side in size[:2]]
        uniform = [(c - side // 8 + 0.5) / (side - side // 8) for c, side in zip(centres, size, strict=False)]
        uniform = torch.tensor(np.stack([*uniform, uniform[0]], 1))
        lower, upper = column_box(size, torch.full((count,), lam, dtype=torch.float64), uniform)
        np.testing.assert_array_equal(torch.cat([lower[:, :2], upper[:, :2]], 1).T, expected)
        assert (lower[:, 2] == 0).all()
        assert (upper[:, 2] == size[2]).all()


def test_constants(g):
    sgd = OptimiserConfig(name="sgd", lr=0.05, schedule="poly")
    for step, weight, lr in zip(
        g["iterations"].tolist(), g["consistency_weight_w0p3_4iters_per_epoch"], g["lr_la"], strict=True
    ):
        close(0.3 * sigmoid_ramp(step, 160) if step else 0.0, weight, **CLOSE)
        close(learning_rate(sgd, step, 9000), lr, **CLOSE)
    c = entry("tracoco").configure({})
    assert (c.threshold, c.least) == (float(g["threshold"]), float(g["neg_threshold"]))
    p, y = (tensor(g[f"dice_{name}"]) for name in ("scores", "targets"))
    overlap_, mass = (p * y).sum(), p.square().sum() + y.square().sum()
    close(dice_of_sums(torch.stack([overlap_] * 2), torch.stack([mass] * 2), FORMS["la"]), g["dice_loss"], **CLOSE)
