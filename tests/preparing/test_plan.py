import json
import math

import pytest

from semiseg.datasets.splits import Split
from semiseg.errors import InputError
from semiseg.networks import build_network
from semiseg.preparing import planning
from semiseg.preparing.fingerprint import CaseFingerprint, Fingerprint, Intensities
from semiseg.preparing.overrides import PlanOverrides
from semiseg.preparing.plan import Plan
from semiseg.preparing.planning import PATCH_VOXELS, make_plan, patches_per_batch
from semiseg.runs.build import Build
from semiseg.settings.run import RunConfig
from semiseg.training.footprint import footprint

MRI = Intensities(minimum=0, maximum=900, whole=True, lower=20, median=200, upper=700, mean=220, std=100)
CT = Intensities(minimum=-1024, maximum=3000, whole=True, lower=-600, median=40, upper=900, mean=30, std=200)


def dataset(*cases, channels=("MRI",), intensities=(MRI,)):
    grids = {
        f"case{index}": CaseFingerprint(shape=shape, cropped=shape, spacing=spacing)
        for index, (shape, spacing) in enumerate(cases)
    }
    return Fingerprint(
        dataset="X", channels=channels, class_names=("background", "organ"), cases=grids, intensities=intensities
    )


def plan_of(shape, spacing, **options):
    return make_plan(dataset((shape, spacing), **options))


def test_left_atrium():
    plan = plan_of((190, 140, 88), (0.625, 0.625, 0.625))
    assert (plan.spatial_dims, plan.transpose, plan.spacing) == (3, (0, 1, 2), (0.625, 0.625, 0.625))
    assert plan.patch == (96, 96, 96)
    assert len(plan.strides) == 5
    assert (plan.labelled_per_batch, plan.unlabelled_per_batch) == (2, 2)


def test_hippocampus():
    plan = plan_of((35, 50, 35), (1, 1, 1))
    assert (plan.spatial_dims, plan.patch, plan.filters) == (3, (40, 56, 40), (16, 32, 64, 128))


@pytest.mark.parametrize(
    ("shape", "spacing", "transpose"),
    [
        ((256, 216, 10), (1.4, 1.4, 10), (0, 1, 2)),
        ((256, 216, 10), (1, 1, 1), (0, 1, 2)),  # placeholder spacing
        ((10, 256, 216), (10, 1.4, 1.4), (1, 2, 0)),
        ((256, 1, 216), (1, 0.5, 1), (0, 2, 1)),
        ((256, 216, 5), (0.6, 0.6, 8), (0, 1, 2)),
        ((256, 216, 5), (0.6, 0.6, 2.4), (0, 1, 2)),  # hardly any slices
    ],
)
def test_thick_slices_are_planned_in_2d(shape, spacing, transpose):
    plan = plan_of(shape, spacing)
    assert (plan.spatial_dims, plan.transpose) == (2, transpose)
    assert plan.patch == (256, 224)
    assert plan.spacing == tuple(spacing[axis] for axis in transpose)
    assert plan.reasons["spatial_dims"].startswith("2D: ")


def test_placeholder_is_only_assumed_for_thin_stacks():
    assert plan_of((64, 64, 15), (1, 1, 1)).spatial_dims == 3
    assert plan_of((256, 256, 10), (1, 1, 1.1)).spatial_dims == 3


def test_ct():
    plan = plan_of((512, 512, 300), (0.7, 0.7, 1.5), channels=("CT",), intensities=(CT,))
    assert plan.spatial_dims == 3
    assert plan.spacing == (0.7, 0.7, 1.5)
    scale = plan.normalisation[0]
    assert (scale.scheme, scale.lower, scale.upper, scale.mean, scale.std) == ("ct", -600, 900, 30, 200)
    assert plan.strides[1] == (2, 2, 1)
    assert plan.patch[0] == plan.patch[1] > plan.patch[2]


