"""EIC against its code: the terms of codes, the noise of its auto-encoder, and what moves running statistics."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from golden_files import golden
from semiseg.ingredients import adversarial
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.levels import one_hot
from semiseg.methods.base import Task, entry
from semiseg.methods.eic.autoencoder import AutoEncoder, noisy_one_hot
from semiseg.networks import build_network
from stand_ins import close, labels, tensor

CLOSE = {"rtol": 1e-3, "atol": 1e-6}


@pytest.fixture(scope="module")
def g():
    return golden("eic")


class Segmenter(nn.Sequential):
    def __init__(self, g, case):
        c1, c2 = (tensor(g[f"{case}_net_{name}_weight"], torch.float32) for name in ("c1", "c2"))
        width, channels, classes = c1.shape[0], c1.shape[1], c2.shape[0]
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, classes, 1)
        )
        names = {"0.weight": "c1_weight", "0.bias": "c1_bias", "3.weight": "c2_weight", "3.bias": "c2_bias"}
        names |= {f"1.{name}": f"b_{name}" for name in ("weight", "bias", "running_mean", "running_var")}
        state = {ours: tensor(g[f"{case}_net_{theirs}"], torch.float32) for ours, theirs in names.items()}
        self.load_state_dict(self.state_dict() | state)


class Coder(nn.Module):
    def __init__(self, g, case):
        super().__init__()
        self.weight, self.bias = (tensor(g[f"{case}_ae_e_{name}"], torch.float32) for name in ("weight", "bias"))

    def encode(self, p):
        return F.relu(F.conv2d(p, self.weight, self.bias, stride=2, padding=1))


@pytest.mark.parametrize("case", ["a", "absent"])
def test_terms_of_codes(g, case, monkeypatch):
    build = partial(build_network, "unet2d", channels=1, classes=4, spatial_dims=2, filters=(4, 8), dropout=0.0)
    method = entry("eic").build({}, Task(4, 1, 2, (1,) * 4), build)
    net, method.autoencoder = Segmenter(g, case).train(), Coder(g, case)
    image, target = tensor(g[f"{case}_image"], torch.float32), labels(g[f"{case}_labels"])
    n = len(g[f"{case}_onehot"])
    hot = one_hot(target[:n], 4)
    close(hot, g[f"{case}_onehot"], rtol=0)
    logits = net(image)
    close(method.autoencoder.encode(hot), g[f"{case}_code_label"], **CLOSE)
    close(method.autoencoder.encode(probabilities(logits[:n])), g[f"{case}_code_pred"], **CLOSE)
    of_labels = method._distance(logits[:n], hot)
    close(of_labels, g[f"{case}_loss_s"], **CLOSE)

    close(net[1].running_mean, g[f"{case}_running_mean_before_vat"], **CLOSE)
    monkeypatch.setattr(adversarial.torch, "rand_like", lambda _: tensor(g[f"{case}_rand01"], torch.float32))
    c = method.config
    assert (c.noise_length, c.noise_reach, c.code_weight) == (
        float(g["eps"]),
        float(g["xi"]),
        pytest.approx(float(g["alpha"])),
    )
    sensitivity = adversarial.virtual_adversarial_loss(net, image[n:], method._distance, c.noise_length, c.noise_reach)
    close(sensitivity, g[f"{case}_loss_u"], **CLOSE)
    close(net[1].running_mean, g[f"{case}_running_mean_after_vat"], **CLOSE)
    (of_labels + sensitivity).backward()
    for name, layer in (("c1", net[0]), ("c2", net[3])):
        close(layer.weight.grad, g[f"{case}_grad_net_{name}_weight"], rtol=1e-3, atol=1e-5)


def test_noise_of_labels(g):
    hot = tensor(g["ae_onehot"], torch.float32)
    close(noisy_one_hot(hot.argmax(1), hot.shape[1], tensor(g["ae_uniform"], torch.float32)), g["ae_noisy"], **CLOSE)


def test_auto_encoder():
    taps = build_network("unet2d", channels=1, classes=4, spatial_dims=2).taps
    coder = AutoEncoder(4, taps).eval()
    assert sum(p.numel() for p in coder.parameters()) == 2_791_744
    with torch.no_grad():
        p = torch.rand(1, 4, 64, 64)
        assert coder.encode(p).shape == (1, 256, 4, 4)
        assert coder(p).shape == p.shape
