"""DST against the official step of its segmentation form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.adversarial import shifted_log, worst_case_loss
from semiseg.ingredients.pseudo_labels import confident_labels, hard_labels
from semiseg.ingredients.ramps import reversal_ramp
from semiseg.methods.base import Clock, Task, entry
from semiseg.networks import build_network
from stand_ins import clock, close, labels, leaf, loss_of, tensor

RTOL = 1e-4
GRADIENT = {"rtol": 1e-3, "atol": 1e-8}
DECODERS = ("main", "pseudo", "worst")


@pytest.fixture(scope="module")
def g():
    return golden("dst")


class Decoders(nn.Module):
    """Three decoders that answer with given logits; no gradient where none is wanted."""

    def __init__(self, logits=()):
        super().__init__()
        self.logits = list(logits)
        self.decoders = nn.ModuleList(nn.Identity() for _ in DECODERS)

    def decode(self, x, gradients):
        self.gradients = gradients
        return [z.detach() if factor is None else z for z, factor in zip(self.logits, gradients, strict=True)]


def make(g, variant="dhc", **options):
    shape = g["logits_a_main"].shape
    task = Task(int(g["num_classes"]), 1, len(shape) - 2, (1,) * shape[1])
    numbers = {"weight": float(g["weight"]), "threshold": float(g["threshold"]), "ramp": "none", "variant": variant}
    method = entry("dst").build({**numbers, **options}, task, lambda **_: Decoders())
    for index, name in enumerate("ab"):
        method.nets[index] = Decoders(leaf(g[f"logits_{name}_{part}"]) for part in DECODERS)
    batch = Batch(torch.ones(shape[0], 1, *shape[2:]), labels(g["labels"], channel=True))
    assert batch.n == int(g["n_labelled"])
    return method, batch


def test_step(g):
    method, batch = make(g)
    loss = loss_of(method, batch)
    loss.total.backward()
    for term, key in {"supervised": "sup", "cross": "cps", "worst": "worst"}.items():
        close(loss.terms[term], g[f"loss_{key}"], RTOL)
    close(loss.total, g["loss"], RTOL)
    for net, name in zip(method.nets, "ab", strict=True):
        for z, part in zip(net.logits, DECODERS, strict=True):
            close(torch.zeros_like(z) if z.grad is None else z.grad, g[f"grad_{name}_{part}"], **GRADIENT)
        assert (net.logits[1].grad is not None) == bool(g["pseudo_head_has_gradient"])


def test_masks(g):
    for name in "ab":
        confidence, _ = confident_labels(tensor(g[f"logits_{name}_pseudo"]))
        threshold = float(g["threshold"])
        sure = (confidence - threshold).abs() > 1e-5
        assert torch.equal((confidence > threshold)[sure], labels(g[f"mask_{name}"]).bool()[sure])


def test_worst_case_loss(g):
    n, main, worst = int(g["n_labelled"]), tensor(g["logits_a_main"]), leaf(g["logits_a_worst"])
    margin = make(g)[0].config.margin
    loss = worst_case_loss(worst, hard_labels(main), n, margin)
    loss.backward()
    close(loss, g["worst_loss"], RTOL)
    close(worst.grad[:n], g["worst_grad_labelled"], **GRADIENT)
    close(worst.grad[n:], g["worst_grad_unlabelled"], **GRADIENT)


def test_saturated_worst_case(g):
    half = torch.zeros(g["worst_saturated_grad"].shape)
    half[:, 1] = 60.0
    worst = torch.cat([half, half]).requires_grad_()
    loss = worst_case_loss(worst, hard_labels(worst), len(half), 2.0)
    loss.backward()
    close(loss, g["worst_saturated_loss"], RTOL)
    close(worst.grad[len(half) :], g["worst_saturated_grad"], rtol=1e-3, atol=1e-8)


def test_shifted_logarithm(g):
    close(shifted_log(tensor(g["shift_log_x"])), g["shift_log_y"], RTOL, atol=1e-6)


def test_reversal(g):
    high, low, slope = (float(g[f"grl_{key}"]) for key in ("hi", "lo", "alpha"))
    found = [reversal_ramp(i, float(g["grl_max_iters"]), high, low, slope) for i in g["grl_iterations"].tolist()]
    close(torch.tensor(found, dtype=torch.float64), g["grl_coefficient"], rtol=1e-6, atol=1e-12)
    for step, expected in zip(g["grl_iterations"].tolist(), g["grl_coefficient"], strict=True):
        method, batch = make(g, reversal=high, reversal_steps=float(g["grl_max_iters"]))
        loss_of(method, batch, clock(step=step, steps=10**6))
        close(-method.nets[0].gradients[2], expected, rtol=1e-6, atol=1e-12)


def small(classes=3, **options):
    return lambda **more: build_network(
        "vnet", channels=1, classes=classes, spatial_dims=3, **{"filters": 2, **options, **more}
    )


@pytest.mark.parametrize("variant", ["dhc", "dst"])
def test_where_gradients_flow(g, variant):
    torch.manual_seed(0)
    method = entry("dst").build({"variant": variant, "threshold": 0.0}, Task(3, 1, 3, (1, 1, 1)), small()).train()
    batch = Batch(torch.randn(2, 1, 32, 16, 16), torch.randint(3, (1, 32, 16, 16)))
    next(method.step(batch, Clock(50, 100, 1, 2))).total.backward()
    net = method.nets[0]
    parts = {"block_one": net.encoder.stages[0]}
    parts |= {f"decoder{name}": net.decoders[k] for k, name in enumerate(("", "_pseudo", "_worst"))}
    for name, part in parts.items():
        flows = any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
        assert flows == (bool(g[f"grad_flows_{name}"]) or variant == "dst"), name


def test_parameters(g):
    with torch.device("meta"):
        net = small(classes=16, filters=32)(network="branches", decoders=len(DECODERS))
    assert sum(p.numel() for p in net.parameters()) == int(g["net_n_params_16cls"])