@pytest.mark.parametrize(
    ("name", "found", "scheme"),
    [
        ("CT", MRI, "ct"),
        ("cbct", MRI, "ct"),
        ("CTA_arterial", MRI, "ct"),
        ("scanner output", CT, "ct"),
        ("cine-MRI", MRI, "zscore"),
        ("reconstruction", MRI, "zscore"),
        ("SPECT", MRI, "zscore"),
        ("T1ct", MRI, "zscore"),
    ],
)
def test_normalisation_by_name_or_intensities(name, found, scheme):
    assert plan_of((64, 64, 64), (1, 1, 1), channels=(name,), intensities=(found,)).normalisation[0].scheme == scheme


def test_median_spacing_but_fine_slices():
    cases = [((320, 320, 20), (0.6, 0.6, mm)) for mm in (3.0, 3.6, 3.6, 3.6, 4.0)]
    plan = make_plan(dataset(*cases))
    assert plan.spatial_dims == 3
    assert plan.spacing[:2] == (0.6, 0.6)
    assert 3.0 <= plan.spacing[2] < 3.6
    assert "10th percentile" in plan.reasons["spacing"]
    nearly_isotropic = make_plan(dataset(*[((64, 64, 64), (1, 1, mm)) for mm in (1.0, 1.5, 2.0)]))
    assert nearly_isotropic.spacing == (1, 1, 1.5)


def test_thick_slices_of_a_whole_organ_are_halved_later_than_their_plane():
    plan = plan_of((512, 512, 60), (0.7, 0.7, 5.0), channels=("CT",), intensities=(CT,))
    assert plan.spatial_dims == 3
    assert plan.spacing == (0.7, 0.7, 5.0)
    assert "10th percentile" not in plan.reasons["spacing"]  # all scans are alike, there is no finer one
    assert plan.strides[1:3] == ((2, 2, 1), (2, 2, 1))
    assert plan.patch[0] == plan.patch[1] > 4 * plan.patch[2]


@pytest.mark.parametrize(
    ("shape", "spacing"), [((190, 140, 88), (0.625,) * 3), ((35, 50, 35), (1.0,) * 3), ((240, 240, 155), (1.0,) * 3)]
)
def test_isotropic_scans_are_halved_along_all_axes_alike(shape, spacing):
    plan = plan_of(shape, spacing)
    assert plan.spatial_dims == 3
    assert all(set(stage) == {2} for stage in plan.strides[1:])
    total = [2 ** (len(plan.strides) - 1)] * 3
    left = " x ".join(str(side // stride) for side, stride in zip(plan.patch, total, strict=True))
    assert f"down to {left} voxels" in plan.reasons["strides"]


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((190, 140, 88), (0.625, 0.625, 0.625)),
        ((512, 512, 300), (0.7, 0.7, 1.5)),
        ((512, 512, 60), (0.7, 0.7, 5.0)),
        ((320, 320, 5), (0.6, 0.6, 8.0)),
        ((1024, 1024, 1), (1.0, 1.0, 1.0)),
    ],
)
def test_a_step_of_the_default_plan_fits_in_six_gibibytes(shape, spacing):
    assert 0.2 < gib_of_a_step(plan_of(shape, spacing)) < 6


def gib_of_a_step(plan):
    """Memory of one step of the plan's U-Net on all patches of its batch, in fp32."""

    def build():
        shapes = {"channels": len(plan.channels), "classes": plan.classes, "spatial_dims": plan.spatial_dims}
        return build_network("unet", **shapes, filters=plan.filters, strides=plan.strides)

    patches = plan.labelled_per_batch + plan.unlabelled_per_batch
    return footprint(build, (patches, len(plan.channels), *plan.patch), "fp32").total() / 2**30


def test_plans_of_versions_that_estimated_memory_are_read(tmp_path):
    plan = plan_of((64, 64, 64), (1, 1, 1))
    old = plan.model_dump(mode="json") | {"step_gib": 3.0}
    old["reasons"]["step_gib"] = "counted"
    (tmp_path / "plan.json").write_text(json.dumps(old))
    assert Plan.load(tmp_path / "plan.json") == plan
    (tmp_path / "plan.json").write_text(json.dumps(old | {"reasons": ["counted"]}))
    with pytest.raises(InputError, match="reasons"):
        Plan.load(tmp_path / "plan.json")


def test_budget_bounds_the_patch():
    found = dataset(((300, 300, 300), (1, 1, 1)))
    assert make_plan(found, voxels=64**3).patch == (64, 64, 64)


