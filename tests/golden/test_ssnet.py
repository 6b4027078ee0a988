"""SS-Net against its official losses, memory and step, on the small networks of the file."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients import adversarial
from semiseg.ingredients.adversarial import adversarial_direction, unit_noise, virtual_adversarial_loss
from semiseg.ingredients.class_contrast import contrast_loss, remember
from semiseg.ingredients.consistency import probability_dice
from semiseg.ingredients.dices import DICES
from semiseg.methods.base import Task, entry
from semiseg.networks import build_network
from semiseg.networks.base import Network, Tap
from semiseg.networks.blocks import CONVOLUTION
from stand_ins import close, labels, leaf, loss_of, tensor

LOSS = 1e-4
RTOL = {"rtol": 1e-3, "atol": 1e-8}
LEAVES = ("weight", "bias")
VAT = {"vat_": "dhc", "vat_la_": "la", "vat2d_": "acdc"}


@pytest.fixture(scope="module")
def g():
    return golden("ssnet")


class SmallNet(Network):
    """The network of the file: embedding tanh(3 body(x)), logits twice a 1x1 convolution of it."""

    def __init__(self, g, prefix="net"):
        super().__init__()
        body, out = (tensor(g[f"{prefix}.{part}.weight"]) for part in ("body", "out"))
        dims = body.ndim - 2
        self.body = CONVOLUTION[dims](body.shape[1], body.shape[0], body.shape[2], padding=body.shape[2] // 2)
        self.out = CONVOLUTION[dims](out.shape[1], out.shape[0], 1)
        self.load_state_dict(
            {f"{part}.{name}": tensor(g[f"{prefix}.{part}.{name}"]) for part in ("body", "out") for name in LEAVES}
        )
        self.taps = {"embedding": Tap(body.shape[0], (1,) * dims)}
        self.divisor = (1,) * dims

    def forward(self, x, taps=(), *, dropout=None):
        embedding = torch.tanh(3 * self.body(x))
        logits = 2 * self.out(embedding)
        return (logits, {"embedding": embedding}) if taps else logits


SELECTOR = {"0.weight": "weight", "0.bias": "bias", "1.weight": "norm_weight", "1.bias": "norm_bias"}
SELECTOR |= {"3.weight": "last_weight", "3.bias": "last_bias"}


def heads_of(g) -> dict[str, Tensor]:
    """State of the heads and selectors, by the names of the method."""
    state = {}
    for key, value in g.items():
        if found := re.fullmatch(r"net\.(projection|prediction)_head\.(.+)", key):
            state[f"{found[1]}.{found[2]}"] = torch.from_numpy(np.array(value))
    for theirs, own in SELECTOR.items():
        parts = [tensor(g[f"net.contrastive_class_selector_{c}.{theirs}"]) for c in range(1, int(g["num_classes"]))]
        state[f"selectors.{own}"] = torch.stack(parts)
    return state


def make(g, **options):
    shape = g["images"].shape
    task = Task(int(g["num_classes"]), shape[1], len(shape) - 2, (1,) * int(g["num_classes"]))
    numbers = {"weight": float(g["step_weight"]), "ramp": "none", "memory": int(g["memory_elements_per_class"])}
    noise = {"magnitude": float(g["vat_epi"]), "reach": float(g["vat_xi"])}
    method = entry("ssnet").build({"dice": "dhc", **numbers, **noise, **options}, task, lambda **_: SmallNet(g))
    missing, unexpected = method.load_state_dict(heads_of(g), strict=False)
    assert not unexpected
    assert all(name.startswith(("net.", "memory.")) for name in missing)
    return method.double().train()


def given_draw(monkeypatch, uniform):
    monkeypatch.setattr(adversarial.torch, "rand_like", lambda x: tensor(uniform, x.dtype))


@pytest.mark.parametrize("case", VAT)
def test_virtual_adversarial_training(g, case, monkeypatch):
    two = case == "vat2d_"
    net = SmallNet(g, "net2d" if two else "net").double()
    images, uniform = tensor(g["vat2d_images" if two else "images"]), g["vat2d_uniform" if two else "vat_uniform"]
    reach, magnitude = float(g["vat_xi"]), float(g["vat2d_epi" if two else "vat_epi"])
    dices = DICES[VAT[case]]

    def distance(logits, target):
        return probability_dice(logits, target, dices.between, pooled=dices.pooled)

    target = net(images).softmax(1).detach()
    start = reach * unit_noise(tensor(uniform) - 0.5)
    close(start, g[f"{case}d0_scaled"], **RTOL)
    noise = magnitude * adversarial_direction(net, images, target, start, distance)
    close(noise, g[f"{case}r_adv"], rtol=1e-3, atol=1e-6)
    assert all(p.grad is None for p in net.parameters())
    given_draw(monkeypatch, uniform)
    loss = virtual_adversarial_loss(net, images, distance, magnitude, reach)
    loss.backward()
    close(loss, g[f"{case}loss"], LOSS)
    close(net.out.weight.grad, g[f"{case}grad_out_weight"], rtol=1e-3, atol=1e-6)
    close(net.body.weight.grad, g[f"{case}grad_body_weight"], rtol=1e-3, atol=1e-6)


@pytest.fixture
def filled(g):
    """The method after the file's memory updates, which are checked on the way."""
    method = make(g)
    for step, (features, of) in enumerate(zip(g["memory_features"], g["memory_labels"], strict=True)):
        remember(method.memory, method.selectors, tensor(features), labels(of), method.config.selected)
        for c in range(1, int(g["num_classes"])):
            close(method.memory.of(c), g[f"memory_step{step}_class{c}"], **RTOL)
        assert len(method.memory.of(0)) == 0
    return method


