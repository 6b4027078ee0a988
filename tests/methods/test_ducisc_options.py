"""Every option of DuCiSC changes what it says, after the supervised start, in 2D and 3D and on either network."""

from __future__ import annotations

import json
from functools import partial

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from semiseg.batches.batch import Batch
from semiseg.errors import InputError
from semiseg.ingredients.levels import coarse, one_hot, resize_linear, resize_nearest
from semiseg.ingredients.masked import BATCH_DICE, SOFT_DICE, masked_parts
from semiseg.ingredients.prototypes import aligned_levels, prototypes
from semiseg.methods.base import Clock, Task, entry
from semiseg.methods.ducisc import ducisc, snapshots
from semiseg.methods.ducisc.ablations import feature_mse
from semiseg.networks import build_network
from semiseg.settings.presets import preset

CLASSES = 3
NETWORKS = {
    "unet": {"filters": (4, 6, 8), "normalisation": "batch", "dropout": 0.2},
    "unet2d": {"filters": (2, 4, 8), "dropout": 0.2},
    "vnet": {"filters": 2, "dropout": 0.2},
}


def make(dims=2, network="unet", name="ducisc", classes=CLASSES, **options):
    torch.manual_seed(0)
    build = partial(build_network, network, channels=1, classes=classes, spatial_dims=dims, **NETWORKS[network])
    return entry(name).build(options, Task(classes, 1, dims, (1,) * classes), build).train()


def batch(dims=2, classes=CLASSES, labelled=2, unlabelled=2):
    generator = torch.Generator().manual_seed(2)
    shape = (labelled + unlabelled, *(32 if dims == 2 else 16,) * dims)
    labels = torch.randint(classes, shape, generator=generator)
    return Batch(labels.unsqueeze(1) + torch.rand(shape, generator=generator).unsqueeze(1), labels[:labelled])


def step(method, given=None, at=60, seed=7):
    torch.manual_seed(seed)
    steps = method.step(given or batch(), Clock(at, 100, 0, 10))
    loss = next(steps)
    loss.total.backward()
    next(steps, None)
    return loss


def without_dropout(method):
    # It would draw other numbers after other mixtures.
    for module in method.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    return method


def values(**options):
    method = without_dropout(make(**options))
    found = [step(method, seed=seed) for seed in (7, 8)]
    return {term: [loss.terms[term].item() for loss in found] for term in found[0].terms}


SELECTIONS = ["self_aware", "all", "probability", "entropy", "mc_dropout"]
MIXTURES = ["mixup", "cutmix", "cutout", "copy_paste"]
ROWS = [{"selection": kind, "probability": 0.3} for kind in SELECTIONS]
ROWS += [{"mixing": kind} for kind in MIXTURES]
ROWS += [{"alignment": "feature"}, {"absent": "class"}, {"pairing": "image"}, {"pairing": "image", "absent": "class"}]
ROWS += [{"ensemble": "temporal"}]


@pytest.mark.parametrize("options", ROWS, ids=str)
@pytest.mark.parametrize(
    ("dims", "network", "classes"), [(2, "unet", 4), (3, "unet", 2), (2, "unet2d", 3), (2, "vnet", 2), (3, "vnet", 4)]
)
@pytest.mark.parametrize("name", ["ducisc", "ducisc-paper"])
def test_rows_of_the_tables(dims, network, classes, name, options):
    method = make(dims, network, name, classes, **options)
    loss = step(method, batch(dims, classes, 2, 3))
    assert set(loss.terms) == {"supervised", "cs_ulb", "cs_mix", "proto_ulb", "proto_mix"}
    assert all(torch.isfinite(term) for term in loss.terms.values())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.student.parameters())
    assert all(torch.isfinite(value).all() for value in method.state_dict().values() if value.is_floating_point())


COMPONENTS = [
    (set(), 1),
    ({"cs_ulb"}, 2),
    ({"cs_mix"}, 3),
    ({"cs_ulb", "proto_ulb"}, 2),
    ({"cs_mix", "proto_mix"}, 3),
    ({"cs_ulb", "cs_mix", "proto_ulb", "proto_mix"}, 3),
]


