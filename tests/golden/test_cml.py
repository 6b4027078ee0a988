"""CML against the official functions, and whole self-training steps through the method's own `step`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.components import keep_largest
from semiseg.ingredients.discrepancy import cosine_similarity_loss, mutual_similarity_loss
from semiseg.ingredients.losses import cross_entropy
from semiseg.ingredients.mixing import box_sides, halves, outside_box, paste, paste_partners
from semiseg.ingredients.pseudo_labels import threshold_labels
from semiseg.ingredients.sample_losses import sample_dice_ce
from semiseg.methods.base import Clock, Method
from semiseg.methods.cml import cutmix
from semiseg.metrics.metrics import overlap_and_surface
from semiseg.networks.base import Network, Tap
from semiseg.prediction.windows import sliding_windows
from semiseg.scans.components import largest_component
from semiseg.settings.run import OptimiserConfig
from semiseg.training.stages import spans
from stand_ins import close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
SELF = Clock(60, 100, 0, 10, "selftraining")
F32 = torch.float32


@pytest.fixture(scope="module")
def g():
    return golden("cml")


def equal(ours: Tensor, official: np.ndarray) -> None:
    np.testing.assert_array_equal(ours.detach().numpy(), official)


def cases(g, prefix, key):
    """Names such as `sup3d_bg` for which the file has `key`."""
    found = [name.removesuffix(f"_{key}") for name in g if name.startswith(prefix) and name.endswith(f"_{key}")]
    assert found
    return found


def test_discrepancy(g):
    for name in cases(g, "dis", "feat_a"):
        a, b = leaf(g[f"{name}_feat_a"], F32), leaf(g[f"{name}_feat_b"], F32)
        loss = cosine_similarity_loss(a, b)
        close(loss, g[f"{name}_loss_ab"], **CLOSE)
        close(cosine_similarity_loss(b, a), g[f"{name}_loss_ba"], **CLOSE)
        (gradient,) = torch.autograd.grad(loss, a)
        zero = (a.detach() == 0).all(1, keepdim=True)
        assert not gradient[zero.expand_as(gradient)].any()
        compare_off(zero, gradient, g[f"{name}_grad_ab_a"])
        mutual_similarity_loss(a, b).backward()
        compare_off(zero, a.grad, g[f"{name}_grad_sum_a"])
        compare_off((b.detach() == 0).all(1, keepdim=True), b.grad, g[f"{name}_grad_sum_b"])


def compare_off(zero: Tensor, gradient: Tensor, official: np.ndarray) -> None:
    """Where a feature vector is zero the official gradient is an artefact of its two epsilons."""
    off = (~zero).expand_as(gradient)
    close(gradient[off], tensor(official)[off], **CLOSE)


@pytest.mark.parametrize("dims", [2, 3])
def test_box_masks(g, dims):
    for row in g[f"mask{dims}d_table"]:
        shape = [int(side) for side in row[1 : 1 + dims]]
        ratio, starts = row[1 + dims], row[2 + dims : 2 + 2 * dims].astype(int)
        sides = box_sides(shape, ratio)
        assert sides == tuple(row[2 + 2 * dims :].astype(int))
        expected = np.ones(shape, dtype=bool)
        expected[tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))] = False
        equal(outside_box(starts.tolist(), sides, shape), expected)


@pytest.mark.parametrize("name", ["lcc3d", "lcc2d"])
def test_largest_components(g, name):
    found = keep_largest(labels(g[f"{name}_in"]))()
    equal(found, g[f"{name}_out"])


def test_supervised_loss(g):
    for name in cases(g, "sup", "logits"):
        logits, target = leaf(g[f"{name}_logits"], F32), labels(g[f"{name}_label"])
        loss = sample_dice_ce(logits, target)
        close(cross_entropy(logits, target), g[f"{name}_ce"], **CLOSE)
        close(2 * loss - cross_entropy(logits, target), g[f"{name}_dice"], **CLOSE)
        close(loss, g[f"{name}_total"], **CLOSE)
        loss.backward()
        close(logits.grad, g[f"{name}_grad"], **CLOSE)


class Answers(Network):
    """Gives the next of the given pairs of logits and bottleneck features at each call, and keeps what it saw."""

    def __init__(self, answers: list[tuple[Tensor, Tensor | None]]) -> None:
        super().__init__()
        self.answers, self.seen = list(answers), []
        self.taps = {"bottleneck": Tap(1, (1,))}
        self.divisor = (1,)
        self.dummy = nn.Parameter(torch.zeros(1))

    def forward(self, x, taps=(), *, dropout=None):
        self.seen.append(x)
        logits, feature = self.answers.pop(0)
        return (logits, {"bottleneck": feature}) if taps else logits


class Step:
    """A whole self-training step of the file with the given names."""

    def __init__(self, g, name, monkeypatch, **options):
        self.g = {key.removeprefix(f"{name}_"): value for key, value in g.items() if key.startswith(f"{name}_")}
        g = self.g
        masks = [tensor(g["mask_l"], torch.bool), tensor(g["mask_u"], torch.bool)]
        monkeypatch.setattr(cutmix, "draw_outside_box", lambda images, ratio: masks.pop(0))
        self.method = make_method(
            "cml-official",
            g["un_logits1"].shape,
            mix_ratio=float(g["ratio"]),
            labelled_weight=float(g["l_weight"]),
            unlabelled_weight=float(g["u_weight"]),
            discrepancy_weight=float(g["dis_weight"]),
            **options,
        )
        self.given = {key: leaf(g[key], F32) for key in g if key.startswith(("out", "f1", "f2"))}
        for index, number in enumerate("12"):
            half = [(self.given[f"out{number}_{part}"], self.given[f"f{number}_{part}"]) for part in "lu"]
            passes = [half[0], (tensor(g[f"un_logits{number}"], F32), None), half[1]]
            self.method.subnets[index] = Answers(passes)
        images, unlabelled = tensor(g["img"], F32), len(g["un_logits1"])
        n = len(images) - unlabelled
        self.batch = Batch(images, labels(g["lab"])[:n])

    def loss(self):
        return loss_of(self.method, self.batch, SELF)


@pytest.mark.parametrize("name", ["step3d", "step2d"])
def test_self_training_step(g, name, monkeypatch):
    step = Step(g, name, monkeypatch)
    loss, file = step.loss(), step.g
    for subnet in step.method.subnets:
        assert not subnet.answers
        equal(subnet.seen[0], file["mix_img_l"])
        equal(subnet.seen[1], step.batch.unlabelled.numpy())
        equal(subnet.seen[2], file["mix_img_u"])
    sums = {part: file[f"sup1_{part}"] + file[f"sup2_{part}"] for part in "lu"}
    close(loss.terms["supervised"], sums["l"], **CLOSE)
    close(loss.terms["unlabelled"], sums["u"], **CLOSE)
    close(loss.terms["discrepancy"], file["dis_l"] + file["dis_u"], **CLOSE)
    for term, key in (("supervised", "l"), ("unlabelled", "u"), ("discrepancy", "dis")):
        close(loss.weights[term] * loss.terms[term], file[f"loss_{key}"], **CLOSE)
    close(loss.total, file["loss"], **CLOSE)
    loss.total.backward()
    for key, given in step.given.items():
        zero = (given.detach() == 0).all(1, keepdim=True)
        compare_off(zero, given.grad, file[f"grad_{key}"])


@pytest.mark.parametrize("name", ["step3d", "step2d"])
def test_pseudo_labels_and_targets(g, name, monkeypatch):
    file = Step(g, name, monkeypatch).g
    n = len(file["lab"]) - len(file["un_logits1"])
    mask_l, mask_u = (tensor(file[f"mask_{part}"], torch.bool) for part in "lu")
    equal(paste_partners(labels(file["lab"])[:n], mask_l, "half"), file["mix_lab_l"])
    found = []
    for number in "12":
        raw = threshold_labels(tensor(file[f"un_logits{number}"], F32))
        equal(raw, file[f"raw{number}"])
        found.append(keep_largest(raw)())
        equal(found[-1], file[f"plab{number}"])
    (outside_1, inside_1), (outside_2, inside_2) = map(halves, found)
    equal(paste(outside_2, inside_1, mask_u), file["target1"])
    equal(paste(outside_1, inside_2, mask_u), file["target2"])


class Formula(nn.Module):
    """The file's stand-in for a subnet."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        t = torch.linspace(-1, 1, x.shape[-1])
        return torch.cat([0.5 * x, 1.5 * x - 0.2 + t] if self.first else [0.1 - x, x * x - 0.3], 1)


