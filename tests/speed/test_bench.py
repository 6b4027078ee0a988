"""`semiseg bench`: its verdicts, and that its figures are those of real steps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import semiseg
from semiseg.speed.bench import Bench
from tiny import tiny_dataset

FOUND = Bench(
    device="cuda",
    precision="bf16",
    processes=1,
    networks="networks: contiguous, not compiled",
    scans="scans are kept on the device",
    method="micd",
    patches=4,
    patch=(112, 112, 80),
    real=0.0102,
    fixed=0.01,
    data_share=0.02,
    forward=0.004,
    backward=0.005,
    update=0.001,
    convolution={"contiguous": 0.001, "channels last": 0.00105},
    gigaflops={"float32": 60_000, "bfloat16": 700_000},
    gigabytes=4000,
    floor=0.003,
    launches=900,
    host=0.004,
    waits=0,
)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "compute bound: 30% of the floor; real batches cost +2.0% of a step"),
        (
            {"data_share": 0.5},
            "data bound: real batches cost +50% of a step; without them 30% of the floor",
        ),
        ({"host": 0.0099}, "launch bound: the GPU waits for 900 operations to be issued; 30% of the floor"),
        (
            {"host": 0.0099, "waits": 7},
            "synchronisation bound: the host waits for the GPU 7 times in a step; 30% of the floor",
        ),
        ({"host": None, "waits": None}, "compute bound: 30% of the floor; real batches cost +2.0% of a step"),
    ],
)
def test_verdicts(changes: dict, verdict: str) -> None:
    found = replace(FOUND, **changes)
    assert found.verdict == verdict
    assert found.report().splitlines()[-1] == verdict
    assert json.loads(json.dumps(found.values()))["verdict"] == verdict


def test_a_layout_that_is_much_faster_is_told() -> None:
    assert "warning" not in FOUND.report()
    slow = replace(FOUND, convolution={"contiguous": 0.002, "channels last": 0.001})
    assert "channels last convolutions alone are 2.0 times as fast here" in slow.report()
    assert "speed.layout=channels_last" in slow.report()
    assert "warning" not in replace(slow, networks="networks: channels last, compiled").report()


def test_steps_are_measured_on_a_dataset(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", cases=4, labelled=2)
    found = semiseg.bench(
        data,
        "mean_teacher",
        quick=True,
        output=tmp_path / "bench.json",
        assignments=["batch.patch=[16, 16, 16]", "network.options={filters: [4, 8]}"],
        accelerator="cpu",
        precision="fp32",
        batch={"labelled": 1, "unlabelled": 1},
    )
    assert found.method == "mean_teacher"
    assert found.patches == 2
    assert found.patch == (16, 16, 16)
    assert found.host is None
    assert 0 < found.floor < found.fixed
    assert found.forward + found.backward > 0
    assert found.launches > 100
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["patches_per_second"] == pytest.approx(2 / found.real)
    assert written["verdict"] == found.verdict