@pytest.mark.parametrize(
    ("kept", "passes"), COMPONENTS, ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else str(value)
)
def test_components_cost_only_their_own_passes(kept, passes):
    off = {f"weight_{name}": 0.0 for name in ("cs_ulb", "cs_mix", "proto_ulb", "proto_mix") if name not in kept}
    method, seen = make(**off), []
    method.student.register_forward_pre_hook(lambda net, inputs: seen.append(inputs))
    loss = step(method)
    assert set(loss.terms) == {"supervised"} | kept
    assert len(seen) == max(passes, 2 if kept else 1)


CHANGES = [
    ("cs_ulb", {"selection": "all"}),
    ("cs_ulb", {"selection": "probability", "probability": 0.4}),
    ("cs_ulb", {"threshold_momentum": 0.99}),
    ("cs_ulb", {"threshold_clamp": False, "threshold_momentum": 1.0}),
    ("cs_ulb", {"threshold_per_level": False}),
    ("cs_mix", {"mixing": "cutmix"}),
    ("cs_mix", {"mixing": "cutout"}),
    ("cs_mix", {"mixing": "copy_paste"}),
    ("cs_mix", {"mix_ce": "ce"}),
    ("proto_ulb", {"alignment": "feature"}),
    ("proto_mix", {"alignment": "feature"}),
    ("proto_ulb", {"pairing": "image"}),
    ("proto_ulb", {"reduction": "sum"}),
    ("supervised", {"reduction": "sum"}),
]


@pytest.mark.parametrize(("term", "options"), CHANGES, ids=str)
def test_options_change_their_term(term, options):
    usual = {"threshold_momentum": 0.1}  # so that thresholds move within the two steps
    assert values(**usual)[term] != values(**usual | options)[term]


def test_start_of_the_run_is_supervised():
    method = make(warmup=0.5, name="ducisc-official")
    early, late = step(method, at=49), step(method, at=50)
    assert early.total.item() == pytest.approx(1.0)
    assert not early.terms["cs_ulb"].requires_grad
    assert (method.selector.thresholds.value != 1 / CLASSES).any()
    assert late.total.item() == pytest.approx(1.6)


def test_plain_sum_weighs_the_terms_themselves():
    method = make(ramp="none")
    loss = step(method)
    weights = {"supervised": 1.0, "cs_ulb": 0.3, "cs_mix": 0.1, "proto_ulb": 0.1, "proto_mix": 0.1}
    torch.testing.assert_close(loss.total, sum(weights[name] * term for name, term in loss.terms.items()))


def test_features_are_decoder_stages_or_the_sums_that_enter_them():
    assert make(network="vnet").views.taps.features == ("sum1", "sum2", "sum3", "sum4")
    assert make().views.taps == (("head1",), ("dec1", "dec2"))


def test_networks_for_prediction():
    images = torch.rand(2, 1, 32, 32)
    for choice in ("student", "teacher"):
        method = make(predict_with=choice).eval()
        net = method.student if choice == "student" else method.teacher
        torch.testing.assert_close(method.predict(images), net(images).softmax(1))


