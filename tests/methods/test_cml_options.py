"""Every option of CML does what it says, and nothing costs a pass that it does not need."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from semiseg.batches.batch import Batch
from semiseg.errors import InputError
from semiseg.ingredients.ramps import sigmoid_ramp
from semiseg.ingredients.sample_losses import sample_dice_ce
from semiseg.methods.base import Clock, Task, entry
from semiseg.methods.cml import cml, cutmix
from semiseg.methods.cml.cutmix import PseudoLabels, view_of
from semiseg.networks import build_network
from semiseg.training.stages import spans

CLASSES = 3
SELF = Clock(50, 100, 0, 10, "selftraining")
BEFORE = Clock(3, 100, 0, 10, "pretraining")


def make(network="unet", dropout=0.2, method="cml-official", one_piece=(), **options):
    torch.manual_seed(0)
    widths = {"filters": 2} if network == "vnet" else {"filters": (4, 6, 8)}
    norm = {"normalisation": "batch"} if network == "unet" else {}
    build = partial(
        build_network, network, channels=1, classes=CLASSES, spatial_dims=2, dropout=dropout, **widths, **norm
    )
    task = Task(CLASSES, 1, 2, (100, 30, 10), one_piece=one_piece)
    return entry(method).build({"pretraining": 0.12, **options}, task, build).train()


def batch(labelled=2, unlabelled=4, side=16):
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(CLASSES, (labelled + unlabelled, side, side), generator=generator)
    images = labels.unsqueeze(1) + torch.rand(*labels.shape, generator=generator).unsqueeze(1)
    return Batch(images, labels[:labelled])


def step(method, clock=SELF, given=None):
    torch.manual_seed(7)
    loss = next(method.step(given or batch(), clock))
    loss.total.backward()
    return loss


class Passes:
    """Batch sizes of forward passes, and whether they have a gradient."""

    def __init__(self, net):
        self.found = []
        net.register_forward_pre_hook(lambda net, inputs: self.found.append((len(inputs[0]), torch.is_grad_enabled())))


LABELLED, HELD, MIXED = (1, True), (4, False), (2, True)


@pytest.mark.parametrize(
    ("options", "clock", "passes"),
    [
        ({}, SELF, [LABELLED, HELD, MIXED]),
        ({}, BEFORE, [LABELLED]),
        ({"cutmix": False}, SELF, [(2, True), (4, True)]),
        ({"cutmix": False}, BEFORE, [(2, True)]),
        ({"unlabelled_weight": 0}, SELF, [LABELLED, MIXED]),
        ({"unlabelled_weight": 0, "cutmix": False}, SELF, [(2, True), (4, True)]),
        ({"unlabelled_weight": 0, "discrepancy_weight": 0}, SELF, [LABELLED]),
        ({"discrepancy_weight": 0}, SELF, [LABELLED, HELD, MIXED]),
        ({"shared_subnets": True}, SELF, [LABELLED] * 2 + [HELD] * 2 + [MIXED] * 2),
    ],
)
def test_each_part_costs_only_its_own_passes(options, clock, passes):
    method = make(**options)
    seen = [Passes(net) for net in method.subnets]
    loss = step(method, clock)
    assert [each.found for each in seen] == [passes] * len(seen)
    assert ("unlabelled" in loss.terms) == (clock is SELF and options.get("unlabelled_weight") != 0)
    assert all(p.grad is not None for p in method.parameters())


def test_cross_pseudo_supervision():
    method = make(dropout=0.0, cutmix=False, discrepancy_weight=0.0, largest_component=False)
    given = batch()
    loss = step(method, given=given)
    # Batch statistics: the same images give the same logits again.
    a, b = (net(given.unlabelled) for net in method.subnets)
    expected = sample_dice_ce(a, b.argmax(1)) + sample_dice_ce(b, a.argmax(1))
    torch.testing.assert_close(loss.terms["unlabelled"], expected)
    assert loss.weights["discrepancy"] == 0


CHANGES = [
    ("unlabelled", {"targets": "other"}),
    ("unlabelled", {"largest_component": False}),
    ("unlabelled", {"loss": "ssl4mis"}),
    ("supervised", {"loss": "la"}),
    ("supervised", {"mix_ratio": 0.3}),
    ("supervised", {"cutmix": False}),
    ("supervised", {"upsampling_a": "nearest"}),
    ("supervised", {"upsampling_b": "transposed"}),
    ("supervised", {"pairs": "all"}),
]


@pytest.mark.parametrize(("term", "options"), CHANGES, ids=[f"{t}-{o}" for t, o in CHANGES])
def test_options_change_their_term(term, options):
    first, second = step(make(dropout=0.0)), step(make(dropout=0.0, **options))
    assert first.terms[term].item() != second.terms[term].item()


def test_weights_are_those_of_the_options():
    weights = step(make(labelled_weight=2.0, unlabelled_weight=0.5, discrepancy_weight=0.1)).weights
    assert weights == {"supervised": 2.0, "unlabelled": 0.5, "discrepancy": 0.1}


@pytest.mark.parametrize("network", ["unet", "unet2d", "vnet"])
def test_subnets_differ_in_their_way_up(network):
    method = make(network)
    transposed = [any(isinstance(part, nn.ConvTranspose2d) for part in net.modules()) for net in method.subnets]
    assert transposed == [True, False]
    assert all(torch.isfinite(term) for term in step(method, given=batch(side=32)).terms.values())


def test_shared_subnets_are_one_network_with_two_draws_of_dropout():
    method = make(shared_subnets=True, cutmix=False)
    assert len(method.subnets) == 1
    a, b = view_of([*method.subnets] * 2, batch().labelled).features
    assert not torch.equal(a, b)
    method.eval()
    a, b = view_of([*method.subnets] * 2, batch().labelled).features
    assert torch.equal(a, b)


def test_prediction():
    images = batch().images
    a, b = (net.eval()(images) for net in make().subnets)

    def predicted(**options):
        return make(**options).eval().predict(images)

    torch.testing.assert_close(predicted(), ((a + b) / 2).softmax(1))
    torch.testing.assert_close(predicted(average="probabilities"), (a.softmax(1) + b.softmax(1)) / 2)
    torch.testing.assert_close(predicted(predict_with="a"), a.softmax(1))
    torch.testing.assert_close(predicted(predict_with="b"), b.softmax(1))


@pytest.mark.parametrize("clock", [SELF, BEFORE])
def test_by_default_every_patch_is_learnt_from_in_both_mixtures(clock):
    method = make(method="cml")
    seen = [Passes(net) for net in method.subnets]
    step(method, clock)
    passes = [(2, True)] if clock is BEFORE else [(2, True), (4, False), (4, True)]
    assert [each.found for each in seen] == [passes] * 2


def test_by_default_weights_of_pseudo_labels_and_discrepancy_rise():
    early, late = (step(make(method="cml"), Clock(number, 100, 0, 10, "selftraining")).weights for number in (50, 99))
    for name, full in (("unlabelled", 1.0), ("discrepancy", 0.2)):
        assert early[name] == pytest.approx(full * sigmoid_ramp(0.5, 1))
        assert early[name] < late[name] <= full
    assert early["supervised"] == late["supervised"] == 1


@pytest.mark.parametrize(
    ("steps", "pretraining"), [(400, 200), (1000, 500), (5000, 2000), (17_000, 2040), (40_000, 4800)]
)
def test_by_default_pretraining_has_steps_enough_but_never_more_than_half(steps, pretraining):
    entered = entry("cml").build(
        {}, Task(2, 1, 2, (1, 1)), partial(build_network, "unet", channels=1, classes=2, spatial_dims=2)
    )
    first, second = spans(entered.stages(), steps)
    assert (first.end, second.end) == (pretraining, steps)
    given = make(method="cml", pretraining=0.25)
    assert spans(given.stages(), 400)[0].end == 100


def test_only_classes_that_are_one_piece_lose_their_other_components():
    labels = torch.zeros(1, 16, 16, dtype=torch.long)
    for label, row in ((1, 2), (2, 9)):
        labels[0, row : row + 3, 1:6] = label
        labels[0, row, 10:12] = label
    logits = torch.nn.functional.one_hot(labels, CLASSES).movedim(-1, 1).float()
    method = make(method="cml", one_piece=(True, True, False))
    kept, _ = PseudoLabels([logits, logits], method.mixing.filtered).both()
    assert not (kept[0, 2, 10:12] == 1).any()
    assert (kept[0, 9, 10:12] == 2).all()
    untouched = make(method="cml", one_piece=(True, False, False)).mixing.filtered
    assert torch.equal(PseudoLabels([logits, logits], untouched).both()[0], labels)


def test_without_mixed_images_labels_are_the_plain_ones_of_the_other_subnet():
    assert not make(method="cml-cfl").mixing.filtered
    assert not entry("cml-cfl").configure({}).cutmix


def test_one_network_for_both_views_needs_dropout():
    with pytest.raises(InputError, match=r"network\.options\.dropout"):
        make(dropout=0.0, shared_subnets=True)
    make("unet2d", shared_subnets=True)


def test_stages_follow_the_options():
    stages = make(pretraining=0.25, hand_over="last").stages()
    assert [(s.name, s.share, s.schedule, s.start) for s in stages] == [
        ("pretraining", 0.25, "constant", "last"),
        ("selftraining", 0.75, "stage", "last"),
    ]


def test_labels_come_from_the_other_subnet_outside_and_from_oneself_inside(monkeypatch):
    """With subnets that predict one class each, the targets show who taught what."""
    outside = torch.zeros(16, 16, dtype=torch.bool)
    outside[:, :8] = True
    monkeypatch.setattr(cutmix, "draw_outside_box", lambda images, ratio: outside)
    seen = []
    monkeypatch.setattr(cml, "sample_dice_ce", lambda z, y, form: seen.append(y) or z.sum())
    for targets, inside in (("heterogeneous", (1, 2)), ("other", (2, 1))):
        method = make(targets=targets, largest_component=False)
        for own, net in enumerate(method.subnets, 1):
            nn.init.zeros_(net.head.weight)
            net.head.bias.data = torch.eye(CLASSES)[own]
        seen.clear()
        step(method)
        for target, other, within in zip(seen[2:], (2, 1), inside, strict=True):
            assert torch.equal(target, torch.where(outside, other, within).expand_as(target))


def test_half_precision_gives_every_weight_its_gradient():
    method = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = next(method.step(batch(), SELF)).total
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for key, p in method.named_parameters() if key.endswith("weight"))