def test_every_decision_has_a_reason():
    reasons = plan_of((190, 140, 88), (0.625, 0.625, 0.625)).reasons
    assert set(reasons) >= {"spatial_dims", "transpose", "spacing", "normalisation", "patch", "strides", "filters"}
    assert "190 x 140 x 88" in reasons["patch"]


def test_plan_file_round_trip_and_edits(tmp_path):
    plan = plan_of((64, 64, 64), (1, 1, 1), channels=("CT",), intensities=(CT,))
    path = tmp_path / "plan.json"
    plan.save(path)
    assert Plan.load(path) == plan
    assert not plan.edited
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"labelled_per_batch": 4}))
    edited = Plan.load(path)
    assert edited.edited
    assert edited.store_digest == plan.store_digest
    path.write_text(json.dumps(values | {"spacing": [1, 1, 2]}))
    assert Plan.load(path).store_digest != plan.store_digest


def test_slice_size_goes_with_whole_slices_as_patches(tmp_path):
    path = tmp_path / "plan.json"
    plan = plan_of((256, 216, 10), (1.4, 1.4, 10))
    plan.save(path)
    values = json.loads(path.read_text())
    assert values["slice_size"] is None
    path.write_text(json.dumps(values | {"slice_size": [256, 256]}))
    with pytest.raises(
        InputError, match=r"patches are whole slices then: set patch to \[256, 256\] as well, came \[256, 224\]"
    ):
        Plan.load(path)
    path.write_text(json.dumps(values | {"slice_size": [1, 256]}))
    with pytest.raises(InputError, match="two sides of 2 to 8192 voxels"):
        Plan.load(path)
    path.write_text(json.dumps(values | {"slice_size": [256, 256], "patch": [256, 256]}))
    edited = Plan.load(path)
    assert edited.edited
    assert edited.store_digest != plan.store_digest
    assert edited.slice_size == edited.patch == (256, 256)


def test_lists_of_numbers_stay_on_one_line(tmp_path):
    plan_of((64, 64, 64), (1, 1, 1)).save(tmp_path / "plan.json")
    assert '"patch": [64, 64, 64],' in (tmp_path / "plan.json").read_text()


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"pach": [64, 64, 64]}, "unknown setting 'pach': did you mean 'patch'?"),
        ({"patch": [60, 64, 64]}, "multiples of the total strides [16, 16, 16], came [60, 64, 64]"),
        ({"patch": [64, 64]}, "patch: expected 3 sides of 1 to 8192 voxels"),
        ({"spacing": [1, 1, -2]}, "spacing: expected three numbers of 0.0001 to 10000 mm, came [1.0, 1.0, -2.0]"),
        ({"transpose": [0, 0, 2]}, "transpose: expected each of 0, 1, 2 once"),
        ({"normalisation": []}, "normalisation: expected 1 (one per channel), came 0"),
        ({"normalisation": [{"scheme": "ct"}]}, "scheme ct needs numbers for lower, upper, mean and std"),
        ({"normalisation": [{"scheme": "minmax", "lower": 3, "upper": 2}]}, "lower (3) must be below upper (2)"),
        ({"normalisation": [{"scheme": "zscore", "mean": 3}]}, "set lower, upper, mean, std to null"),
        ({"strides": [[2, 2, 2]], "filters": [16]}, "strides: the first stage must have stride 1"),
        ({"filters": [16]}, "filters: expected 5 numbers (one per stage) of 1 to 16384, came [16]"),
        ({"labelled_per_batch": 0}, "labelled_per_batch"),
        ({"spatial_dims": 4}, "spatial_dims"),
        ({"slice_size": [64, 64]}, "slice_size: expected null in a plan with spatial_dims 3, came [64, 64]"),
    ],
)
def test_bad_edits_are_explained(tmp_path, edit, expected):
    path = tmp_path / "plan.json"
    plan_of((64, 64, 64), (1, 1, 1)).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(InputError) as caught:
        Plan.load(path)
    assert expected in caught.value.problems[0]
    assert str(path) in caught.value.problems[0]
    assert "delete it" in caught.value.problems[-1]