def test_thresholds_are_observed_only_where_they_are_used():
    def observed(**options):
        return [name for name in make(**options).observations() if name.startswith("threshold")]

    assert len(observed()) == 2
    assert len(observed(threshold_per_level=False)) == 1
    assert observed(selection="all") == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"selection": "none"}, "options of ducisc"),
        ({"ensemble": "temporal", "alignment": "feature"}, "alignment: feature needs"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        make(**wrong)


def run_tenth(method, tenth):
    steps = method.step(batch(), Clock(10 * tenth - 1 if tenth else 0, 100, 0, 10))
    next(steps)
    next(steps, None)


def test_snapshots_follow_every_share_of_the_run_and_survive_a_restart(monkeypatch):
    monkeypatch.setattr(snapshots, "KEPT", 2)
    options = {"ensemble": "temporal", "snapshot_every": 0.2}
    method = make(**options)
    taken = []
    for epoch in range(6):
        with torch.no_grad():
            method.student.head.bias.fill_(epoch)
        run_tenth(method, epoch)
        taken.append([net.head.bias[0].item() for net in method.teacher.nets])
    newest = [newer for newer, _ in taken]
    assert newest[2:] == [2.0, 2.0, 4.0, 4.0]
    assert taken[-1] == [4.0, 2.0]
    assert method.teacher.shares == pytest.approx([0.4, 0.6])
    again = make(**options)
    again.load_state_dict(method.state_dict())
    again.load_extra_state(json.loads(json.dumps(method.extra_state())))
    images = torch.rand(1, 1, 32, 32)
    assert torch.equal(again.teacher(images), method.teacher(images))
    run_tenth(again, 5)
    assert again.extra_state() == method.extra_state()


def test_snapshots_average_probabilities():
    method = make(ensemble="temporal", snapshot_every=0.1)
    for epoch in range(1, 3):
        with torch.no_grad():
            method.student.head.bias.copy_(torch.arange(CLASSES) * epoch)
        method.teacher.follow(method.student, Clock(10 * epoch, 100, 0, 10))
    images = torch.rand(2, 1, 32, 32)
    p = [net.eval()(images).softmax(1) for net in method.teacher.nets[:3]]
    wanted = 0.6 * (0.6 * p[2] + 0.4 * p[1]) + 0.4 * p[0]
    torch.testing.assert_close(method.teacher(images).softmax(1), wanted)
    logits, found = method.teacher.tapped(images, (*method.views.taps.heads, *method.views.taps.features))
    torch.testing.assert_close(logits.softmax(1), wanted)
    assert set(found) == {*method.views.taps.heads, *method.views.taps.features}


@pytest.mark.parametrize(("steps", "reach"), [(100, 5), (1000, 50), (15_000, 100)])
def test_averages_reach_back_over_a_share_of_short_runs(steps, reach):
    def built(name):
        build = partial(build_network, "unet", channels=1, classes=2, spatial_dims=2, filters=(4, 8))
        return entry(name).build({}, Task(2, 1, 2, (1, 1), steps=steps), build)

    method, official = built("ducisc"), built("ducisc-official")
    for decay in (method.teacher.decay, method.selector.thresholds.momentum):
        assert 1 / (1 - decay) == pytest.approx(reach)
    assert official.teacher.decay == official.selector.thresholds.momentum == 0.99


def test_weights_rise_to_what_they_are():
    early, late = (step(make(), at=at).weights for at in (20, 99))
    for name, full in {"cs_ulb": 0.3, "cs_mix": 0.1, "proto_ulb": 0.1, "proto_mix": 0.1}.items():
        assert early[name] < 0.2 * full
        assert 0.9 * full < late[name] <= full


def test_coarse_labels_lie_where_coarse_mixtures_lie():
    labels = torch.zeros(1, 16, 16, dtype=torch.long)
    labels[:, 5:] = 1
    mixed = resize_linear(one_hot(labels, 2), (4, 4)).max(1).indices
    assert torch.equal(coarse(labels, (4, 4), 2, "centre"), mixed)
    assert mixed[0, :, 0].tolist() == [0, 1, 1, 1]
    assert coarse(labels, (4, 4), 2, "first")[0, :, 0].tolist() == [0, 0, 1, 1]


def test_mixed_labels_are_learnt_as_they_are():
    """For a label of one half on a tenth of the voxels the best prediction is one half, not a hard mask."""
    target = torch.zeros(1, 2, 1000)
    target[:, 1, :100] = 0.5
    target[:, 0] = 1 - target[:, 1]
    p = torch.linspace(0.02, 0.98, 193, dtype=torch.float64)
    best = {}
    for form in (SOFT_DICE, BATCH_DICE):
        losses = []
        for share in p:
            logits = torch.full((1, 2, 1000), -20.0, dtype=torch.float64)
            logits[:, 0] = 20.0
            logits[:, 0, :100], logits[:, 1, :100] = (1 - share).log(), share.log()
            found = masked_parts(logits, target, torch.ones(1, 1000, dtype=torch.bool), "kl", form)
            losses.append(float(found.ce + found.dice))
        best[form] = float(p[losses.index(min(losses))])
    assert best[SOFT_DICE] == pytest.approx(0.5, abs=0.01)
    assert best[BATCH_DICE] > 0.8


def test_an_absent_class_takes_out_its_level_or_itself_alone():
    given = batch(classes=CLASSES)
    given.labels[0][given.labels[0] == 2] = 0
    usual, alone = make(), make(absent="class")
    assert step(usual, given, at=99).terms["proto_ulb"].item() == 0
    assert step(alone, given, at=99).terms["proto_ulb"].item() > 0
    assert usual.observations()["usable_ulb"].tolist() == [0.0, 0.0]
    assert alone.observations()["usable_ulb"].tolist() == [1.0, 1.0]


def seen_by(method, monkeypatch):
    """Labels per level that thresholds follow, and the voxels that count, of one step."""
    found = {}
    real = ducisc.masked_levels

    def noted(view, keep, *args, **options):
        found.setdefault("certain", keep)
        return real(view, keep, *args, **options)

    monkeypatch.setattr(ducisc, "masked_levels", noted)
    monkeypatch.setattr(method.selector, "follow", lambda logits, labels: found.update(labels=labels))
    step(method, at=99)
    return found["labels"], found["certain"]


def test_as_printed_labels_and_certain_voxels_of_coarse_levels_are_those_of_the_finest(monkeypatch):
    labels, certain = seen_by(make(name="ducisc-paper"), monkeypatch)
    for coarse_y, keep in zip(labels[:-1], certain[:-1], strict=True):
        assert torch.equal(coarse_y, resize_nearest(labels[-1], coarse_y.shape[1:]))
        assert torch.equal(keep, resize_nearest(certain[-1], keep.shape[1:]))


def usable(labels, absent):
    """Whether prototypes of the first half of the patches can be compared with those of the second."""
    masks = one_hot(labels, 4)
    halves = (prototypes(torch.ones_like(part[:, :1]), part) for part in masks.tensor_split(2))
    a, b = ([each] for each in halves)
    return bool(aligned_levels(a, b, "batch", absent, "mean")[1].item())


def acdc_absent():
    return preset("acdc").settings("ducisc", None, "honest")["options"]["absent"]


def test_prototypes_of_slices_that_lack_classes_act_under_the_preset():
    """Four classes, of which one slice in five lacks some, as short-axis slices of a heart do."""
    generator, acting = np.random.default_rng(0), {"class": 0, "level": 0}
    for _ in range(20):
        labels = torch.zeros(24, 32, 32, dtype=torch.long)
        for row in range(24):
            for label in range(1, 4):
                if generator.random() > 0.07:
                    labels[row, 8 * label - 6 : 8 * label + 1, 8:24] = label
        for absent in acting:
            acting[absent] += usable(labels, absent)
    assert acting["class"] == 20
    assert acting["level"] < 5
    assert acdc_absent() == "class"


def test_prototypes_act_in_every_batch_of_real_slices(real_data):
    files = sorted((real_data / "acdc" / "labelsTr").glob("*.nii.gz"))[:30]
    if not files:
        pytest.skip("no ACDC")
    slices = []
    for file in files:
        volume = np.asarray(nib.load(file).dataobj).astype(np.int16)
        for z in range(volume.shape[2]):
            factors = [128 / side for side in volume.shape[:2]]
            slices.append(ndimage.zoom(volume[:, :, z], factors, order=0)[:128, :128].astype(np.int64))
    stack, generator = torch.from_numpy(np.stack(slices)), np.random.default_rng(0)
    drawn = [stack[generator.integers(len(stack), size=24)] for _ in range(150)]
    assert sum(usable(labels, acdc_absent()) for labels in drawn) == 150
    assert sum(usable(labels, "level") for labels in drawn) < 15


def test_feature_consistency_as_printed_is_a_sum_over_channels():
    a, b = torch.zeros(2, 4, 8, 8), torch.ones(2, 4, 8, 8)
    assert feature_mse([a], [b]).item() == pytest.approx(1.0)
    assert feature_mse([a], [b], "sum").item() == pytest.approx(4.0)
