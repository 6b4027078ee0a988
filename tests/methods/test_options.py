"""Options of the smaller methods, on networks that answer with given logits."""

from __future__ import annotations

import pytest
import torch

from semiseg.batches.batch import Batch
from semiseg.errors import InputError
from semiseg.ingredients.class_weights import DiffDW, DistDW, EqualWeights
from semiseg.ingredients.consistency import probability_mse
from semiseg.ingredients.losses import cross_entropy, cross_pseudo_loss, dice_ce
from semiseg.ingredients.pseudo_labels import hard_labels
from stand_ins import StandIn, clock, loss_of, make_method

SHAPE = (3, 4, 8, 8)


def logits(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def batch():
    labels = torch.randint(4, (1, 8, 8), generator=torch.Generator().manual_seed(9))
    return Batch(torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(8)), labels)


def cps(**options):
    method = make_method("cps", SHAPE, **options)
    method.nets[0], method.nets[1] = StandIn(logits(0)), StandIn(logits(1))
    return method


def test_cps_original_form(batch):
    loss = loss_of(cps(loss="ce", cross_on="all", weight=1.5, ramp="none"), batch)
    a, b = logits(0), logits(1)
    supervised = cross_entropy(a[:1], batch.labels) + cross_entropy(b[:1], batch.labels)
    cross = cross_pseudo_loss((a, b), (hard_labels(a), hard_labels(b)))
    torch.testing.assert_close(loss.total, supervised + 1.5 * cross)


def test_cps_networks_for_prediction(batch):
    a, b = logits(0), logits(1)
    expected = {"a": a, "b": b, "both": (a + b) / 2}
    for choice, mean in expected.items():
        torch.testing.assert_close(cps(predict_with=choice).predict(batch.images), mean.softmax(1))


@pytest.mark.parametrize(
    ("kinds", "classes"), [(("dist", "dist"), (DistDW, DistDW)), (("diff", "none"), (DiffDW, EqualWeights))]
)
def test_dhc_families_of_weights(batch, kinds, classes):
    method = make_method("dhc", SHAPE, (50, 20, 10, 5), weights_a=kinds[0], weights_b=kinds[1])
    assert tuple(type(weights) for weights in method.class_weights) == classes
    method.nets[0], method.nets[1] = StandIn(logits(0)), StandIn(logits(1))
    found = loss_of(method, batch).terms["supervised"]
    weights = list(method.observations().values())
    parts = [dice_ce(logits(k)[:1], batch.labels, "dhc", weights[k]) for k in (0, 1)]
    torch.testing.assert_close(found, parts[0] + parts[1])


def test_dhc_strict_is_undefined_where_the_official_code_is(batch):
    method = make_method("dhc", SHAPE, (7, 7, 7, 7), strict=True)
    method.nets[0], method.nets[1] = StandIn(logits(0)), StandIn(logits(1))
    assert loss_of(method, batch).total.isnan()


def mean_teacher(teacher_logits, **options):
    method = make_method("mean_teacher", SHAPE, **options)
    method.student, method.teacher.net = StandIn(logits(0)), StandIn(teacher_logits)
    return method


def test_only_the_teacher_sees_noise(batch):
    method = mean_teacher(logits(1)[1:])
    loss = loss_of(method, batch)
    torch.testing.assert_close(loss.terms["consistency"], probability_mse(logits(0)[1:], logits(1)[1:]))
    assert torch.equal(method.student.seen[0], batch.images)
    assert not torch.equal(method.teacher.net.seen[0], batch.unlabelled)


def test_mean_teacher_waits_for_its_first_step(batch):
    method = mean_teacher(logits(1)[1:], consistency_start=5)
    assert loss_of(method, batch, clock(step=4)).terms["consistency"] == 0
    assert not method.teacher.net.seen
    assert loss_of(method, batch, clock(step=5)).terms["consistency"] > 0


def test_mean_teacher_network_for_prediction(batch):
    for choice, expected in (("student", logits(0)), ("teacher", logits(1))):
        method = mean_teacher(logits(1), predict_with=choice)
        torch.testing.assert_close(method.predict(batch.images), expected.softmax(1))


def test_supervised_sees_labelled_patches_only(batch):
    method = make_method("supervised", SHAPE, loss="dhc")
    method.net = StandIn(logits(0)[:1])
    loss_of(method, batch)
    assert torch.equal(method.net.seen[0], batch.labelled)


@pytest.mark.parametrize("wrong", [{"weight": -1}, {"decay": 1.0}, {"noise": -0.1}, {"loss": "dice"}, {"wieght": 1}])
def test_values_out_of_bounds_are_refused(wrong):
    with pytest.raises(InputError, match="options of mean_teacher"):
        make_method("mean_teacher", SHAPE, **wrong)
