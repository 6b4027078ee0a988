import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter

import nibabel as nib
import numpy as np
import pytest

from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.preparing import cases
from semiseg.preparing import prepare as module
from semiseg.preparing.overrides import PlanOverrides
from semiseg.preparing.prepare import prepare
from semiseg.preparing.store import CaseFiles, open_store
from semiseg.scans import readers
from semiseg.scans.geometry import restore_label
from semiseg.scans.readers import read_label
from tiny import tiny_dataset, write_nifti


def content(folder):
    """Hash of every file of a prepared folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def times(folder):
    return {file.name: file.stat().st_mtime_ns for file in (folder / "store").iterdir()}


@pytest.fixture
def root(tmp_path):
    return tiny_dataset(tmp_path / "data", cases=4, labelled=2)


def edit_plan(folder, **values):
    path = folder / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_store_holds_what_was_prepared(root):
    store = prepare(open_dataset(root), workers=1)
    assert store.root == root / "prepared"
    assert store.cases == ("case_000", "case_001", "case_002", "case_003")
    assert [store.has_label(case) for case in store.cases] == [True, True, False, False]
    for case in store.cases:
        image, meta = store.image(case), store.meta(case)
        assert isinstance(image, np.memmap)
        assert image.dtype == np.float16
        assert image.shape == (1, *meta.geometry.stored)
        assert hashlib.sha256(np.ascontiguousarray(image)).hexdigest() == meta.content
    label = store.label("case_000")
    assert label.dtype == np.uint8
    assert store.meta("case_000").voxels == tuple(np.bincount(label.ravel(), minlength=3))
    original = read_label(root / "labelsTr" / "case_000.nii.gz").array
    np.testing.assert_array_equal(restore_label(label, store.meta("case_000").geometry), original)
    assert store.meta("case_002").voxels is None
    with pytest.raises(KeyError, match="case_002"):
        store.label("case_002")


def test_number_of_workers_changes_nothing(root, tmp_path):
    prepare(open_dataset(root), tmp_path / "one", workers=1)
    prepare(open_dataset(root), tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_progress_counts_cases(root):
    seen = []
    prepare(open_dataset(root), workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    seen.clear()
    prepare(open_dataset(root), workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 4)]


def test_second_time_reads_no_scan(root, monkeypatch):
    before = content(prepare(open_dataset(root), workers=1).root)

    def refuse(*_):
        raise AssertionError("nothing had changed")

    monkeypatch.setattr(module, "check_and_measure", refuse)
    monkeypatch.setattr(module, "prepare_case", refuse)
    assert content(prepare(open_dataset(root), workers=1).root) == before


def test_files_are_decoded_once_to_plan_and_to_store(root, monkeypatch):
    reads = Counter()
    plain = readers.format_of

    class Counting:
        def __init__(self, path):
            self.format = plain(path)
            self.read_header = self.format.read_header

        def read_volume(self, path, request):
            reads[path.name] += 1
            return self.format.read_volume(path, request)

    monkeypatch.setattr(readers, "format_of", Counting)
    prepare(open_dataset(root), workers=1)
    assert set(reads.values()) == {1}
    assert len(reads) == 4 + 2, "images and labels"
    edit_plan(root / "prepared", spacing=[2.0, 2.0, 2.0])
    prepare(open_dataset(root), workers=1)
    assert set(reads.values()) == {2}, "another plan needs no second check"


def test_touched_files_are_compared_by_content(root, monkeypatch):
    store = prepare(open_dataset(root), workers=1)
    before = times(store.root)
    for file in (root / "imagesTr").iterdir():
        os.utime(file, (1, 1))

    def refuse(*_):
        raise AssertionError("the content is the same")

    with monkeypatch.context() as patch:
        patch.setattr(cases, "preprocess", refuse)
        prepare(open_dataset(root), workers=1)
    after = times(store.root)
    assert {name for name in after if after[name] != before[name]} == {f"{case}.json" for case in store.cases}
    monkeypatch.setattr(module, "prepare_case", refuse)
    prepare(open_dataset(root), workers=1)


def test_changed_scan_is_prepared_again(root):
    before = content(prepare(open_dataset(root), workers=1).root)
    label = read_label(root / "labelsTr" / "case_001.nii.gz").array.copy()
    label[10, 9, 8] = 2 - label[10, 9, 8]
    write_nifti(root / "labelsTr" / "case_001.nii.gz", label)
    after = content(prepare(open_dataset(root), workers=1).root)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"sources.json", "store/case_001.json", "store/case_001.label.npy"}


def test_new_lost_and_unlabelled_cases(root):
    prepare(open_dataset(root), workers=1)
    (root / "imagesTr" / "case_003_0000.nii.gz").rename(root / "imagesTr" / "case_009_0000.nii.gz")
    (root / "labelsTr" / "case_001.nii.gz").unlink()
    store = prepare(open_dataset(root), workers=1)
    assert store.cases == ("case_000", "case_001", "case_002", "case_009")
    assert not store.has_label("case_001")
    expected = {f"{case}{ending}" for case in store.cases for ending in (".json", ".image.npy")}
    assert set(times(store.root)) == expected | {"case_000.label.npy"}


def test_edited_plan_is_kept_and_applied(root):
    store = prepare(open_dataset(root), workers=1)
    shape = store.image("case_000").shape
    before = times(store.root)
    edit_plan(store.root, labelled_per_batch=1)
    assert prepare(open_dataset(root), workers=1).plan.labelled_per_batch == 1
    assert times(store.root) == before
    edit_plan(store.root, spacing=[2.0, 2.0, 2.0])
    with pytest.raises(InputError, match=r"plan.json was edited after 4 cases .*semiseg prepare"):
        open_store(store.root)
    edited = prepare(open_dataset(root), workers=1)
    assert edited.plan.spacing == (2, 2, 2)
    assert all(abs(new - old / 2) < 1 for new, old in zip(edited.image("case_000").shape[1:], shape[1:], strict=True))
    (store.root / "plan.json").unlink()
    assert prepare(open_dataset(root), workers=1).plan.spacing == (1, 1, 1)


def _imported(root, **told):
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"imported": told}))


def test_what_an_import_normalised_is_not_normalised_again(root):
    _imported(root, normalised=True)
    store = prepare(open_dataset(root), workers=1)
    assert {scale.scheme for scale in store.plan.normalisation} == {"none"}
    assert "the import has brought intensities to a common scale" in store.plan.reasons["normalisation"]
    case = next(iter(store.cases))
    values = np.asarray(nib.load(root / "imagesTr" / f"{case}_0000.nii.gz").dataobj)
    assert (store.image(case).min(), store.image(case).max()) == (values.min(), values.max())
    _imported(root, normalised=False)
    assert prepare(open_dataset(root), workers=1).plan.normalisation[0].scheme == "zscore"


def test_raw_intensities_that_are_to_be_taken_as_they_are_are_told(root, caplog):
    wishes = PlanOverrides.model_validate({"normalisation": "none"})
    for _ in range(2):
        prepare(open_dataset(root), workers=1, wishes=wishes)
    told = [
        record.getMessage() for record in caplog.records if "expected normalised intensities" in record.getMessage()
    ]
    assert len(told) == 1, "once per plan"
    assert "bring the scans in by semiseg import" in told[0]


def test_given_plan_is_kept_from_then_on(root, tmp_path):
    given = prepare(open_dataset(root), tmp_path / "other", workers=1).plan.model_copy(
        update={"spacing": (2.0, 1.0, 1.0)}
    )
    given.save(tmp_path / "given.json")
    assert prepare(open_dataset(root), workers=1, plan=tmp_path / "given.json").plan.spacing == (2, 1, 1)
    assert prepare(open_dataset(root), workers=1).plan.spacing == (2, 1, 1)


def test_unedited_plan_follows_the_data(root):
    prepare(open_dataset(root), workers=1)
    tiny_dataset(root, cases=9, labelled=2, shape=(30, 30, 30))
    assert prepare(open_dataset(root), workers=1).plan.patch == (32, 32, 32)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"patchs": [16, 16, 16]}, "unknown setting 'patchs': did you mean 'patch'?"),
        ({"class_names": ["background", "x"]}, "class_names: the dataset has ['background', 'class1', 'class2']"),
    ],
)
def test_wrong_plans_are_refused(root, edit, expected):
    edit_plan(prepare(open_dataset(root), workers=1).root, **edit)
    with pytest.raises(InputError) as caught:
        prepare(open_dataset(root), workers=1)
    assert expected in str(caught.value)


def test_problems_of_the_dataset_are_told_before_anything_is_written(root):
    (root / "imagesTr" / "case_001_0000.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="case_001"):
        prepare(open_dataset(root), workers=1)
    assert not (root / "prepared" / "plan.json").exists()


def test_store_that_is_not_there_or_not_whole(root, tmp_path):
    with pytest.raises(InputError, match="semiseg prepare"):
        open_store(tmp_path / "nothing")
    store = prepare(open_dataset(root), workers=1)
    (store.root / "store" / "case_001.label.npy").unlink()
    (store.root / "store" / "case_002.json").write_text('{"version"')
    with pytest.raises(InputError, match=r"2 of 4 cases are not prepared \(case_001, case_002\)"):
        open_store(store.root)
    assert prepare(open_dataset(root), workers=1).cases == store.cases


def test_folder_that_cannot_be_written(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.prepared: cannot be written .*--prepared DIR"):
        prepare(open_dataset(root), tmp_path / "file" / "prepared", workers=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_full_disk(root, workers):
    """A limit on the size of files stands in for a full disk; it reaches the worker processes."""
    code = (
        "import resource, sys; from pathlib import Path; from semiseg.preparing.prepare import prepare\n"
        "from semiseg.datasets.dataset import open_dataset\n"
        "from semiseg.errors import InputError\n"
        "if __name__ == '__main__':\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))\n"
        f"    try: prepare(open_dataset(Path(sys.argv[1])), workers={workers})\n"
        "    except InputError as error: print(error); sys.exit(2)\n"
    )
    script = root / "script.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script, root], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "--prepared DIR" in done.stdout
    assert "cannot be written" in done.stdout
    assert not list((root / "prepared" / "store").glob("*.json"))
    assert prepare(open_dataset(root), workers=1).cases


def test_killed_at_any_moment_and_run_again(tmp_path):
    root = tiny_dataset(tmp_path / "data", cases=10, labelled=5, shape=(32, 32, 32))
    prepare(open_dataset(root), tmp_path / "whole", workers=1)
    code = "import sys; from pathlib import Path; from semiseg.preparing.prepare import prepare\n"
    code += "from semiseg.datasets.dataset import open_dataset\n"
    code += "if __name__ == '__main__': prepare(open_dataset(Path(sys.argv[1])), Path(sys.argv[2]), workers=2)\n"
    script = tmp_path / "script.py"
    script.write_text(code)
    output = tmp_path / "killed"
    wanted = sorted(random.sample(range(10), 3))
    for cases_done in wanted:
        process = subprocess.Popen([sys.executable, script, root, output])
        while process.poll() is None and len(list((output / "store").glob("*.json"))) < cases_done:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.02))
        process.kill()
        process.wait()
        whole = [file.name.removesuffix(".json") for file in (output / "store").glob("*.json")]
        for case in whole:
            files = CaseFiles(output / "store", case)
            meta = files.read_meta()
            assert meta is not None
            assert hashlib.sha256(np.load(files.image)).hexdigest() == meta.content
            if meta.label_content:
                assert hashlib.sha256(np.load(files.label)).hexdigest() == meta.label_content
    prepare(open_dataset(root), output, workers=1)
    assert content(output) == content(tmp_path / "whole")


def test_real_scans_keep_their_labels(real_data, tmp_path):
    """The foreground of the images holds every labelled voxel, though no label was looked at."""
    folder = real_data / "hippocampus"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    small = tmp_path / "data"
    for sub in ("imagesTr", "labelsTr"):
        (small / sub).mkdir(parents=True)
        for file in sorted((folder / sub).iterdir())[:12]:
            (small / sub / file.name).symlink_to(file)
    (small / "dataset.json").write_text((folder / "dataset.json").read_text())
    store = prepare(open_dataset(small), workers=1)
    assert store.plan.spatial_dims == 3
    for case in store.cases:
        original = read_label(small / "labelsTr" / f"{case}.nii.gz").array
        np.testing.assert_array_equal(restore_label(store.label(case), store.meta(case).geometry), original)


def test_a_channel_that_is_almost_empty_is_measured_by_what_it_holds(tmp_path):
    root = tiny_dataset(tmp_path / "data", cases=2, labelled=2, shape=(200, 140, 20), channels=2)
    for case in ("case_000", "case_001"):
        clicks = np.zeros((200, 140, 20), np.int16)
        clicks[3, 5, 7] = clicks[151, 101, 13] = 1  # places that a thinned-out sample misses
        write_nifti(root / "imagesTr" / f"{case}_0001.nii.gz", clicks)
    store = prepare(open_dataset(root), workers=1)
    assert np.isfinite(store.image("case_000")).all()
    assert store.image("case_000")[1].max() > store.image("case_000")[1].min()
