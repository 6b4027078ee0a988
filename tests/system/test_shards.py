"""Shards and jobs do together exactly what one call does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import semiseg
from semiseg.cli import app
from semiseg.errors import InputError
from semiseg.evaluation import evaluate as module
from semiseg.preparing.store import open_store
from semiseg.system.cluster import Cluster, on_cluster
from semiseg.system.locks import locked
from semiseg.system.shards import Shard
from tiny import tiny_dataset


def content(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Hash of every visible file."""
    files = [file for file in sorted(folder.rglob(pattern)) if file.is_file()]
    names = {file: file.relative_to(folder) for file in files}
    return {
        str(name): hashlib.sha256(file.read_bytes()).hexdigest()
        for file, name in names.items()
        if not any(part.startswith(".") for part in name.parts)
    }


@pytest.mark.parametrize("count", [1, 2, 5, 12, 13])
@pytest.mark.parametrize("number", [0, 1, 4, 12])
def test_every_case_is_in_one_shard(number, count):
    cases = {f"case{7 * index % 13}" for index in range(number)}
    parts = [Shard(index, count).of(cases) for index in range(1, count + 1)]
    assert sorted(case for part in parts for case in part) == sorted(cases)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts[0] == Shard.parse(f"1/{count}").of(sorted(cases, reverse=True))


@pytest.mark.parametrize("text", ["5/4", "0/4", "1/0", "a/b", "1", "1/2/3", "-1/2", ""])
def test_wrong_shards(text):
    with pytest.raises(InputError, match="such as 2/8"):
        Shard.parse(text)


def test_parts_share_a_folder_that_nobody_holds_as_a_whole(tmp_path):
    with locked(tmp_path, part="1_of_2"), locked(tmp_path, part="2_of_2"):
        for part in ("", "1_of_2"):
            with pytest.raises(InputError, match="is working in this folder"), locked(tmp_path, part=part):
                pass
    with locked(tmp_path), pytest.raises(InputError, match="is working"), locked(tmp_path, part="1_of_2"):
        pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("shards") / "data", cases=5, labelled=5)


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    settings = {"method": "supervised", "accelerator": "cpu", "network": {"options": {"filters": [4, 8]}}}
    batch = {"patch": [16, 16, 16]}
    return semiseg.train(data, data.parent / "run", labelled=2, test=3, steps=2, batch=batch, **settings).path


def test_prepare(data, tmp_path):
    semiseg.prepare(data, tmp_path / "one", workers=1)
    store = semiseg.prepare(data, tmp_path / "parts", workers=1, shard="2/2")
    assert store.cases == ("case_001", "case_003")
    with pytest.raises(InputError, match="3 of 5 cases are not prepared"):
        open_store(tmp_path / "parts")
    semiseg.prepare(data, tmp_path / "parts", workers=1, shard="1/2")
    assert len(open_store(tmp_path / "parts").cases) == 5
    assert content(tmp_path / "parts") == content(tmp_path / "one")


def test_predict_and_evaluate(data, run, tmp_path, monkeypatch):
    scans, labels = data / "imagesTr", data / "labelsTr"
    semiseg.predict(run, scans, tmp_path / "one")
    semiseg.evaluate(tmp_path / "one", labels)
    written = [semiseg.predict(run, scans, tmp_path / "parts", shard=f"{index}/3") for index in (3, 1, 2)]
    assert [sorted(part) for part in written] == [["case_002"], ["case_000", "case_003"], ["case_001", "case_004"]]
    for index in (2, 1):
        assert semiseg.evaluate(tmp_path / "parts", labels, shard=f"{index}/3") is None
    assert not (tmp_path / "parts" / "scores.csv").exists()
    scored = []
    score = module._score_classes
    monkeypatch.setattr(module, "_score_classes", lambda *args: scored.append(1) or score(*args))
    semiseg.evaluate(tmp_path / "parts", labels)
    assert len(scored) == 1, "only the case of the shard that did not run"
    assert content(tmp_path / "parts") == content(tmp_path / "one")
    assert not (tmp_path / "parts" / ".score_parts").exists()


