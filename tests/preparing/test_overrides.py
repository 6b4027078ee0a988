"""Decisions that a run asks of the planner: taken over, told, and never set against a person's plan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.preparing.overrides import PlanOverrides
from semiseg.preparing.plan import Plan
from semiseg.preparing.prepare import prepare
from semiseg.validation import parse
from tiny import tiny_dataset, write_nifti

AS_IT_IS = PlanOverrides.model_validate({"spacing": "kept", "normalisation": "none", "crop": "none"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path / "data", cases=3, labelled=2)


def test_the_store_holds_scans_as_they_are(root: Path) -> None:
    odd = np.arange(12 * 14 * 10, dtype=np.int16).reshape(12, 14, 10)
    write_nifti(root / "imagesTr" / "case_002_0000.nii.gz", odd, np.diag([2.0, 1.0, 1.5, 1.0]))
    store = prepare(open_dataset(root), workers=1, wishes=AS_IT_IS)
    np.testing.assert_array_equal(store.image("case_002")[0], odd)
    assert store.plan.reasons["crop"] == "asked for by the settings: none"
    assert "3D" in store.plan.reasons["spatial_dims"]
    assert not store.plan.edited


def test_the_label_decides_the_box_only_where_it_is_asked_for(root: Path) -> None:
    wishes = PlanOverrides.model_validate(
        {"spacing": "kept", "crop": {"margin": [[1, 1]] * 3, "smallest": [2, 2, 2], "axes": [0, 1]}}
    )
    store = prepare(open_dataset(root), workers=1, wishes=wishes)
    whole = store.image("case_002").shape[1:]  # has no label
    assert whole == (20, 18, 16)
    label = store.label("case_000")
    assert label.shape[2] == 16
    assert label.shape[0] < 20
    inside = np.argwhere(label > 0)
    assert inside[:, :2].min() == 1  # the margin


def test_stores_of_different_wishes_lie_side_by_side(root: Path) -> None:
    plain, asked = prepare(open_dataset(root), workers=1), prepare(open_dataset(root), workers=1, wishes=AS_IT_IS)
    assert plain.root == root / "prepared"
    assert asked.root.parent == root
    assert asked.root != plain.root
    before = {path: path.stat().st_mtime_ns for path in (plain.root / "store").iterdir()}
    prepare(open_dataset(root), workers=1, wishes=AS_IT_IS)
    assert prepare(open_dataset(root), workers=1).plan == plain.plan
    assert before == {path: path.stat().st_mtime_ns for path in (plain.root / "store").iterdir()}


def test_in_one_folder_a_new_wish_is_no_edit(root: Path, tmp_path: Path) -> None:
    prepare(open_dataset(root), tmp_path / "p", workers=1)
    assert prepare(open_dataset(root), tmp_path / "p", workers=1, wishes=AS_IT_IS).plan.crop == "none"
    assert prepare(open_dataset(root), tmp_path / "p", workers=1).plan.crop == "foreground"


def test_a_person_decides_before_the_settings(root: Path) -> None:
    folder = prepare(open_dataset(root), workers=1, wishes=AS_IT_IS).root
    file = folder / "plan.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {"filters": [8] * len(values["filters"])}))
    assert (
        prepare(open_dataset(root), workers=1, wishes=AS_IT_IS).plan.filters[0] == 8
    )  # no wish is touched: the edit is kept
    file.write_text(json.dumps(values | {"crop": "foreground", "resampled": True}))
    with pytest.raises(InputError) as caught:
        prepare(open_dataset(root), workers=1, wishes=AS_IT_IS)
    assert len(caught.value.problems) == 2
    assert "crop: the plan was edited and has foreground, the settings ask for none" in str(caught.value)
    assert json.loads(file.read_text())["crop"] == "foreground"


def test_slices_of_one_size(root: Path) -> None:
    wishes = PlanOverrides(spatial_dims=2, slice_size=(32, 32))
    plan = prepare(open_dataset(root), workers=1, wishes=wishes).plan
    assert (plan.spatial_dims, plan.patch, plan.slice_size) == (2, (32, 32), (32, 32))


def test_wishes_that_do_not_go_together(root: Path) -> None:
    with pytest.raises(InputError, match="slice_size: expected null"):
        prepare(open_dataset(root), workers=1, wishes=PlanOverrides(spatial_dims=3, slice_size=(32, 32)))
    with pytest.raises(InputError, match="normalisation: expected 1"):
        prepare(open_dataset(root), workers=1, wishes=PlanOverrides.model_validate({"normalisation": ["none", "none"]}))
    with pytest.raises(InputError, match="each of 0, 1, 2 once"):
        parse(PlanOverrides, {"transpose": [0, 1, 1]}, "plan")


def test_unknown_wishes_and_schemes_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'crop'"):
        parse(PlanOverrides, {"crops": "none"}, "plan")
    with pytest.raises(InputError, match="normalisation"):
        parse(PlanOverrides, {"normalisation": "nothing"}, "plan")


def test_plans_from_before_these_fields_keep_their_digests(root: Path) -> None:
    plan = prepare(open_dataset(root), workers=1).plan
    values = json.loads((root / "prepared" / "plan.json").read_text())
    for name in ("resampled", "crop", "slice_size"):
        del values[name]
    old = Plan.model_validate(values)
    assert (old.digest, old.store_digest, old.edited) == (plan.digest, plan.store_digest, False)
    changed = plan.model_copy(update={"crop": "none"})
    assert changed.digest != plan.digest
    assert changed.store_digest != plan.store_digest
