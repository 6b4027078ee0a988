"""Whole comparisons at toy size: kills, failures, changed settings, jobs."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

import semiseg
from commands import start
from semiseg.comparison.cells import cells_of
from semiseg.comparison.compare import Execution, compare, plan
from semiseg.comparison.grid import Grid
from semiseg.comparison.results import Results
from semiseg.errors import InputError
from semiseg.system.locks import locked
from tiny import tiny_dataset
from toy_grid import SETTINGS, toy_grid

REPEATABLE = ("cases.csv", "summary.csv", "table.csv", "table.json", "table.md", "table.tex")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("grid") / "data", cases=11, labelled=10)


@pytest.fixture(scope="module")
def grid(data: Path) -> Grid:
    return toy_grid(data)


@pytest.fixture(scope="module")
def finished(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return compare(grid, tmp_path_factory.mktemp("reference") / "out")


def texts(output: Path) -> dict[str, str]:
    return {name: (output / name).read_text() for name in REPEATABLE}


class Command:
    """`semiseg compare` in a process of its own. Its words go to a file: helpers that outlive it for a moment would
    hold a pipe open.
    """

    def __init__(self, grid: Path, output: Path) -> None:
        self._said = output.with_suffix(".said")
        self._said.write_text("")
        self.process = start("compare", "--config", grid, "-o", output, said=(self._said, self._said))

    @property
    def said(self) -> str:
        return self._said.read_text()

    def wait_for_work(self) -> None:
        while self.process.exitcode is None and "finished before" not in self.said:
            time.sleep(0.02)


@pytest.mark.slow
def test_five_kills_and_a_stop_leave_the_same_tables_bit_for_bit(finished: Results, tmp_path: Path) -> None:
    """SIGKILL at random moments of the work, then SIGTERM, then to the end."""
    file, output = finished.output / "grid.yaml", tmp_path / "out"
    rng = random.Random(7)
    for _ in range(5):
        killed = Command(file, output)
        killed.wait_for_work()
        time.sleep(rng.uniform(0.0, 5.0))
        killed.process.kill()
        killed.process.join()
    stopped = Command(file, output)
    stopped.wait_for_work()
    stopped.process.terminate()
    stopped.process.join()
    assert stopped.process.exitcode == 0
    assert "Continue with the same command" in stopped.said or "table.md" in stopped.said
    last = Command(file, output)
    last.process.join()
    assert last.process.exitcode == 0, last.said
    assert texts(output) == texts(finished.output)
    assert not list(output.rglob("*.part"))


def test_finished_cells_are_not_done_again(grid: Grid, finished: Results) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished.output / "runs").rglob("*") if path.is_file()}
    said: list[str] = []
    folders = ("cells", "splits", next((finished.output / "runs").iterdir()) / "predictions")
    left = [finished.output / part / ".some.json.4194305.part" for part in folders]
    for path in left:  # of a process that was killed; no process has this number
        path.touch()
    again = compare(grid, finished.output, say=said.append)
    assert said == ["3 cells, 3 of them finished before"]
    assert not any(path.exists() for path in left)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in before}.items()
    assert [row["mean"] for row in again.rows()] == pytest.approx([row["mean"] for row in finished.rows()], nan_ok=True)


def test_rows_say_what_was_measured_and_at_what_cost(finished: Results) -> None:
    rows = {(row["method"], row["role"], row["class"], row["metric"]): row for row in finished.rows()}
    row = rows["mean_teacher", "method", "mean", "dice"]
    control = rows["supervised", "control", "mean", "dice"]
    assert row["difference"] == pytest.approx(row["mean"] - control["mean"])
    assert row["pairs"] == row["cases"] == 6
    assert 0 < row["p"] <= row["p_holm"] <= 1
    assert (row["labels"], rows["supervised", "bound", "mean", "dice"]["labels"]) == ("2", "4")
    assert row["protocol"] == "honest"
    assert min(row["seconds"], row["seconds_per_step"], row["patches_per_second"]) > 0
    assert row["steps"] == 4
    assert row["parameters"] == control["parameters"] > 0  # the teacher is not trained
    assert row["flops_per_step"] > control["flops_per_step"] > 0
    assert 2**25 < row["peak_memory"] < 2**34  # bytes of a process that has loaded PyTorch


def test_every_number_of_the_runs_is_in_the_tidy_file(finished: Results) -> None:
    rows = list(csv.DictReader(io.StringIO((finished.output / "cases.csv").read_text())))
    keys = [(row["method"], row["role"], row["seed"], row["case"], row["class"], row["metric"]) for row in rows]
    assert len(set(keys)) == len(keys) == 3 * 6 * 2 * 10
    for role, folder in (("method", "mean_teacher_l2_s0"), ("bound", "supervised_all_s0")):
        own = csv.DictReader(io.StringIO((finished.output / "runs" / folder / "scores.csv").read_text()))
        wanted = {(row["case"], row["class"]): row["dice"] for row in own}
        found = {(r["case"], r["class"]): r["value"] for r in rows if (r["role"], r["metric"]) == (role, "dice")}
        assert found == wanted


def test_the_pages_of_the_methods_can_read_the_summary(finished: Results, tmp_path: Path) -> None:
    from scripts import load_script

    (tmp_path / "toy.csv").write_text((finished.output / "summary.csv").read_text())
    found = load_script("docs/generate.py").read_results(tmp_path)
    ours = [r.value for r in found if (r.method, r.split, r.metric) == ("mean_teacher", "l2", "dice")]
    row = next(r for r in finished.rows() if (r["method"], r["class"], r["metric"]) == ("mean_teacher", "mean", "dice"))
    assert sum(ours) / len(ours) == pytest.approx(row["mean"], rel=1e-4)


def test_changed_settings_are_one_clear_problem(data: Path, finished: Results) -> None:
    with pytest.raises(InputError) as caught:
        compare(toy_grid(data, steps=5), finished.output)
    (problem,) = caught.value.problems
    assert (
        "steps: was 4, now 5 in mean_teacher_l2_s0" in problem or "steps: was 4, now 5 in supervised_l2_s0" in problem
    )
    assert "choose another --output" in problem
    assert (finished.output / "runs" / "mean_teacher_l2_s0" / "scores.csv").is_file()


def test_changed_cases_are_noticed(data: Path, tmp_path: Path, finished: Results) -> None:
    split = tmp_path / "mine.json"
    split.write_text(json.dumps({"labelled": ["case_000", "case_001"], "test": ["case_005"]}))
    grid = toy_grid(data, labelled=[], splits=[str(split)], test=None, methods=["supervised"], bound=False, steps=1)
    first = compare(grid, tmp_path / "out")
    assert first.rows()[0]["cases"] == 1
    split.write_text(json.dumps({"labelled": ["case_000", "case_002"], "test": ["case_005"]}))
    with pytest.raises(InputError, match=r"the cases in .*mine.json"):
        compare(grid, tmp_path / "out")


def test_a_failed_cell_stands_as_failed_and_stops_nothing(data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "none.safetensors"
    broken = {"method": "mean_teacher", "name": "broken", "settings": {"network": {"weights": str(weights)}}}
    grid = toy_grid(data, methods=[broken, "cps"], bound=False, steps=2)
    said: list[str] = []
    found = compare(grid, tmp_path / "out", say=said.append)
    (failure,) = found.failures
    assert failure.startswith("broken_l2_s0: ")
    assert str(weights) in failure
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| broken | 0 of 1 | - | - | - | - | failed | failed |" in text
    assert str(weights) in text
    assert {row["method"] for row in found.rows()} == {"supervised", "supervised_pair", "cps"}
    said.clear()
    compare(grid, tmp_path / "out", say=said.append)
    assert said[0] == "4 cells, 3 of them finished before"
    assert said[1].startswith("1/1 broken_l2_s0: failed")


@pytest.mark.slow
def test_a_process_that_is_killed_is_a_failed_cell(data: Path, tmp_path: Path) -> None:
    import threading

    output = tmp_path / "out"
    grid = toy_grid(data, methods=["supervised", "cps"], bound=False, steps=20, controls="plain")

    def kill() -> None:
        lock = output / "runs" / "supervised_l2_s0" / ".lock"
        until = time.monotonic() + 60
        while not (lock.is_file() and lock.read_text()) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(int(lock.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    found = compare(grid, output)
    killer.join()
    (failure,) = found.failures
    assert "supervised_l2_s0" in failure
    assert "memory" in failure
    assert {row["method"] for row in found.rows()} == {"cps"}


@pytest.mark.slow
def test_several_cells_at_once_give_the_same_scores(finished: Results, grid: Grid, tmp_path: Path) -> None:
    found = compare(grid, tmp_path / "out", execution=Execution(workers=2))
    assert not found.failures
    for ours, theirs in zip(found.rows(), finished.rows(), strict=True):
        assert [ours[name] for name in ("method", "role", "class", "metric")] == [
            theirs[name] for name in ("method", "role", "class", "metric")
        ]
        assert ours["mean"] == pytest.approx(theirs["mean"], nan_ok=True, rel=1e-3)


@pytest.mark.slow
def test_jobs_by_submitit_on_this_machine(finished: Results, grid: Grid, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    found = compare(grid, tmp_path / "out", execution=Execution(2, "local", {"timeout_min": 5}))
    assert not found.failures
    assert texts(tmp_path / "out") == texts(finished.output)
    with pytest.raises(InputError, match="submitit says"):
        compare(grid, tmp_path / "other", execution=Execution(1, "local", {"no_such": 1}))


def test_without_submitit(grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"semiseg\[slurm\]"):
        compare(grid, tmp_path / "out", execution=Execution(1, "slurm"))


def test_the_plan_before_and_after(data: Path, grid: Grid, finished: Results, tmp_path: Path) -> None:
    text = plan(grid, tmp_path / "out")
    assert sum(line.endswith("unknown") for line in text.splitlines()) == 3
    assert "3 cells: 0 finished, 0 failed, 3 open." in text
    assert "Time unknown until a cell of the same method is finished: supervised, mean_teacher." in text
    assert not (tmp_path / "out").exists()
    more = plan(toy_grid(data, seeds=3), finished.output, execution=Execution(2))
    assert "9 cells: 3 finished, 0 failed, 6 open." in more
    assert "Training of 6 of them:" in more
    assert "unknown" not in more


def test_a_plan_without_data() -> None:
    text = plan(toy_grid(Path("none"), methods=["all"]), Path("nowhere"))
    assert "micd_l2_s0" in text


def test_what_cannot_be_compared(grid: Grid, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--slurm"):
        compare(grid, tmp_path / "out", execution=Execution(0, slurm={"a": 1}))
    with pytest.raises(InputError, match="expected a dataset folder"):
        compare(toy_grid(tmp_path / "none"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_comparisons_do_not_share_a_folder(grid: Grid, finished: Results) -> None:
    with locked(finished.output), pytest.raises(InputError, match="is working in this folder"):
        compare(grid, finished.output)


@pytest.fixture
def presets() -> None:
    pytest.importorskip("semiseg.settings.presets")


@pytest.mark.usefixtures("presets")
def test_a_paper_s_grid_without_its_data() -> None:
    """MICD's table of AMOS: 5 % of 216 scans are 10 there."""
    from semiseg.comparison.grid import load_grid

    grid = load_grid(None, {"presets": "amos", "labelled": ["5%"], "methods": "all"})
    cells = cells_of(grid)
    assert {cell.config.labelled for cell in cells} == {10, None}
    assert "amos_micd_l10_s0" in plan(grid, Path("nowhere"))