def test_scores_of_other_files_or_rules_are_not_taken_over(data, run, tmp_path):
    labels = data / "labelsTr"
    semiseg.predict(run, data / "imagesTr", tmp_path / "found")
    before = semiseg.evaluate(tmp_path / "found", labels, tmp_path / "whole", empty="nan").to_csv()
    semiseg.evaluate(tmp_path / "found", labels, tmp_path / "out", empty="official", shard="1/1")
    first, second = (tmp_path / "found" / f"case_00{index}.nii.gz" for index in (0, 1))
    assert semiseg.evaluate(tmp_path / "found", labels, tmp_path / "out", empty="nan").to_csv() == before
    semiseg.evaluate(tmp_path / "found", labels, tmp_path / "out", empty="nan", shard="1/1")
    first.write_bytes(second.read_bytes())
    after = semiseg.evaluate(tmp_path / "found", labels, tmp_path / "out", empty="nan").to_csv()
    assert after == semiseg.evaluate(tmp_path / "found", labels, tmp_path / "again", empty="nan").to_csv() != before


def test_the_test_labels_of_a_run_are_counted_by_the_call_that_gives_scores(run):
    semiseg.predict(run)
    for shard in ("1/2", "2/2"):
        assert semiseg.evaluate(run, shard=shard) is None
    assert semiseg.evaluate(run).provenance["test_opened"] == 1
    assert json.loads((run / "test_opened.json").read_text()) == {"times": 1}


@pytest.mark.slow
def test_jobs(data, run, tmp_path):
    pytest.importorskip("submitit")
    jobs = Cluster("local", 2, {"timeout_min": 5})
    semiseg.prepare(data, tmp_path / "one", workers=1)
    assert len(semiseg.prepare(data, tmp_path / "store", workers=1, cluster=jobs).cases) == 5
    assert content(tmp_path / "store") == content(tmp_path / "one")
    semiseg.predict(run, data / "imagesTr", tmp_path / "a")
    seen = []
    written = semiseg.predict(run, data / "imagesTr", tmp_path / "b", cluster=jobs, done=seen.append)
    assert list(written) == seen == [f"case_00{index}" for index in range(5)]
    assert all(path.is_file() for path in written.values())
    semiseg.evaluate(tmp_path / "a", data / "labelsTr")
    words = ["evaluate", str(tmp_path / "b"), str(data / "labelsTr"), "--launcher", "local", "--jobs", "2"]
    done = CliRunner().invoke(app, [*words, "--slurm", "timeout_min=5"])
    assert done.exit_code == 0, done.output
    assert content(tmp_path / "b") == content(tmp_path / "a")
    with pytest.raises(InputError, match="there is none") as caught:
        semiseg.evaluate(tmp_path / "b", tmp_path / "nothing", cluster=jobs)
    assert len(caught.value.problems) == 1, "both shards say the same"


@pytest.mark.slow
def test_a_job_that_dies_is_told(tmp_path):
    pytest.importorskip("submitit")
    with pytest.raises(InputError, match=r"shard 1/1, job .* ended without a result .*see .*err"):
        on_cluster(_die, Cluster("local", 1, {"timeout_min": 5}), tmp_path)


def _die(shard: str) -> None:
    raise RuntimeError(f"shard {shard} is dead")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--shard", "5/4"], "shard 5/4: expected i/n"),
        (["--shard", "1/2", "--launcher", "local"], "leave one of them out"),
        (["--slurm", "timeout_min=5"], "add --launcher slurm"),
        (["--launcher", "slrm"], "did you mean 'slurm'?"),
        (["--launcher", "local", "--jobs", "0"], "at least one job"),
        (["--launcher", "local", "--slurm", "timeout_min"], "expected NAME=VALUE"),
    ],
)
def test_wrong_words(data, tmp_path, words, told):
    done = CliRunner().invoke(app, ["prepare", str(data), "--prepared", str(tmp_path / "store"), *words])
    assert isinstance(done.exception, InputError)
    assert told in str(done.exception)
