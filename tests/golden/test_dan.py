"""DAN against its official steps, through the method's own `step`."""

from __future__ import annotations

import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.methods.base import Task, entry
from semiseg.networks.discriminator import DROPOUT, SLOPE, Discriminator
from stand_ins import StandIn, clock, close, leaf, tensor

CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture(scope="module")
def g():
    return golden("dan")


@pytest.mark.parametrize("case", ["d2d", "d3d"])
def test_steps(g, case):
    low, n, repeat = leaf(g[f"{case}/logits_low"]), int(g[f"{case}/labeled_bs"]), int(g[f"{case}/repeat"])
    image, weights = tensor(g[f"{case}/image_low"]), {}
    for key in g:
        if key.startswith(f"{case}/w/"):
            weights[key.removeprefix(f"{case}/w/")] = tensor(g[key])
    dims = low.ndim - 2

    def enlarged(values):
        for axis in range(2, values.ndim):
            values = values.repeat_interleave(repeat, axis)
        return values

    logits = enlarged(low)
    task = Task(low.shape[1], image.shape[1], dims, (1,) * low.shape[1])
    options = {"discriminator_width": len(weights["conv0.bias"]), "ramp": "none", "weight": 1.0}
    method = entry("dan").build(options, task, lambda **_: StandIn(torch.zeros(1, *low.shape[1:]))).double()
    method.net = StandIn(logits)
    method.discriminator.load_state_dict(weights)
    assert set(weights) == set(method.discriminator.state_dict())
    x = enlarged(image)
    method.eval()  # dropout of the discriminator is off in the file
    target = torch.zeros(n, *x.shape[2:], dtype=torch.long)
    first, second = _both(method, Batch(x, target))
    close(first.terms["adversarial"], g[f"{case}/gen_loss"], **CLOSE)
    (slope,) = torch.autograd.grad(first.terms["adversarial"], low, retain_graph=True)
    close(slope, g[f"{case}/grad_logits_low"], **CLOSE)
    close(second.terms["discriminator"], g[f"{case}/disc_loss"], **CLOSE)
    second.total.backward()
    close(method.discriminator.conv0.bias.grad, g[f"{case}/disc_grad_conv0_bias"], **CLOSE)
    close(method.discriminator.classifier.weight.grad, g[f"{case}/disc_grad_classifier_weight"], **CLOSE)
    with torch.no_grad():
        verdict = method.discriminator(logits.softmax(1), x)
    close(verdict, g[f"{case}/disc_out"], **CLOSE)
    close(verdict[n:], g[f"{case}/gen_disc_out"], **CLOSE)
    assert g[f"{case}/disc_target"].tolist() == [1] * n + [0] * (len(x) - n)


def _both(method, batch):
    return list(method.step(batch, clock()))


def test_constants(g):
    method = entry("dan").build({}, Task(2, 1, 2, (1, 1)), lambda **_: StandIn(torch.zeros(1, 2, 4, 4)))
    own = method.optimisers()["discriminator"]
    assert own.lr == float(g["dan_lr"])
    assert own.betas == pytest.approx(tuple(g["dan_betas"].tolist()))
    assert (float(g["leaky_slope"]), float(g["dropout"])) == (SLOPE, DROPOUT)
    for dims, classes, key in ((2, 4, "n_params_2d_C4"), (3, 2, "n_params_3d_C2")):
        count = sum(p.numel() for p in Discriminator(classes, 1, dims, method.config.discriminator_width).parameters())
        assert count == int(g[key])