def test_memory_and_contrast(g, filled):
    features = leaf(g["contrast_features"])
    loss = contrast_loss(filled.memory, filled.selectors, features, labels(g["contrast_labels"]))
    loss.backward()
    close(loss, g["contrast_loss"], LOSS)
    close(features.grad, g["contrast_grad_features"], rtol=1e-3, atol=1e-8)
    close(filled.selectors.last_weight.grad[0], g["contrast_grad_selector1"], rtol=1e-3, atol=1e-7)
    # The selectors of the memory that the official code has besides have no more than rounding noise as gradient.
    assert float(g["contrast_max_abs_grad_memory_selector"]) < 1e-6


def gradients_of_the_search(g):
    net, images = SmallNet(g).double(), tensor(g["images"])
    target = net(images).softmax(1).detach()
    start = float(g["vat_xi"]) * unit_noise(tensor(g["vat_uniform"]) - 0.5)
    distance = probability_dice(net(images + start), target, DICES["dhc"].between)
    return torch.autograd.grad(distance, (net.body.weight, net.out.weight))


def test_step(g, monkeypatch):
    method = make(g)
    given_draw(monkeypatch, g["vat_uniform"])
    batch = Batch(tensor(g["images"]), labels(g["step_labels"]))
    assert batch.n == int(g["n_labelled"])
    loss = loss_of(method, batch)
    loss.total.backward()
    close(loss.terms["supervised"], g["step_dice"], LOSS)
    close(loss.terms["vat"], g["step_vat"], LOSS)
    close(loss.terms["contrast"], g["step_contrast_labelled"] + g["step_contrast_unlabelled"], LOSS)
    close(loss.total, g["step_loss"], LOSS)
    # The official step leaves in its update what the search for the direction gave to the parameters.
    left = gradients_of_the_search(g)
    close(method.net.body.weight.grad + left[0], g["step_grad_body_weight"], rtol=1e-3, atol=1e-6)
    close(method.net.out.weight.grad + left[1], g["step_grad_out_weight"], rtol=1e-3, atol=1e-6)
    close(method.observations()["memory_sizes"], g["step_memory_sizes"], rtol=0)


def test_contrast_of_each_half(g):
    method = make(g)
    batch = Batch(tensor(g["images"]), labels(g["step_labels"]))
    n, (logits, features) = batch.n, method.net(batch.images, ("embedding",))
    predicted = logits.argmax(1)
    method._remember(features["embedding"][:n], predicted[:n], batch.labels)
    close(method._contrast(features["embedding"][:n], batch.labels), g["step_contrast_labelled"], LOSS)
    close(method._contrast(features["embedding"][n:], predicted[n:]), g["step_contrast_unlabelled"], LOSS)


def test_background_only(g, monkeypatch):
    method = make(g)
    given_draw(monkeypatch, g["vat_uniform"])
    batch = Batch(tensor(g["images"]), torch.zeros_like(labels(g["step_labels"])))
    loss = loss_of(method, batch)
    close(loss.terms["contrast"], g["bg_contrast_labelled"], rtol=0)
    close(loss.total, g["bg_loss"], LOSS)


def test_parameters(g):
    """Of the official network we leave out all selectors of the memory, and that of the background."""
    classes = 16
    with torch.device("meta"):
        build = partial(build_network, "vnet", channels=1, classes=classes, spatial_dims=3, filters=32)
        method = entry("ssnet").build({}, Task(classes, 1, 3, (1,) * classes), build)
    one = sum(p[0].numel() for p in method.selectors.parameters())
    total = sum(p.numel() for p in method.parameters()) + one * (classes + 1)
    assert total == int(g["net_n_params_16cls"])
