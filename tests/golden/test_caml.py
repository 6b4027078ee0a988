"""CAML against its code: whole steps through the method's own `step`, memory, correlations and schedules."""

from __future__ import annotations

import pytest
import torch

from golden_files import golden
from methods.test_conformance import make, make_batch
from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.sharpening import sharpen
from semiseg.methods.base import Task, entry
from semiseg.methods.caml.correlation import correlation_loss, correlations, surest
from semiseg.methods.caml.memory import ImageMemory
from semiseg.networks import build_network
from semiseg.networks.attentive import AttentiveNet, BatchAttention
from semiseg.networks.base import Tap
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-6}
CASES = pytest.mark.parametrize("case", ["a", "absent"])


@pytest.fixture(scope="module")
def g():
    return golden("caml")


class Embedded(StandIn):
    """Gives logits and four features that say nothing."""

    def __init__(self, logits) -> None:
        super().__init__(logits)
        self.taps = {"embedding": Tap(4, (1, 1, 1))}
        self.features = torch.randn(len(logits), 4, *logits.shape[2:])

    def forward(self, x, taps=(), *, dropout=None):
        return self.clean, {"embedding": self.features}


@CASES
@pytest.mark.parametrize("name", ["caml", "caml-official"])
def test_steps(g, case, name):
    nets = [Embedded(leaf(g[f"{case}_logits_{k}"], torch.float32)) for k in "va"]
    shape = nets[0].clean.shape
    draw, voxels = iter(nets), g[f"{case}_labels"].size
    method = entry(name).build(
        {"ramp": "none", "memory": voxels + 1}, Task(shape[1], 1, 3, (1,) * shape[1]), lambda **_: next(draw)
    )
    target = labels(g[f"{case}_labels"])[: shape[0] // 2]
    loss = loss_of(method, Batch(torch.ones(shape[0], 1, *shape[2:]), target))
    close(loss.terms["supervised"], g[f"{case}_loss_s"], **CLOSE)
    close(loss.terms["agreement"], g[f"{case}_loss_c"], **CLOSE)
    assert loss.weights["supervised"] == float(g["lamda"])
    assert loss.weights["correlation"] == 0.05
    assert loss.terms["correlation"].detach() == 0  # there are fewer right voxels than are drawn
    loss.total.backward()
    temperature = float(g["temperature_sharpen"])
    for net, k in zip(nets, "va", strict=True):
        close(sharpen(probabilities(net.clean), temperature), g[f"{case}_sharpened_{k}"], **CLOSE)
        close(net.clean.grad, g[f"{case}_grad_total_{k}"], rtol=1e-4, atol=1e-7)


def stored(g, case):
    """Features of every image that the memory has in the end, and their labels."""
    found = {}
    for step, images in enumerate(g[f"{case}_mem_sample_indices"].tolist()):
        for row, image in enumerate(images):
            found[image] = (g[f"{case}_mem_feat_s{step}_{row}"], g[f"{case}_mem_lab_s{step}_{row}"])
    return {image: (tensor(f, torch.float32), labels(y)) for image, (f, y) in found.items()}


@CASES
def test_memory(g, case):
    size, classes = int(g["memory_num"]), g[f"{case}_logits_v"].shape[1]
    memory = ImageMemory(
        int(g[f"{case}_mem_sample_indices"].max()) + 1, classes, size, g[f"{case}_mem_feat_s0_0"].shape[1]
    )
    for step, images in enumerate(g[f"{case}_mem_sample_indices"].tolist()):
        for row, image in enumerate(images):
            features = tensor(g[f"{case}_mem_feat_s{step}_{row}"], torch.float32)
            y = labels(g[f"{case}_mem_lab_s{step}_{row}"])
            masks = torch.stack([y == label for label in range(classes)]).unsqueeze(0)
            at, valid = memory.choose(masks)
            memory.replace([str(image)], features[at], valid, masks.sum(2))
    everything = stored(g, case)
    drawn = memory.draw()
    official = [tensor(g[f"{case}_memory_class{label}"], torch.float32) for label in range(classes)]
    assert len(drawn) == sum(map(len, official))
    for rows, label in [(official[0], 0), (official[1], 1), *zip(drawn.split(size), range(classes), strict=False)]:
        pool = torch.cat([f[y == label] for f, y in everything.values()])
        same = (rows.unsqueeze(1) == pool.unsqueeze(0)).all(2)
        assert same.any(1).all()
        assert (same.sum(0) <= 1).all()


@CASES
def test_correlations(g, case):
    memory = torch.cat([tensor(g[f"{case}_memory_class{label}"], torch.float32) for label in range(2)])
    rows = [leaf(g[f"{case}_pred_feat_{k}"], torch.float32) for k in "va"]
    best = surest(tensor(g[f"{case}_agree_prob"]), labels(g[f"{case}_agree_class"]), 2, int(g["num_filtered"]))
    found = [correlations(each[best], memory, float(g["temperature_corr"])) for each in rows]
    loss = correlation_loss(*found)
    loss.backward()
    close(loss, g[f"{case}_loss_o"], **CLOSE)
    for each, corr, k in zip(rows, found, "va", strict=True):
        close(corr, g[f"{case}_corr_{k}"], **CLOSE)
        close(each.grad, g[f"{case}_grad_o_{k}"], rtol=1e-3, atol=1e-6)


def test_a_class_with_one_row_is_left_out():
    found = surest(torch.tensor([0.6, 0.9, 0.7]), torch.tensor([0, 1, 0]), 3, 5)
    assert found.tolist() == [2, 0]


def test_memory_forgets_what_it_has_not_seen_longest_and_remembers_after_loading():
    first = ImageMemory(2, 2, 3, 4)
    for name in ("x", "y", "x", "z"):
        masks = torch.ones(1, 2, 5, dtype=torch.bool)
        at, valid = first.choose(masks)
        first.replace([name], torch.randn(5, 4)[at], valid, masks.sum(2))
    assert first.extra_state() == {"names": ["x", "z"], "turn": [0, 1]}
    second = ImageMemory(2, 2, 3, 4)
    second.load_state_dict(first.state_dict())
    second.load_extra_state(first.extra_state())
    torch.manual_seed(3)
    drawn = first.draw()
    torch.manual_seed(3)
    assert torch.equal(drawn, second.draw())


def test_memory_draws_images_by_how_many_voxels_they_have():
    memory = ImageMemory(2, 1, 4, 1)
    for name, count, value in (("many", 900, 1.0), ("few", 100, 0.0)):
        valid, counts = torch.ones(1, 1, 4, dtype=torch.bool), torch.tensor([[count]])
        memory.replace([name], torch.full((1, 1, 4, 1), value), valid, counts)
    torch.manual_seed(0)
    first = torch.cat([memory.draw()[:1] for _ in range(400)])
    assert 0.85 < first.mean() < 0.95


def test_schedules(g):
    official, default = (entry(name).configure({}) for name in ("caml-official", "caml"))
    for iteration, of_c, of_o in zip(g["iterations"].tolist(), g["lambda_c"], g["lambda_o"], strict=True):
        at = clock(step=iteration, steps=15_000)
        close(official.weight * official.ramp_up(at), of_c, **CLOSE)
        close(official.correlation_weight * official.weight * official.ramp_up(at), of_o, **CLOSE)
    assert default.ramp_up(clock(step=3000, steps=15_000)) == 1
    assert default.ramp_up(clock(step=2900, steps=15_000)) < 1


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["unet", "unet2d", "vnet"])
def test_patches_attend_to_each_other_in_training_alone(name, dims):
    if name == "unet2d" and dims == 3:
        pytest.skip("a network for slices")
    torch.manual_seed(0)
    net = build_network(
        name, network="attentive", channels=1, classes=2, spatial_dims=dims, upsampling="linear", attention_dropout=0.0
    )
    assert isinstance(net, AttentiveNet)
    attention = next(part for part in net.modules() if isinstance(part, BatchAttention))
    x = torch.randn(2, attention.inside.norm1.normalized_shape[0], *(3,) * dims)
    other = torch.cat([x[:1], x[1:] + 1])
    assert not torch.allclose(attention(x)[0], attention(other)[0])
    assert torch.equal(attention.eval()(x), x)


