"""LeFeD's options: each row of the paper's ablations does what it says."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from semiseg.batches.batch import Batch
from semiseg.ingredients.consistency import probability_mse
from semiseg.ingredients.losses import FORMS, cross_entropy, soft_dice
from semiseg.methods.base import Method, Task, entry
from semiseg.methods.lefed import lefed
from semiseg.methods.lefed.feedback import feature_difference
from semiseg.networks import build_network
from semiseg.runs.build import precision_of
from semiseg.runs.device import tell_of_precision
from semiseg.runs.precision import autocast
from semiseg.settings.run import RunConfig
from stand_ins import clock

OFF = {"encoder_dropout": 0.0, "decoder_dropout": 0.0}


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(3, (2, 16, 16), generator=generator)
    return Batch(torch.randn(4, 1, 16, 16, generator=generator), labels)


def make(name: str = "lefed", **options: object) -> Method:
    torch.manual_seed(0)
    build = partial(build_network, "unet", channels=1, classes=3, spatial_dims=2, filters=(4, 8, 8))
    return entry(name).build({**OFF, **options}, Task(3, 1, 2, (5, 5, 5)), build).train()


def spy(method: Method, batch: Batch) -> tuple[list, list, list]:
    """Losses, feedback given and answers of each presentation."""
    real, given, answers = method.net.decode_both, [], []

    def recorded(x, feedback=(), **options):
        given.append(list(feedback))
        answers.append(real(x, feedback, **options))
        return answers[-1]

    method.net.decode_both = recorded
    return list(method.step(batch, clock())), given, answers


@pytest.mark.parametrize("encoding", ["a_minus_b", "b_minus_a", "absolute", "entropy"])
@pytest.mark.parametrize("scales", [None, 0, 1, 2])
def test_feedback_is_the_discrepancy_of_the_pass_before(batch, encoding, scales):
    method = make(encoding=encoding, scales=scales, feedback=0.1)
    losses, given, answers = spy(method, batch)
    assert len(losses) == 3
    assert given[0] == []
    for before, fed in zip(answers, given[1:], strict=False):
        pairs = list(zip(before.features_a, before.features_b, strict=True))[:scales]
        assert len(fed) == len(pairs) == (3 if scales is None else scales)
        for (a, b), value in zip(pairs, fed, strict=True):
            torch.testing.assert_close(value, 0.1 * feature_difference(a, b, encoding))
            assert not value.requires_grad
    assert torch.equal(losses[0].total, losses[1].total) == (scales == 0)


def test_encodings():
    a, b = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(feature_difference(a, b, "a_minus_b"), a - b)
    torch.testing.assert_close(feature_difference(a, b, "b_minus_a"), b - a)
    torch.testing.assert_close(feature_difference(a, b, "absolute"), abs(a - b))
    uniform = feature_difference(torch.ones(1, 5, 2, 2), torch.ones(1, 5, 2, 2), "entropy")
    torch.testing.assert_close(uniform, torch.full((1, 1, 2, 2), 5.0).log(), atol=1e-4, rtol=0)
    certain = torch.zeros(1, 5, 2, 2)
    certain[:, 0] = 100
    torch.testing.assert_close(
        feature_difference(certain, certain, "entropy"), torch.zeros(1, 1, 2, 2), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_number_of_presentations(batch, passes):
    losses, given, _ = spy(make(passes=passes), batch)
    assert len(losses) == len(given) == passes


def test_without_feedback_all_presentations_are_alike(batch):
    losses, given, _ = spy(make(feedback=0.0), batch)
    assert given == [[]] * 3
    assert torch.equal(losses[0].total, losses[2].total)


def test_terms(batch):
    n = batch.n
    for loss_b in ("ce", "dice"):
        losses, _, answers = spy(make(loss_b=loss_b, weight=0.5), batch)
        out, terms = answers[0], losses[0].terms
        a, b = out.logits_a, out.logits_b
        wanted_b = cross_entropy(b[:n], batch.labels) if loss_b == "ce" else soft_dice(b[:n], batch.labels, FORMS["la"])
        torch.testing.assert_close(terms["supervised"], soft_dice(a[:n], batch.labels, FORMS["la"]))
        torch.testing.assert_close(terms["supervised_b"], wanted_b)
        torch.testing.assert_close(terms["consistency"], probability_mse(a, b))
        others = terms["supervised"] + terms["supervised_b"] + terms["deep"]
        torch.testing.assert_close(losses[0].total, others + 0.5 * terms["consistency"])


def test_consistency_teaches_both_decoders(batch):
    method = make()
    consistency = next(method.step(batch, clock())).terms["consistency"]
    parts = [*method.net.a.head.parameters(), *method.net.b.head.parameters()]
    for gradient in torch.autograd.grad(consistency, parts):
        assert bool(gradient.any())


def test_last_side_weight_holds_for_deeper_scales(batch, monkeypatch):
    deep = []
    for weights in ((0.8, 0.6), (0.8, 0.6, 0.6, 0.3)):
        monkeypatch.setattr(lefed, "SIDE_WEIGHTS", weights)
        deep.append(next(make().step(batch, clock())).terms["deep"])
    torch.testing.assert_close(*deep)


def test_without_deep_supervision_there_are_no_side_heads(batch):
    method = make(deep_supervision=False)
    assert len(method.net.sides) == 0
    assert "deep" not in next(method.step(batch, clock())).terms


def test_ramp_of_the_official_script(batch):
    method = make(ramp="units150", ramp_length=40)
    weights = [next(method.step(batch, clock(step))).weights["consistency"] for step in (0, 149, 150, 6000)]
    assert weights[0] == weights[1] == pytest.approx(0.0067379, rel=1e-4)
    assert weights[2] > weights[1]
    assert weights[3] == 1


def test_decoders_for_prediction(batch):
    method = make(predict_with="both").eval()
    with torch.no_grad():
        out = method.net.decode_both(batch.images)
        mean = (out.logits_a.softmax(1) + out.logits_b.softmax(1)) / 2
        torch.testing.assert_close(method.predict(batch.images), mean)
        torch.testing.assert_close(make().eval().predict(batch.images), out.logits_a.softmax(1))


def test_official_variant():
    ours, official = (entry(name).configure({}) for name in ("lefed", "lefed-official"))
    changed = {key for key, value in ours.model_dump().items() if official.model_dump()[key] != value}
    assert changed == {"loss_b", "encoding", "encoder_dropout", "decoder_dropout"}
    assert (official.encoder_dropout, official.decoder_dropout) == (0.3, 0.5)


@pytest.mark.parametrize(("network", "rates"), [("unet", (0.0, 0.0)), ("vnet", (0.5, 0.5)), ("unet2d", (0.0, 0.0))])
def test_dropout_is_that_of_the_architecture(network, rates):
    widths = {"filters": 2 if network == "vnet" else (4, 8, 8, 8, 8)}
    build = partial(build_network, network, channels=1, classes=3, spatial_dims=2, **widths)
    net = entry("lefed").build({}, Task(3, 1, 2, (5, 5, 5)), build).net
    assert (net.encoder_p, net.decoder_p) == rates
    assert net.dropout_rate == build().dropout_rate
    official = entry("lefed-official").build({}, Task(3, 1, 2, (5, 5, 5)), build).net
    assert (official.encoder_p, official.decoder_p) == (0.3, 0.5)
    assert official.dropout_rate == 0.0  # none inside of the stages beside its own


def test_every_presentation_is_an_update(batch):
    assert [loss.update for loss in make().step(batch, clock())] == [True] * 3


def feedback_effect(method: Method, images: torch.Tensor, feedback: list, precision: str) -> torch.Tensor:
    """Change of the logits by the feedback."""
    with torch.no_grad(), autocast(torch.device("cpu"), precision):
        plain, fed = (method.net.decode_both(images, f).logits_a.float() for f in ((), feedback))
    return fed - plain


def test_feedback_of_a_thousandth_survives_the_precision_that_auto_takes():
    method, images = make().eval(), torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        out = method.net.decode_both(images)
    pairs = zip(out.features_a, out.features_b, strict=True)
    feedback = [1e-3 * feature_difference(a, b, method.config.encoding) for a, b in pairs]
    exact = feedback_effect(method, images, feedback, "fp32")
    used = feedback_effect(method, images, feedback, precision_of(RunConfig(data="x", method="lefed")))
    assert torch.cosine_similarity(used.flatten(), exact.flatten(), dim=0) > 0.9


def test_feedback_is_added_in_full_precision():
    a = torch.ones(1, 2, 4, 4, dtype=torch.bfloat16)
    assert feature_difference(a, a * 1.5, "a_minus_b").dtype == torch.float32


def test_a_wish_for_less_precision_is_warned_of(caplog):
    with caplog.at_level("WARNING"):
        tell_of_precision("tf32", "cpu", "lefed", "fp32")
    assert "lefed" in caplog.text
    assert "take auto or fp32" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):
        tell_of_precision("auto", "cpu", "lefed", "fp32")
        tell_of_precision("tf32", "cpu", "micd", "any")
    assert not caplog.text