def averaging() -> Method:
    method = make_method("cml", (1, 2, 1, 1, 1))
    for index in (0, 1):
        method.subnets[index] = Formula(index == 0)
    return method


def test_sliding_windows(g):
    method = averaging()
    for name in cases(g, "slide", "image"):
        image, patch = tensor(g[f"{name}_image"], F32)[None], g[f"{name}_patch"].tolist()
        stride = [int(g[f"{name}_stride_xy"])] * 2 + [int(g[f"{name}_stride_z"])]
        score = sliding_windows(method.predict, image, patch, stride)[1]
        close(score, g[f"{name}_score"], rtol=1e-4, atol=1e-5)
        clear = np.abs(g[f"{name}_score"] - 0.5) > 1e-5
        np.testing.assert_array_equal((score > 0.5).numpy()[clear], g[f"{name}_label"].astype(bool)[clear])


def test_metrics(g):
    for name in cases(g, "metric", "pred"):
        pred, truth = g[f"{name}_pred"], g[f"{name}_gt"]
        np.testing.assert_array_equal(largest_component(pred), g[f"{name}_largest"])
        scores = overlap_and_surface(pred > 0, truth > 0)
        found = [scores.dice, scores.jaccard, scores.voxel.hd95, scores.voxel.asd]
        np.testing.assert_allclose(found, g[f"{name}_dice_jc_hd95_asd"], rtol=1e-6)


def test_learning_rate_of_the_stages(g):
    rates = dict(zip(g["lr_la_selftrain_step"].tolist(), g["lr_la_selftrain_value"].tolist(), strict=True))
    # The official self-training has 15,000 steps after 2,000 of pre-training; the rate falls every 2,500 of its own.
    steps, share = 17_000, 2 / 17
    config = OptimiserConfig(name="sgd", schedule="step", every=2500, factor=0.1)
    first, second = spans(make_method("cml-official", (1, 2, 1, 1), pretraining=share).stages(), steps)
    assert (first.end, second.first, second.end) == (2000, 2000, steps)
    assert {first.rate(config, step, steps) for step in (0, 1999)} == {0.01}
    for step, value in rates.items():
        assert second.rate(config, second.first + step - 1, steps) == pytest.approx(value, rel=1e-9)
    assert all(a >= b for a, b in pairwise(rates.values()))