def test_weights_of_the_architecture_fit():
    every = {"channels": 1, "classes": 2, "spatial_dims": 2}
    plain, net = build_network("vnet", **every), build_network("vnet", network="attentive", **every)
    assert isinstance(net, AttentiveNet)
    net.load_state_dict(net.own_names(plain.state_dict()))
    net.load_state_dict(net.own_names(net.state_dict()))
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x), plain.eval()(x))


def test_parameters():
    """Those of the official pair of V-Nets."""
    torch.manual_seed(0)
    pair = [
        build_network("vnet", channels=1, classes=2, spatial_dims=3),
        build_network("vnet", channels=1, classes=2, spatial_dims=3, network="attentive", upsampling="linear"),
    ]
    heads = 2 * (16 * 32 + 32 + 64 + 32 * 32 + 32) + 2 * (32 * 32 + 32 + 64 + 32 * 32 + 32)
    assert sum(p.numel() for net in pair for p in net.parameters()) + heads == 20_128_836


def test_the_ramp_counts_steps_from_one():
    torch.manual_seed(0)
    method, batch = make("caml-official", 2, 2), make_batch(2, 2)
    before, after = (loss_of(method, batch, clock(step, 15_000)).weights["agreement"] for step in (148, 149))
    assert before < after
    assert after == method.config.ramp_up(clock(150, 15_000))
