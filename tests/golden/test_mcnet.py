"""MC-Net and MC-Net+ against the official functions, and whole steps through the method's own `step`."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import cross_entropy
from semiseg.ingredients.sharpening import sharpen
from semiseg.networks import build_network
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-5, "atol": 1e-8}
UNITS = {"rtol": 1e-4, "atol": 1e-6}
CASES = ["v1_3d", "v2_3d", "v2_3d_all_background", "v2_2d", "v1_2d_class_absent"]
KINDS = ("transposed", "linear", "nearest")
"""Types 0, 1, 2 of the file."""


@pytest.fixture(scope="module")
def g():
    return golden("mcnet")


class Decoders(StandIn):
    """Gives the logits of all decoders."""

    def __init__(self, logits):
        super().__init__(logits[0])
        self.logits = logits

    def decode(self, images):
        return [*self.logits]


def method_of(g, case):
    flat = "2d" in case
    name = "mcnet" if case.startswith("v1") else "mcnet_plus"
    options = {
        "ramp": "units150",
        "ramp_length": float(g[f"{case}/consistency_rampup"]),
        "weight": float(g[f"{case}/consistency"]),
        "temperature": float(g[f"{case}/temperature"]),
        # Half of a Dice, plus a half, is what the official 2D script calls Dice.
        "labelled_weight": float(g[f"{case}/lamda"]) / (2 if flat else 1),
        "dice": "all" if flat else "foreground",
    }
    return make_method(name, g[f"{case}/logits"].shape[1:], **options)


@pytest.mark.parametrize("case", CASES)
def test_steps(g, case):
    logits, n = leaf(g[f"{case}/logits"], torch.float32), int(g[f"{case}/labeled_bs"])
    method, flat = method_of(g, case), "2d" in case
    assert len(method.config.upsampling) == len(logits)
    method.net = Decoders(logits)
    batch = Batch(torch.ones(logits.shape[1], 1, *logits.shape[3:]), labels(g[f"{case}/labels"])[:n])
    loss = loss_of(method, batch, clock(step=int(g[f"{case}/iter_num_after_increment"]) - 1))
    loss.total.backward()
    halves = float(g[f"{case}/lamda"]) * len(logits) / 2 if flat else 0.0
    supervised = loss.terms["supervised"]
    close((supervised + len(logits)) / 2 if flat else supervised, g[f"{case}/loss_seg_dice"], **CLOSE)
    close(loss.terms["consistency"], g[f"{case}/loss_consist"], **CLOSE)
    close(loss.weights["consistency"], g[f"{case}/weight"], **CLOSE)
    close(loss.total + halves, g[f"{case}/loss"], **CLOSE)
    close(logits.grad, g[f"{case}/grad_logits"], rtol=1e-4, atol=1e-7)
    entropies = [cross_entropy(z[:n], batch.labels) for z in logits]
    close(torch.stack(entropies).sum(), g[f"{case}/loss_seg_ce_logged"], **CLOSE)


def test_weights(g):
    for case, key in (("v2_3d", "weight_3d"), ("v2_2d", "weight_2d")):
        config = method_of(g, case).config
        for i, expected in zip(g["weight_iter_after_increment"].tolist(), g[key], strict=True):
            close(config.weight * config.ramp_up(clock(step=i)), expected, rtol=1e-9)


@pytest.mark.parametrize("temperature", ["0.1", "0.5", "1.0"])
def test_sharpening(g, temperature):
    p = leaf(g["sharp_p"])
    sharp = sharpen(p, float(temperature))
    sharp.sum().backward()
    close(sharp, g[f"sharp_T{temperature}"], rtol=1e-9, atol=1e-12)
    close(p.grad, g[f"sharp_T{temperature}_dsdp"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("network", "dims", "options", "kinds", "key"),
    [
        ("vnet", 3, {}, ("transposed", "linear"), "n_params_mcnet3d_v1"),
        ("vnet", 3, {}, ("transposed", "linear", "nearest"), "n_params_mcnet3d_v2"),
        ("unet2d", 2, {}, ("linear", "transposed"), "n_params_mcnet2d_v1"),
        ("unet2d", 2, {}, ("linear", "transposed", "nearest"), "n_params_mcnet2d_v2"),
    ],
)
def test_sizes(g, network, dims, options, kinds, key):
    build = partial(build_network, network, channels=1, classes=2 if dims == 3 else 4, spatial_dims=dims, **options)
    count = sum(p.numel() for p in build(network="branches", upsamplings=kinds).parameters())
    assert count == int(g[key])
    plain = sum(p.numel() for p in build(upsampling=kinds[0]).parameters())
    assert plain == int(g["n_params_vnet" if dims == 3 else "n_params_unet"])


def part(g, prefix):
    return {key.removeprefix(prefix): tensor(g[key], torch.float32) for key in g if key.startswith(prefix)}


@pytest.mark.parametrize(("number", "kind"), [*enumerate(KINDS)])
def test_up_units_of_the_vnet(g, number, kind):
    state, first = part(g, f"up3d/type{number}/"), 0 if number == 0 else 1
    x, expected = tensor(g["up3d/x"], torch.float32), state.pop("y")
    channels = state[f"conv.{first}.bias"].shape[0]
    net = build_network(
        "vnet", channels=1, classes=2, spatial_dims=3, filters=channels, normalisation="batch", upsampling=kind
    )
    unit = net.up[-1].eval()
    unit.conv.load_state_dict({name: state[f"conv.{first}.{name}"] for name in ("weight", "bias")})
    own = {name: state.get(f"conv.{first + 1}.{name}", value) for name, value in unit.norm.state_dict().items()}
    unit.norm.load_state_dict(own)
    close(unit(x), expected, **UNITS)


@pytest.mark.parametrize(("number", "kind"), [*enumerate(KINDS)])
def test_up_blocks_of_the_unet(g, number, kind):
    state = part(g, f"up2d/type{number}/")
    x, skip, expected = tensor(g["up2d/x"], torch.float32), tensor(g["up2d/skip"], torch.float32), state.pop("y")
    coarse, fine = x.shape[1], skip.shape[1]
    net = build_network(
        "unet2d", channels=1, classes=2, spatial_dims=2, filters=(fine, coarse), dropout=0.0, upsampling=kind
    ).eval()
    up, block = net.up[-1], net.decoder[-1]
    enlarge = up if kind == "transposed" else up[0]
    name = "up" if kind == "transposed" else "conv1x1"
    enlarge.load_state_dict({each: state[f"{name}.{each}"] for each in ("weight", "bias")})
    for unit, first in zip(block.units, (0, 4), strict=True):
        unit.conv.load_state_dict({each: state[f"conv.conv_conv.{first}.{each}"] for each in ("weight", "bias")})
        prefix = f"conv.conv_conv.{first + 1}."
        unit.norm.load_state_dict({each: state.get(prefix + each, v) for each, v in unit.norm.state_dict().items()})
    close(block(torch.cat([skip, up(x)], 1), False), expected, **UNITS)
