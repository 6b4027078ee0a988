import json
from itertools import pairwise

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError

from semiseg.errors import InputError
from semiseg.phantom.anatomy import CHOICE, ORGANS, abdomen, axial_section, chosen
from semiseg.phantom.cohort import PhantomConfig, case_id, make_case, make_cohort
from semiseg.phantom.shapes import Blob, Canvas, Part, Tube, smooth_field
from semiseg.phantom.tissues import draw_look

SMALL = PhantomConfig(shape=(24, 24, 24), labelled=2, unlabelled=2, validation=1, test=1)


def canvas(side=40, warp=0.0):
    axis = (np.arange(side) - (side - 1) / 2).astype(np.float32)
    return Canvas((axis, axis, axis), np.full((3, side, side, side), warp, np.float32))


def inside(grid, part):
    box, distance = grid.distance(part)
    mask = np.zeros(grid.shape, bool)
    mask[box] = distance < 0
    return mask


def test_ellipsoid_and_tube_have_their_volumes_and_places():
    grid = canvas(48)
    ball = inside(grid, Part("fat", (Blob((3, -2, 1), (14, 9, 7), (0, 0, 30)),)))
    assert abs(ball.sum() / (4 / 3 * np.pi * 14 * 9 * 7) - 1) < 0.03
    assert np.allclose(np.argwhere(ball).mean(0) - 23.5, (3, -2, 1), atol=0.2)
    rod = inside(grid, Part("fat", (Tube(((0, 0, -12), (0, 0, 12)), (5, 5)),)))
    assert abs(rod.sum() / (np.pi * 25 * 24 + 4 / 3 * np.pi * 125) - 1) < 0.04


def test_distance_agrees_with_brute_force():
    grid = canvas(24, warp=1.5)
    tube = Tube(((-5.0, 1.0, -3.0), (6.0, 2.0, 4.0)), (4.0, 2.0))
    box, distance = grid.distance(Part("fat", (tube,)))
    points = np.stack([c[box] for c in grid.coordinates], axis=-1)
    steps = np.linspace(0, 1, 400)[:, None]
    line, radii = np.array(tube.points[0]) * (1 - steps) + np.array(tube.points[1]) * steps, 4 - 2 * steps[:, 0]
    apart = np.linalg.norm(points[..., None, :] - line, axis=-1)
    nearest = apart.argmin(-1)
    expected = np.take_along_axis(apart, nearest[..., None], -1)[..., 0] - radii[nearest]
    assert np.abs(distance - expected).max() < 0.02


def test_box_misses_no_voxel_of_a_warped_solid():
    rng = np.random.default_rng(0)
    axis = (np.arange(30) - 14.5).astype(np.float32)
    grid = Canvas((axis,) * 3, np.stack([smooth_field(rng, (30,) * 3, (3, 3, 3)) * 3 for _ in range(3)]))
    blob = Blob((2, 1, -3), (6, 5, 4))
    x, y, z = grid.coordinates
    whole = ((x - 2) / 6) ** 2 + ((y - 1) / 5) ** 2 + ((z + 3) / 4) ** 2 < 1
    assert np.array_equal(inside(grid, Part("fat", (blob,))), whole)


def test_union_and_cut():
    first, second = Blob((-4, 0, 0), (6, 6, 6)), Blob((4, 0, 0), (6, 6, 6))
    grid = canvas(30)
    a, b = inside(grid, Part("fat", (first,))), inside(grid, Part("fat", (second,)))
    assert np.array_equal(inside(grid, Part("fat", (first, second))), a | b)
    assert np.array_equal(inside(grid, Part("fat", (first,), cut=(second,))), a & ~b)


@pytest.mark.parametrize(("shape", "knots"), [((40, 40, 40), (4, 4, 4)), ((60, 60, 1), (5, 5, 2))])
def test_smooth_field_is_smooth_and_has_unit_size(shape, knots):
    fields = np.stack([smooth_field(np.random.default_rng(i), shape, knots) for i in range(20)])
    assert 0.7 < fields.std() < 1.3
    assert np.abs(np.diff(fields, axis=1)).max() < 1.0


@pytest.mark.parametrize("layout", [abdomen, axial_section])
def test_every_organ_has_a_place_and_every_tissue_a_look(layout):
    groups = layout(np.random.default_rng(0))
    parts = [part for group in groups for part in group.parts]
    look = draw_look(np.random.default_rng(0))
    assert {part.organ for part in parts} - {None} == set(ORGANS)
    assert {part.tissue for part in parts} <= set(look)


@pytest.mark.parametrize("shape", [(32, 24), (24, 24, 24), (20, 24, 12)])
def test_cases_hold_all_organs_in_their_range(shape):
    for index in range(3):
        case = make_case(PhantomConfig(shape=shape, organs=15), index)
        assert case.image.shape == case.label.shape == (*shape, *[1] * (3 - len(shape)))
        assert set(np.unique(case.label)) == set(range(16))
        assert -1024 <= case.image.min() < case.image.max() <= 3071


def test_case_is_a_pure_function_of_seed_and_index():
    first, again = make_case(SMALL, 4), make_case(SMALL, 4)
    more = make_case(SMALL.model_copy(update={"labelled": 9, "test": 50}), 4)
    for other in (again, more):
        assert np.array_equal(first.image, other.image)
        assert np.array_equal(first.label, other.label)
    for other in (make_case(SMALL, 5), make_case(SMALL.model_copy(update={"seed": 1}), 4)):
        assert not np.array_equal(first.label, other.label)


