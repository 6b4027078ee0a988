"""The trust boundary: what a dataset, a run folder or a weights file of somebody else's can not do."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import semiseg
from scans.foreign import affine_of, write_dicom
from scripts import ROOT
from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.scans.formats.base import kept_locale
from tiny import tiny_dataset, write_nifti

SOURCES = sorted((ROOT / "src").rglob("*.py"))
RUNS_CODE = {"eval", "exec", "compile", "__import__", "execfile"}
MARK = "ZZMARKZZ"
MARKED = {
    "0010|0010": f"{MARK}^Name",
    "0010|0020": f"{MARK}-ID",
    "0010|0030": "19010203",
    "0010|1040": f"{MARK} Street",
    "0008|0080": f"{MARK} Hospital",
    "0008|0090": f"{MARK}^Referrer",
    "0008|1030": f"{MARK} study",
    "0008|103e": f"{MARK} series",
    "0010|4000": f"{MARK} comment",
}


def _calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Calls in a file by their dotted name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            found.append((ast.unparse(node.func), node))
    return found


def _keyword(call: ast.Call, name: str) -> object:
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), None)


def test_no_line_of_the_package_runs_what_it_reads() -> None:
    assert len(SOURCES) > 200
    for path in SOURCES:
        _check_calls(path)


def _check_calls(path: Path) -> None:
    for name, call in _calls(path):
        last = name.rsplit(".", 1)[-1]
        assert name not in RUNS_CODE, f"{path}, line {call.lineno}: {name}"
        assert last not in ("loads", "load") or not name.startswith(("pickle.", "marshal.", "shelve.", "dill."))
        if name == "torch.load":
            assert _keyword(call, "weights_only") == "True", f"{path}, line {call.lineno}"
        if last in ("load", "read_array", "memmap") and name.startswith(("np.", "numpy.")):
            assert _keyword(call, "allow_pickle") in (None, "False"), f"{path}, line {call.lineno}"
        if name.startswith("yaml."):
            assert last not in ("load", "load_all", "unsafe_load", "full_load", "Loader", "UnsafeLoader", "FullLoader")
        assert _keyword(call, "shell") in (None, "False"), f"{path}, line {call.lineno}: {name}"
        assert name not in ("os.system", "os.popen"), f"{path}, line {call.lineno}"


def test_the_scan_of_the_sources_sees_what_it_looks_for(tmp_path: Path) -> None:
    for line in ("eval('1')", "torch.load(p)", "yaml.load(t)", "np.load(p, allow_pickle=True)", "pickle.load(f)"):
        (tmp_path / "a.py").write_text(line)
        with pytest.raises(AssertionError):
            _check_calls(tmp_path / "a.py")


def _console_script(folder: Path) -> Path:
    """What pip installs as `semiseg`."""
    folder.mkdir()
    script = folder / "semiseg"
    script.write_text("from semiseg.cli import main\nif __name__ == '__main__':\n    main()\n")
    return script


@pytest.mark.slow
def test_no_file_of_a_dataset_is_imported(tmp_path: Path) -> None:
    """Also not by the worker processes, which begin in the working directory."""
    data = tiny_dataset(tmp_path / "data", cases=2, labelled=2, shape=(8, 8, 8))
    trap = f"open({str(tmp_path / 'pwned')!r}, 'a').write(__name__ + '\\n')\n"
    for name in ("semiseg", "sitecustomize", "usercustomize", "conftest", "setup", "json", "numpy", "torch", "yaml"):
        (data / f"{name}.py").write_text(trap)
    (data / "multiprocessing").mkdir()
    (data / "multiprocessing" / "__init__.py").write_text(trap)
    script = _console_script(tmp_path / "bin")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment.pop("PYTHONSAFEPATH", None)
    for words in (["check", "."], ["prepare", ".", "--workers", "2", "--prepared", "../prepared"]):
        done = subprocess.run(
            [sys.executable, str(script), *words],
            cwd=data,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "pwned").exists(), (tmp_path / "pwned").read_text()


@pytest.mark.parametrize("name", ["../../outside", "/etc/hostname", "a/../../outside", "..\\outside", "C:\\outside"])
def test_names_in_dataset_json_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    data = tiny_dataset(tmp_path / "data", cases=1, labelled=1, shape=(5, 5, 5))
    good = {"case_000": {"images": ["imagesTr/case_000_0000.nii.gz"], "label": "labelsTr/case_000.nii.gz"}}
    description = json.loads((data / "dataset.json").read_text())
    for listing in (
        {"case_000": {**good["case_000"], "images": [name]}},
        {"case_000": {**good["case_000"], "label": name}},
        {name: good["case_000"]},
    ):
        (data / "dataset.json").write_text(json.dumps({**description, "dataset": listing}))
        with pytest.raises(InputError, match="expected files inside of the dataset folder"):
            open_dataset(data)


@pytest.mark.parametrize("case", ["a/b", "line\nbreak", "\x1b[31mred", "\ud800", "\u202egpj"])
def test_case_ids_are_parts_of_file_names_that_can_be_printed(tmp_path: Path, case: str) -> None:
    data = tiny_dataset(tmp_path / "data", cases=1, labelled=1, shape=(5, 5, 5))
    description = json.loads((data / "dataset.json").read_text())
    description["dataset"] = {case: {"images": ["imagesTr/case_000_0000.nii.gz"], "label": None}}
    (data / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="case ids of printable characters without slashes"):
        open_dataset(data)
    del description["dataset"]
    (data / "dataset.json").write_text(json.dumps(description))
    if "/" not in case and case != "\ud800":
        (data / "imagesTr" / f"{case}_0000.nii.gz").write_bytes(b"")
        with pytest.raises(InputError, match=r"case ids of printable characters|expected a name like CASE_0000"):
            open_dataset(data)


def test_links_to_scans_are_followed_for_reading(tmp_path: Path) -> None:
    """Hospitals keep scans on other disks; what is read is a regular file, never a pipe or a device."""
    data = tiny_dataset(tmp_path / "data", cases=2, labelled=2, shape=(8, 8, 8))
    scan = data / "imagesTr" / "case_000_0000.nii.gz"
    scan.rename(tmp_path / "elsewhere.nii.gz")
    scan.symlink_to(tmp_path / "elsewhere.nii.gz")
    assert semiseg.check(data, workers=1).errors == ()
    for make in (lambda: os.mkfifo(scan), lambda: scan.symlink_to("/dev/zero")):
        scan.unlink()
        make()
        assert any("expected a NIfTI file, found none" in problem for problem in semiseg.check(data, workers=1).errors)


@pytest.mark.parametrize("place", ["prepared", "prepared/store", "prepared/.lock"])
def test_preparing_writes_and_removes_nothing_through_a_link(tmp_path: Path, place: str) -> None:
    data = tiny_dataset(tmp_path / "data", cases=2, labelled=2, shape=(8, 8, 8))
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.json").write_text("{}")
    (data / place).parent.mkdir(exist_ok=True)
    (data / place).symlink_to(home if place != "prepared/.lock" else home / "mine.json")
    with pytest.raises(InputError, match="expected a place to write to, came a link to"):
        semiseg.prepare(data, workers=1)
    assert [file.name for file in home.iterdir()] == ["mine.json"]
    assert (home / "mine.json").read_text() == "{}"


@pytest.mark.parametrize("name", [".lock", "log.jsonl", "checkpoints", "tensorboard", "predictions"])
def test_a_run_writes_nothing_through_a_link(tmp_path: Path, name: str) -> None:
    from semiseg.runs.folder import Run, start
    from semiseg.system.locks import locked

    run = Run(tmp_path / "run")
    run.path.mkdir()
    (tmp_path / "mine").write_text("kept")
    (run.path / name).symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match=rf"{name}: expected a place to write to, came a link"), locked(run.path):
        start(run, None, None, None, {})  # type: ignore[arg-type]
    assert (tmp_path / "mine").read_text() == "kept"


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    from semiseg.system.files import write_text

    (tmp_path / "mine").write_text("kept")
    (tmp_path / f".a.txt.{os.getpid()}.part").symlink_to(tmp_path / "mine")
    (tmp_path / "a.txt").symlink_to(tmp_path / "mine")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "mine").read_text() == "kept"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_split_files_name_cases_and_nothing_else(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", cases=2, labelled=2, shape=(8, 8, 8))
    (tmp_path / "split.json").write_text(json.dumps({"labelled": ["case_000"], "test": ["../../etc/passwd"]}))
    with pytest.raises(InputError, match=r"has no case '\.\./\.\./etc/passwd'"):
        semiseg.train(data, tmp_path / "run", split=tmp_path / "split.json")


def _mark(folder: Path) -> None:
    """Give every file of a series a name, a birthday and more."""
    for file in sorted(folder.iterdir()):
        image = sitk.ReadImage(str(file))
        for key, value in MARKED.items():
            image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(file))
        with kept_locale():
            writer.Execute(image)


@pytest.mark.slow
def test_what_dicom_says_of_people_is_in_no_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tiny_dataset(tmp_path / "source", cases=3, labelled=3, shape=(16, 14, 12))
    for index in range(3):
        scan = np.asarray(nib.load(source / "imagesTr" / f"case_00{index}_0000.nii.gz").dataobj)
        affine = affine_of(np.eye(3))
        with kept_locale():
            _mark(
                write_dicom(tmp_path / "scans" / f"P{index}", scan, affine, series=f"1.2.826.0.1.3680043.8.498.{index}")
            )
        label = np.asarray(nib.load(source / "labelsTr" / f"case_00{index}.nii.gz").dataobj)
        (tmp_path / "labels").mkdir(exist_ok=True)
        write_nifti(tmp_path / "labels" / f"P{index}_seg.nii.gz", label, affine)
    assert all(MARK.encode() in file.read_bytes() for file in (tmp_path / "scans").rglob("*.dcm"))
    out = tmp_path / "out"
    out.mkdir()
    made = semiseg.init_dataset(tmp_path / "scans", tmp_path / "labels", out / "data", workers=1)
    report = semiseg.check(out / "data", workers=1)
    small = {"network": {"options": {"filters": [4, 8]}}, "batch": {"patch": [16, 16, 16]}, "precision": "fp32"}
    run = semiseg.train(out / "data", out / "run", method="supervised", test=1, steps=2, **small)
    semiseg.predict(run.path, tmp_path / "scans", out / "labels", accelerator="cpu")
    semiseg.predict(run.path, accelerator="cpu")
    semiseg.evaluate(run.path, workers=1)
    semiseg.report(run.path)
    shown = "".join((*capfd.readouterr(), *made.notes, *report.warnings, report.summary()))
    for said in (MARK, "19010203"):
        assert said not in shown
        for file in out.rglob("*"):
            assert said not in file.name
            content = file.read_bytes() if file.is_file() else b""
            assert said.encode() not in content, file
            if file.name.endswith(".gz"):
                import gzip

                assert said.encode() not in gzip.decompress(content), file
