"""A short run of benchmarks/fuzz.py: damaged files of every kind are taken as valid or refused with a clear message."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from fuzzing import mutate, worker
from fuzzing.corpus import build, kinds
from scripts import load_script

PER_KIND = 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "corpus"
    build(folder, None)
    return folder


def test_damaged_files_of_every_kind(corpus: Path, tmp_path: Path) -> None:
    """In this process, so that it is quick; the benchmark gives each input's fate to a process of its own."""
    fates: dict[str, int] = {}
    for index in range(PER_KIND * len(kinds())):
        kind = kinds()[index % len(kinds())]
        target, how = worker.damage(kind, corpus, tmp_path / "input", 1, index)
        found = worker.verdict(kind, tmp_path / "input", target)
        assert found["verdict"] != "violation", f"{kind.name}, {target.name}, {how}: {found['message']}"
        fates[found["verdict"]] = fates.get(found["verdict"], 0) + 1
    assert min(fates["accepted"], fates["refused"]) > len(kinds()) // 2


def test_samples_themselves_are_valid(corpus: Path, tmp_path: Path) -> None:
    for kind in kinds():
        worker.check_sample(kind, corpus, tmp_path / "input")


def test_an_input_is_a_function_of_seed_and_number(corpus: Path, tmp_path: Path) -> None:
    kind = kinds()[0]
    first, again, other = (
        worker.damage(kind, corpus, tmp_path / name, seed, 5)[0].read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again != other


def test_every_way_changes_something() -> None:
    data = b"sizes: 10 20 30\nspacing: 1.5\n" * 30
    for way in {*mutate.BINARY, *mutate.TEXT_HEADER}:
        assert any(way(Random(seed), data, [data[::-1]]) != data for seed in range(5)), way.__name__


@pytest.mark.slow
def test_a_process_that_dies_is_told_and_the_next_input_goes_on(corpus: Path, tmp_path: Path) -> None:
    fuzz = load_script("benchmarks/fuzz.py")
    alive = fuzz.Worker(corpus, tmp_path / "work", 1)
    try:
        alive.try_input(0)
        os.kill(alive.process.pid, 6)
        found = alive.try_input(1)
        assert (found["verdict"], found["message"]) == ("violation", "the process was ended by SIGABRT")
        assert alive.try_input(2)["verdict"] in ("accepted", "refused")
    finally:
        alive.close()