def test_all_bad_edits_are_told_together(tmp_path):
    path = tmp_path / "plan.json"
    plan_of((64, 64, 64), (1, 1, 1)).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"patch": [60, 64, 64], "spacing": [0, 1, 1]}))
    with pytest.raises(InputError, match=r"spacing: .*patch: "):
        Plan.load(path)


def test_patch_and_strides_are_made_for_the_spacing_that_is_asked_for():
    thick = ((512, 512, 60), (0.7, 0.7, 5.0))
    asked = make_plan(dataset(thick), wishes=PlanOverrides(spacing=(1.5, 1.5, 1.5)))
    own = plan_of((239, 239, 200), (1.5, 1.5, 1.5))
    assert asked.spacing == (1.5, 1.5, 1.5)
    assert (asked.patch, asked.strides, asked.filters) == (own.patch, own.strides, own.filters)
    assert "239 x 239 x 200" in asked.reasons["patch"]


def test_reasons_tell_the_scan_that_will_be_stored():
    fine = ((512, 512, 300), (0.7, 0.7, 1.0))
    coarse = make_plan(dataset(fine), wishes=PlanOverrides(spacing=(2.0, 2.0, 2.0)))
    assert "179 x 179 x 150 voxels" in coarse.reasons["patch"]
    millimetres = " x ".join(str(2 * side) for side in coarse.patch)
    assert f"{millimetres} mm" in coarse.reasons["patch"]


def test_scans_that_are_kept_whole_are_planned_whole():
    found = dataset(((64, 64, 64), (1.0, 1.0, 1.0)))
    whole = CaseFingerprint(shape=(64,) * 3, cropped=(20,) * 3, spacing=(1.0,) * 3)
    found = found.model_copy(update={"cases": {"a": whole}})
    assert make_plan(found).patch == plan_of((20,) * 3, (1.0,) * 3).patch
    assert (
        make_plan(found, wishes=PlanOverrides(crop="none")).patch == plan_of((64,) * 3, (1.0,) * 3).patch == (64,) * 3
    )


def test_scans_of_unlike_spacing_that_is_kept_are_planned_in_their_voxels():
    found = dataset(((40, 40, 40), (1.0, 1.0, 1.0)), ((40, 40, 40), (2.0, 2.0, 2.0)), ((40, 40, 40), (2.0, 2.0, 2.0)))
    assert "40 x 40 x 40 voxels" in make_plan(found, wishes=PlanOverrides(spacing="kept")).reasons["patch"]


def covered(plan, shape, spacing):
    stored = [round(side * mm / new) for side, mm, new in zip(shape, spacing, plan.spacing, strict=True)]
    return math.prod(plan.patch) / math.prod(stored)


def test_large_isotropic_ct_is_coarsened_until_a_patch_covers_a_quarter_of_it():
    liver = ((512, 512, 432), (0.77, 0.77, 1.0))
    plan = plan_of(*liver, channels=("CT",), intensities=(CT,))
    assert 1.9 < min(plan.spacing) == max(plan.spacing) < 3
    assert 0.25 <= covered(plan, *liver) < 0.35
    assert "0.77 x 0.77 x 1 mm" in plan.reasons["spacing"]
    assert "0.7% of the median scan of 512 x 512 x 432 voxels" in plan.reasons["spacing"]
    millimetres = " x ".join(f"{side * mm:.0f}" for side, mm in zip(plan.patch, plan.spacing, strict=True))
    assert f"{millimetres} mm" in plan.reasons["patch"]


def test_coarsening_begins_at_the_finer_axes():
    plan = plan_of((200, 200, 100), (0.8, 0.8, 1.5), channels=("CT",), intensities=(CT,))
    assert 0.8 < plan.spacing[0] == plan.spacing[1] < plan.spacing[2] == 1.5


