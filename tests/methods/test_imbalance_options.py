"""Options of the methods for unbalanced classes, on networks that answer with given logits or are tiny."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from semiseg.batches.batch import Batch
from semiseg.errors import InputError
from semiseg.ingredients import class_sampling
from semiseg.ingredients.class_weights import CountedWeights, EqualWeights, reversed_shares
from semiseg.ingredients.losses import cross_entropy, cross_pseudo_loss, dice_ce, kept_cross_entropy
from semiseg.ingredients.pseudo_labels import confident_labels, hard_labels
from semiseg.methods.base import Clock, Task, Tiles, entry
from semiseg.networks import build_network
from stand_ins import StandIn, clock, loss_of, make_method

SHAPE = (4, 4, 8, 8)


def logits(seed):
    return 2 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def batch():
    labels = torch.randint(4, (2, 8, 8), generator=torch.Generator().manual_seed(9))
    return Batch(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(8)), labels)


def pair(name, counts=(50, 20, 10, 5), **options):
    method = make_method(name, SHAPE, counts, ramp="none", **options)
    method.nets[0], method.nets[1] = StandIn(logits(0)), StandIn(logits(1))
    return method


def build_tiny(**overrides):
    options = {"channels": 1, "classes": 3, "spatial_dims": 2, "filters": (4, 8), "strides": ((1, 1), (2, 2))}
    return build_network("unet", **options, **overrides)


def test_adsh_may_leave_voxels_out_of_the_loss(batch):
    method = pair("adsh", use="loss", update="epoch")
    limits = [torch.tensor([0.5, 0.7, 0.4, 0.6]), torch.tensor([0.3, 0.6, 0.8, 0.5])]
    for thresholds, limit in zip(method.thresholds, limits, strict=True):
        thresholds.value.copy_(limit)
    parts = []
    for own, other, limit in ((logits(0), logits(1), limits[1]), (logits(1), logits(0), limits[0])):
        confidence, labels = confident_labels(other)
        kept = confidence > limit[labels]
        assert 0 < kept.sum() < kept.numel()
        parts.append(kept_cross_entropy(own, labels, kept))
    torch.testing.assert_close(loss_of(method, batch).terms["cross"], parts[0] + parts[1])


def test_adsh_masks_nothing_before_the_first_thresholds(batch):
    loss = loss_of(pair("adsh"), batch)
    a, b = logits(0), logits(1)
    torch.testing.assert_close(loss.terms["cross"], cross_entropy(a, hard_labels(b)) + cross_entropy(b, hard_labels(a)))


def test_adsh_measures_its_bank_by_the_unlabelled_cases():
    method = entry("adsh").build({}, Task(3, 1, 2, (5, 5, 5), unlabelled=105), build_tiny)
    assert [thresholds.capacity for thresholds in method.thresholds] == [26, 26]
    assert entry("adsh").build({"capacity": 7}, Task(3, 1, 2, (5, 5, 5)), build_tiny).thresholds[0].capacity == 7


def test_adsh_as_printed_refreshes_every_epoch_and_the_other_never():
    task = Task(3, 1, 2, (5, 5, 5))
    assert [entry(name).build({}, task, build_tiny).refresh_at() for name in ("adsh", "adsh-paper")] == [
        "never",
        "epoch",
    ]


def test_cld_without_sampling_and_weights_is_cross_supervision(batch):
    method = pair("cld", rate_exponent=0)
    method.class_weights = EqualWeights(4)
    loss = loss_of(method, batch)
    a, b = logits(0), logits(1)
    torch.testing.assert_close(loss.terms["cross"], cross_pseudo_loss((a, b), (hard_labels(a), hard_labels(b))))
    supervised = [dice_ce(z[:2], batch.labels, "dhc") for z in (a, b)]
    torch.testing.assert_close(loss.terms["supervised"], supervised[0] + supervised[1])


def test_cld_samples_by_the_networks_own_prediction(batch, monkeypatch):
    method = pair("cld", update_iter=100)
    method.class_weights = EqualWeights(4)
    method.confidence[0].value.copy_(torch.tensor([0.1, 0.9, 0.1, 0.1]))
    method.confidence[1].value.copy_(torch.tensor([0.9, 0.1, 0.9, 0.1]))
    monkeypatch.setattr(class_sampling, "draw", lambda labels: torch.full(labels.shape, 0.5))
    loss, parts = loss_of(method, batch), []
    for own, other, rate in ((logits(0), logits(1), "rate_a"), (logits(1), logits(0), "rate_b")):
        kept = method.observations()[rate][hard_labels(own)] > 0.5
        assert 0 < kept.sum() < kept.numel()
        parts.append(kept_cross_entropy(own, hard_labels(other), kept))
    torch.testing.assert_close(loss.terms["cross"], parts[0] + parts[1])


def basak(**options):
    method = make_method("basak", SHAPE, ramp="none", **options)
    method.student, method.teacher.net = StandIn(logits(0)), StandIn(logits(1)[2:])
    return method


def test_basak_without_weighting_is_cross_entropy_with_the_teachers_labels(batch):
    loss = loss_of(basak(rate_exponent=0, confidence_exponent=0), batch)
    expected = cross_entropy(logits(0)[2:], hard_labels(logits(1)[2:]))
    torch.testing.assert_close(loss.terms["unsupervised"], expected)


def test_basak_renews_its_rates_once_per_pass_over_the_unlabelled_cases(batch):
    method = basak()
    method.cases = 5  # three steps with two unlabelled patches each
    changed = []
    for step in range(7):
        before = method.performance.value.clone()
        loss_of(method, batch, clock(step))
        changed.append(not torch.equal(before, method.performance.value))
    assert changed == [False, False, True, False, False, True, False]


@pytest.mark.parametrize(("counts", "share"), [("epochs", 0.5), ("steps", 0.9)])
def test_what_the_warm_up_of_basaks_teacher_counts(batch, counts, share):
    method = basak(counts=counts, decay=0.9)
    method.teacher.net.dummy.data.fill_(0.0)
    method.student.dummy.data.fill_(1.0)
    list(method.step(batch, Clock(50, 100, 1, 2)))
    torch.testing.assert_close(method.teacher.net.dummy.data, torch.tensor([1 - share]))


def test_crest_in_generations_has_no_class_weights_and_stages_of_equal_length():
    method = pair("crest-generations", generations=4)
    assert [type(weights) for weights in method.class_weights] == [EqualWeights] * 2
    assert [(stage.share, stage.start) for stage in method.stages()] == [(0.25, "anew")] * 4
    on_line = pair("crest")
    assert [type(weights) for weights in on_line.class_weights] == [CountedWeights] * 2
    assert (len(on_line.stages()), on_line.refresh_at()) == (1, "never")


def test_a_generation_learns_from_the_surest_voxels_of_the_last_one():
    torch.manual_seed(0)
    voxels = (900, 90, 9)
    options = {"generations": 2, "ramp": "none"}
    method = entry("crest-generations").build(options, Task(3, 1, 2, voxels), build_tiny).train()
    images = torch.randn(4, 1, 16, 16)
    batch = Batch(images, torch.randint(3, (2, 16, 16)))
    first, second = (partial(Clock, 5, 10, 0, 1)(stage.name) for stage in method.stages())
    assert "pseudo" not in loss_of(method, batch, first).terms
    old = [torch.cat([p.flatten() for p in net.parameters()]).detach().clone() for net in method.nets]
    method.eval().refresh([Tiles(images[2:], torch.ones(2, 16, 16, dtype=torch.bool))], second)
    method.train()
    new = [torch.cat([p.flatten() for p in net.parameters()]).detach() for net in method.nets]
    assert [torch.equal(a, b) for a, b in zip(old, new, strict=True)] == [False] * 2
    kept = [torch.cat([p.flatten() for p in net.parameters()]) for net in method.labeller.nets]
    assert all(torch.equal(a, b) for a, b in zip(old, kept, strict=True))
    labels, keep = method.labeller(batch.unlabelled)
    shares = reversed_shares(torch.tensor(voxels, dtype=torch.float32))
    for c in labels.unique().tolist():
        assert float(keep[labels == c].float().mean()) == pytest.approx(float(shares[c]), abs=0.05)
    loss = loss_of(method, batch, second)
    parts = [cross_entropy(net(images)[2:].movedim(1, -1)[keep], labels[keep]) for net in method.nets]
    torch.testing.assert_close(loss.terms["pseudo"], parts[0] + parts[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss.total, sum(loss.weights.get(name, 1) * term for name, term in loss.terms.items()))


def test_a_refresh_of_the_first_generation_does_nothing():
    method = pair("crest-generations")
    method.refresh(iter(()), Clock(0, 10, 0, 1, method.stages()[0].name))
    assert torch.equal(method.labeller.threshold, torch.ones(4))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("crest-generations", {"generations": 1}),
        ("adsh", {"capacity": 1}),
        ("cld", {"update_iter": 0}),
        ("simis", {"momentum": 1}),
    ],
)
def test_values_out_of_bounds_are_refused(name, wrong):
    with pytest.raises(InputError, match=f"options of {name}"):
        make_method(name, SHAPE, **wrong)