@pytest.mark.parametrize("organs", range(1, 16))
def test_any_number_of_organs_keeps_the_order_of_the_list(organs):
    names = chosen(organs)
    assert len(names) == organs
    assert list(names) == [name for name in ORGANS if name in names]
    assert set(names) == set(CHOICE[:organs])


def test_sizes_span_orders_of_magnitude():
    config = PhantomConfig(shape=(96, 72, 72), organs=15)
    counts = np.mean([np.bincount(make_case(config, i).label.ravel(), minlength=16)[1:] for i in range(3)], axis=0)
    assert counts.max() / counts.min() > 200
    few = [counts[ORGANS.index(name)] for name in chosen(3)]
    assert max(few) / min(few) > 20


def test_patients_differ_and_the_image_decides():
    config = PhantomConfig(shape=(48, 48, 48), organs=15)
    cases = [make_case(config, index) for index in range(6)]
    liver = 1 + ORGANS.index("liver")
    masks = [case.label == liver for case in cases]
    overlap = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairwise(masks)]
    assert 0.3 < np.mean(overlap) < 0.85  # no atlas will do
    aorta = [np.median(case.image[case.label == 1 + ORGANS.index("aorta")]) for case in cases]
    assert np.ptp(aorta) > 60  # contrast phases
    for case, mask in zip(cases, masks, strict=True):
        fat = case.image[(case.label == 0) & (case.image < -60) & (case.image > -140)]
        assert np.median(case.image[mask]) - np.median(fat) > 70


def test_spacing_reaches_the_header_and_keeps_the_body_in_view(tmp_path):
    config = PhantomConfig(shape=(40, 40, 20), labelled=1, unlabelled=0, test=0)
    folder = make_cohort(tmp_path / "c", config)
    image = nib.load(folder / "imagesTr" / "phantom_000_0000.nii.gz")
    assert np.allclose(image.header.get_zooms(), (9.6, 7.2, 19.2))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    array = np.asarray(image.dataobj)
    assert (array[0] < -800).mean() > 0.9  # air beside the body
    assert (array > -300).mean() > 0.3


def test_cohort_is_a_dataset_folder(tmp_path):
    config = SMALL.model_copy(update={"organs": 4})
    folder = make_cohort(tmp_path / "cohort", config)
    described = json.loads((folder / "dataset.json").read_text())
    assert described["labels"] == {name: value for value, name in enumerate(("background", *chosen(4)))}
    assert described["channel_names"] == {"0": "CT"}
    split = json.loads((folder / "splits" / "demo.json").read_text())
    assert {role: len(cases) for role, cases in split.items()} == {
        "labelled": 2,
        "unlabelled": 2,
        "validation": 1,
        "test": 1,
    }
    images = {path.name for path in (folder / "imagesTr").iterdir()}
    assert images == {f"{case_id(i)}_0000.nii.gz" for i in range(6)}
    labels = {path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir()}
    assert labels == {*split["labelled"], *split["validation"], *split["test"]}
    case = make_case(config, 1)
    stored = nib.load(folder / "labelsTr" / f"{case_id(1)}.nii.gz")
    assert np.array_equal(np.asarray(stored.dataobj), case.label)
    assert stored.get_data_dtype() == np.uint8
    image = nib.load(folder / "imagesTr" / f"{case_id(1)}_0000.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), case.image)


def test_rerun_completes_an_interrupted_cohort_and_leaves_a_whole_one(tmp_path):
    whole, cut = make_cohort(tmp_path / "whole", SMALL), make_cohort(tmp_path / "cut", SMALL)
    (cut / "dataset.json").unlink()
    (cut / "labelsTr" / f"{case_id(1)}.nii.gz").unlink()
    kept = cut / "imagesTr" / f"{case_id(0)}_0000.nii.gz"
    before = kept.stat().st_mtime_ns
    make_cohort(cut, SMALL)
    assert kept.stat().st_mtime_ns == before
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(cut) for path in cut.rglob("*") if path.is_file())
    assert all((whole / name).read_bytes() == (cut / name).read_bytes() for name in files)
    last = (whole / "dataset.json").stat().st_mtime_ns
    make_cohort(whole, SMALL)
    assert (whole / "dataset.json").stat().st_mtime_ns == last


def test_foreign_folder_and_other_settings_are_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="other files"):
        make_cohort(tmp_path / "mine", SMALL)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    make_cohort(tmp_path / "c", SMALL)
    with pytest.raises(InputError, match="other settings"):
        make_cohort(tmp_path / "c", SMALL.model_copy(update={"seed": 3}))


def test_unwritable_place_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        make_cohort(tmp_path / "file" / "c", SMALL)


@pytest.mark.parametrize("wrong", [{"organs": 0}, {"organs": 16}, {"shape": (48,)}, {"shape": (8, 48)}, {"organ": 3}])
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(ValidationError):
        PhantomConfig(**wrong)


def test_slices_show_every_organ_beside_the_others_not_as_a_last_voxel():
    config = PhantomConfig(shape=(96, 72), organs=15)
    counts = [np.bincount(make_case(config, index).label.ravel(), minlength=16)[1:] for index in range(8)]
    assert (np.median(counts, axis=0) >= 8).all()
    assert 200 < np.median(counts, axis=0).max() < 1500