def test_python_gives_dictionaries_or_a_frame(grid: Grid, finished: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    call = {**grid.model_dump(exclude={"methods"}), "methods": ["mean_teacher"]}
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = semiseg.compare(output=finished.output, **call)
    assert rows[0]["method"] == "supervised"
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    assert semiseg.compare(output=finished.output, **call)[0] == "frame"


def test_patients_are_the_unit_from_the_run_to_every_table(tmp_path: Path) -> None:
    """Two scans of each patient: eight scored cases are four; names out of patients.json are written nowhere."""
    data = tiny_dataset(tmp_path / "data", cases=12, labelled=12, shape=(16, 16, 16))
    names = {f"case_{i:03d}": f"Erika Mustermann {i // 2}" for i in range(12)}
    (data / "patients.json").write_text(json.dumps(names))
    output = tmp_path / "out"
    grid = toy_grid(data, methods=["mean_teacher"], test=8, steps=1, bound=False)
    found = compare(grid, output)
    row = next(r for r in found.rows() if (r["role"], r["class"], r["metric"]) == ("method", "mean", "dice"))
    assert (row["cases"], row["patients"], row["pairs"]) == (8, 4, 4)
    assert math.isnan(row["p"])  # below six patients, though there are eight scans
    for name in ("table.md", "table.tex"):
        assert "4 (8 scans)" in (output / name).read_text()
    facts = json.loads((output / "runs" / "mean_teacher_l2_s0" / "provenance.json").read_text())
    assert len(facts["patients"]) == 8
    assert all(names[case] == names[patient] for case, patient in facts["patients"].items())
    scores = json.loads((output / "runs" / "mean_teacher_l2_s0" / "scores.json").read_text())
    assert (scores["cases"], scores["patients"]) == (8, 4)
    rows = list(csv.DictReader(io.StringIO((output / "cases.csv").read_text())))
    assert {row["case"]: row["patient"] for row in rows} == facts["patients"]
    assert not [file for file in output.rglob("*") if file.is_file() and b"Mustermann" in file.read_bytes()]
    for run in (output / "runs").iterdir():  # as a version wrote them that did not know of patients
        facts = json.loads((run / "provenance.json").read_text())
        del facts["patients"]
        (run / "provenance.json").write_text(json.dumps(facts))
    older = compare(toy_grid(data, methods=["mean_teacher"], test=8, steps=1, bound=False, paired_test="t"), output)
    row = next(r for r in older.rows() if (r["role"], r["class"], r["metric"]) == ("method", "mean", "dice"))
    assert (row["patients"], row["test"]) == (8, "t")
    text = (output / "table.md").read_text()
    assert "each case counts as a patient of its own" in text
    assert "paired t-test" in text


def test_a_comparison_in_epochs_goes_on_and_is_trained_alike(data: Path, tmp_path: Path) -> None:
    """One labelled case per step for the control as for the methods, in a folder that is continued as it is."""
    epochs = {**SETTINGS, "epochs": 1, "optimiser": {"unit": "epoch"}}
    grid = toy_grid(data, methods=["mean_teacher", "lefed"], steps=None, settings=epochs)
    found = compare(grid, tmp_path / "out")
    assert not found.failures
    rows = {(row["method"], row["role"]): (row["updates"], row["labelled_patches"]) for row in found.rows()}
    assert rows == {
        ("supervised", "control"): ("3", "2"),  # five training cases, two unlabelled ones per step
        ("supervised-3x-updates", "control"): ("9", "2"),
        ("mean_teacher", "method"): ("3", "2"),
        ("lefed", "method"): ("9", "2"),
        ("supervised", "bound"): ("3", "2"),
    }
    text = (tmp_path / "out" / "table.md").read_text()
    assert "unequal training length" not in text
    assert "| lefed | supervised-3x-updates | 6 |" in text
    said: list[str] = []
    compare(grid, tmp_path / "out", say=said.append)
    assert said == ["5 cells, 5 of them finished before"]


def test_printed_lengths_are_stamped_where_they_are_unequal(data: Path, tmp_path: Path) -> None:
    longer = {"method": "mean_teacher", "settings": {"steps": 2}}
    settings = {**SETTINGS, "steps": 1, "protocol": "paper"}
    found = compare(toy_grid(data, methods=[longer], steps=None, settings=settings), tmp_path / "out")
    assert not found.failures
    assert "unequal training length" in (tmp_path / "out" / "table.md").read_text()
    assert "unequal training length" in (tmp_path / "out" / "table.tex").read_text()
