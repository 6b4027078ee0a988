"""LeFeD against its official network, losses and inner loop."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import FORMS
from semiseg.methods.base import Task, entry
from semiseg.methods.lefed import lefed
from semiseg.methods.lefed.feedback import feature_difference
from semiseg.networks import build_network
from semiseg.networks.import_weights import load_state
from semiseg.networks.lefed import Decoded
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import learning_rate
from stand_ins import clock, close, labels, leaf, make_method, tensor

NETWORK = {"rtol": 1e-5, "atol": 1e-5}
SEQUENCE = {"rtol": 1e-6, "atol": 1e-6}
VARIANTS = {"code": "lefed-official", "paper": "lefed"}


@pytest.fixture(scope="module")
def g():
    return golden("lefed")


@pytest.fixture(scope="module")
def state(g):
    return {key.removeprefix("sd/"): torch.from_numpy(value) for key, value in g.items() if key.startswith("sd/")}


def network(g, state):
    net = build_network(
        "vnet",
        network="lefed",
        channels=g["net_input"].shape[1],
        classes=int(g["net_n_classes"]),
        spatial_dims=g["net_input"].ndim - 2,
        filters=int(g["net_n_filters"]),
    )
    load_state(net, net.own_names(state), "golden")
    return net.double().eval()


def scales(g):
    return range(1, len(g["ds_weights"]) + 1)


class Given(torch.nn.Module):
    """Two decoders that answer with given logits."""

    def __init__(self, a, b, sides):
        super().__init__()
        self.answer = Decoded(a, b, [a], [b], sides)

    def decode_both(self, x, feedback=(), *, sides_of=None):
        return self.answer._replace(sides=[side[:sides_of] for side in self.answer.sides])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", ["loss_", "loss_empty_", "loss_full_", "loss_oneempty_"])
def test_losses(g, case, variant):
    a, b = leaf(g["loss_logits_a"]), leaf(g["loss_logits_b"])
    sides = [leaf(g[f"loss_logits_side{k}"]) for k in scales(g)]
    n = int(g["loss_labeled_bs"])
    method = make_method(VARIANTS[variant], a.shape)
    method.net = Given(a, b, sides)
    batch = Batch(torch.zeros(len(a), 1, *a.shape[2:]), labels(g[case + "label"])[:n])
    steps = list(method.step(batch, clock()))
    assert len(steps) == method.config.passes
    loss = steps[-1]
    loss.total.backward()
    expected = {
        "supervised": "dice_a",
        "supervised_b": "dice_b" if variant == "code" else "ce_b",
        "deep": "ds",
        "consistency": "mse",
    }
    assert loss.terms.keys() == expected.keys()
    for term, key in expected.items():
        close(loss.terms[term], g[case + key], rtol=1e-8)
    close(loss.total, g[f"{case}total_{variant}"], rtol=1e-8)
    close(a.grad, g[f"{case}grad_{variant}_a"], rtol=1e-8, atol=1e-12)
    close(b.grad, g[f"{case}grad_{variant}_b"], rtol=1e-8, atol=1e-12)
    for k, side in enumerate(sides, 1):
        close(side.grad, g[f"{case}grad_side{k}"], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("case", ["loss_", "loss_empty_", "loss_full_", "loss_oneempty_"])
def test_deep_supervision_scale_by_scale(g, case, monkeypatch):
    a, n = tensor(g["loss_logits_a"]), int(g["loss_labeled_bs"])
    sides = [tensor(g[f"loss_logits_side{k}"]) for k in scales(g)]
    batch = Batch(torch.zeros(len(a), 1, *a.shape[2:]), labels(g[case + "label"])[:n])
    for k in scales(g):
        monkeypatch.setattr(lefed, "SIDE_WEIGHTS", tuple(float(other == k) for other in scales(g)))
        method = make_method("lefed", a.shape)
        method.net = Given(a, a, sides)
        close(next(method.step(batch, clock())).terms["deep"], g[f"{case}ds_scale{k}"], rtol=1e-8)


def test_constants(g):
    config = make_method("lefed", (1, 2, 8, 8)).config
    assert config.feedback == float(g["lambda"])
    assert config.passes == int(g["seq_inner"])
    assert FORMS["la"].smooth == float(g["dice_smooth"])
    np.testing.assert_allclose(lefed.SIDE_WEIGHTS, g["ds_weights"])


def test_one_pass(g, state):
    net = network(g, state)
    image = tensor(g["net_input"])
    with torch.no_grad():
        out = net.decode_both(image)
        close(net(image), out.logits_a, rtol=0)
    close(out.logits_a, g["net_t1_out_a"], **NETWORK)
    close(out.logits_b, g["net_t1_out_b"], **NETWORK)
    for k in scales(g):
        a, b = out.features_a[k - 1], out.features_b[k - 1]
        close(a, g[f"net_t1_feat_a{k}"], **NETWORK)
        close(b, g[f"net_t1_feat_b{k}"], **NETWORK)
        close(out.sides[k - 1], g[f"net_t1_side{k}"], **NETWORK)
        fed_back = float(g["lambda"]) * feature_difference(a, b, "b_minus_a")
        close(fed_back, g[f"net_t1_feedback{k}_code"], rtol=1e-5, atol=1e-8)


def passes(net, image, factor, encoding, count):
    outs, feedback = [], []
    with torch.no_grad():
        for _ in range(count):
            outs.append(net.decode_both(image, feedback))
            pairs = zip(outs[-1].features_a, outs[-1].features_b, strict=True)
            feedback = [factor * feature_difference(a, b, encoding) for a, b in pairs]
    return outs


def test_passes_with_feedback(g, state):
    net, image = network(g, state), tensor(g["net_input"])
    for t, out in enumerate(passes(net, image, float(g["lambda"]), "b_minus_a", 3), 1):
        close(out.logits_a, g[f"net_t{t}_out_a"], **NETWORK)
        close(out.logits_b, g[f"net_t{t}_out_b"], **NETWORK)
    strong = passes(net, image, 0.5, "b_minus_a", 2)[-1]
    close(strong.logits_a, g["net_t2_lambda0.5_out_a"], **NETWORK)
    close(strong.logits_b, g["net_t2_lambda0.5_out_b"], **NETWORK)
    opposite = passes(net, image, 0.5, "a_minus_b", 2)[-1]
    close(opposite.logits_a, g["net_t2_lambda0.5_AminusB_out_a"], **NETWORK)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training(g, state, variant):
    images = tensor(g["seq_images"])
    task = Task(int(g["net_n_classes"]), images.shape[2], images.ndim - 3, (1, 1))
    build = partial(
        build_network,
        "vnet",
        channels=task.channels,
        classes=task.classes,
        spatial_dims=task.spatial_dims,
        filters=int(g["net_n_filters"]),
    )
    options = {"encoder_dropout": 0, "decoder_dropout": 0, "passes": int(g["seq_inner"])}
    method = entry(VARIANTS[variant]).build(options, task, build).double().train()
    load_state(method.net, method.net.own_names(state), "golden")
    optimiser = torch.optim.SGD(
        method.groups()["main"],
        lr=float(g["seq_lr"]),
        momentum=float(g["seq_momentum"]),
        weight_decay=float(g["seq_weight_decay"]),
    )
    log = []
    for step, image in enumerate(images):
        batch = Batch(image, labels(g["seq_labels"][step])[: int(g["seq_labeled_bs"])])
        for loss in method.step(batch, clock(step)):
            terms = [loss.terms[name] for name in ("supervised", "supervised_b", "deep", "consistency")]
            log.append(torch.stack([*terms, loss.total]).detach())
            optimiser.zero_grad()
            loss.total.backward()
            optimiser.step()
    close(torch.stack(log), g[f"seq_{variant}_log"], **SEQUENCE)
    prefix = f"seq_{variant}_final/"
    finals = {key.removeprefix(prefix): value for key, value in g.items() if key.startswith(prefix)}
    full = method.net.own_names({**state, **{key: torch.from_numpy(value) for key, value in finals.items()}})
    before, own = method.net.own_names(state), method.net.state_dict()
    changed = [name for name, value in full.items() if not torch.equal(value.double(), before[name].double())]
    assert len(changed) == len(finals) > 0
    for name in changed:
        close(own[name], full[name], **SEQUENCE)
    with torch.no_grad():
        out = method.eval().net.decode_both(tensor(g["net_input"]))
    close(out.logits_a, g[f"seq_{variant}_final_out_a"], **NETWORK)
    close(out.logits_b, g[f"seq_{variant}_final_out_b"], **NETWORK)


def test_learning_rate(g):
    config = OptimiserConfig(name="sgd", lr=float(g["seq_lr"]), schedule="step", every=2500, factor=0.1)
    for index, expected in zip(g["lr_batch_index"].tolist(), g["lr_value"], strict=True):
        close(learning_rate(config, index, 15_000), expected, rtol=1e-12)