def test_scans_of_micrometres_are_coarsened_like_those_of_millimetres():
    micro, macro = (
        plan_of((512,) * 3, (mm,) * 3, channels=("CT",), intensities=(CT,)).spacing[0] / mm for mm in (0.005, 0.5)
    )
    assert 2 < micro == pytest.approx(macro, rel=0.02)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((512, 512, 95), (0.78, 0.78, 5.0)),  # colon: thick slices
        ((512, 512, 107), (0.78, 0.78, 3.0)),  # kidney
        ((150, 140, 130), (1.0, 1.0, 1.0)),  # a patch covers more than a quarter
    ],
)
def test_thick_slices_and_small_scans_of_ct_are_not_coarsened(shape, spacing):
    assert plan_of(shape, spacing, channels=("CT",), intensities=(CT,)).spacing == spacing


def test_only_ct_is_coarsened_and_never_against_the_settings():
    liver = ((512, 512, 432), (0.77, 0.77, 1.0))
    assert plan_of(*liver).spacing == liver[1]
    found = dataset(liver, channels=("CT",), intensities=(CT,))
    assert make_plan(found, wishes=PlanOverrides(spacing=(0.9, 0.9, 0.9))).spacing == (0.9, 0.9, 0.9)
    kept = make_plan(found, wishes=PlanOverrides(spacing="kept"))
    assert not kept.resampled
    assert kept.spacing == liver[1]


def test_a_larger_patch_needs_less_coarsening():
    found = dataset(((512, 512, 432), (0.77, 0.77, 1.0)), channels=("CT",), intensities=(CT,))
    assert make_plan(found, voxels=128**3).spacing[0] < make_plan(found).spacing[0]


@pytest.mark.parametrize(
    ("patch", "count"),
    [
        ((96, 96, 96), 2),
        ((192, 160, 96), 2),  # never fewer than two
        ((64, 64, 64), 6),
        ((40, 56, 40), 9),  # never more than nine
        ((320, 320), 8),
        ((512, 512), 3),
        ((256, 224), 9),
    ],
)
def test_small_patches_make_large_batches_of_no_more_voxels(patch, count):
    assert patches_per_batch(patch) == count
    usual = {2: 8, 3: 2}[len(patch)] * PATCH_VOXELS[len(patch)]
    assert count * math.prod(patch) <= usual or count == 2


def test_the_batch_follows_from_the_patch_where_the_rule_is_on(monkeypatch):
    hippocampus, atrium = ((35, 50, 35), (1.0,) * 3), ((190, 140, 88), (0.625,) * 3)
    assert plan_of(*hippocampus).labelled_per_batch == plan_of(*hippocampus).unlabelled_per_batch == 2
    monkeypatch.setattr(planning, "BATCH_FROM_VOXELS", True)
    plan = plan_of(*hippocampus)
    assert plan.labelled_per_batch == plan.unlabelled_per_batch == 9
    assert plan.reasons["batch"].startswith("9 labelled and 9 unlabelled patches: as many of 89,600 voxels")
    assert plan_of(*atrium).labelled_per_batch == 2


def test_whole_slices_are_counted_at_the_size_that_they_are_brought_to(monkeypatch):
    monkeypatch.setattr(planning, "BATCH_FROM_VOXELS", True)
    found = dataset(((256, 216, 10), (1.4, 1.4, 10.0)))
    assert make_plan(found, wishes=PlanOverrides(slice_size=(512, 512))).labelled_per_batch == 3


def test_larger_batches_take_no_more_memory_than_those_of_the_largest_patches(monkeypatch):
    monkeypatch.setattr(planning, "BATCH_FROM_VOXELS", True)
    for shape, spacing in [((35, 50, 35), (1.0,) * 3), ((64, 64, 64), (1.0,) * 3), ((256, 216, 10), (1.4, 1.4, 10.0))]:
        assert gib_of_a_step(plan_of(shape, spacing)) < 6


def test_runs_take_the_batch_of_the_plan_unless_their_settings_say_another(monkeypatch, tmp_path):
    monkeypatch.setattr(planning, "BATCH_FROM_VOXELS", True)
    plan = plan_of((35, 50, 35), (1.0,) * 3)
    split = Split(("a",), ("b",), (), ())
    for settings, expected in (({}, (9, 9)), ({"labelled": 4, "unlabelled": 3}, (4, 3))):
        batch = Build(RunConfig(data=tmp_path, method="cps", batch=settings), plan).batch_plan(split)
        assert (batch.labelled, batch.unlabelled) == expected
