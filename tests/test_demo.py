"""The demo at toy size: everything is there, and nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import semiseg
from semiseg import demonstration as module
from semiseg.phantom.cohort import PhantomConfig


@pytest.mark.slow
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COHORT", PhantomConfig(shape=(32, 32), organs=5, labelled=2, unlabelled=2, test=3))
    monkeypatch.setattr(module, "SETTINGS", {**module.SETTINGS, "steps": 2})
    semiseg.demo(tmp_path / "demo", show=False)
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert set(summary["methods"]) == {"supervised", "micd"}
    for found in summary["methods"].values():
        assert 0 <= found["dice"] <= 1
        assert len(found["per_class"]) == 5
    folder = tmp_path / "demo" / "micd_seed0"
    assert {path.name.split("_")[0] for path in folder.glob("*.png")} == {"worst", "median", "best"}
    assert (tmp_path / "demo" / "report.html").stat().st_size > 20_000
    weights = folder / "checkpoints" / "final.safetensors"
    before = weights.stat().st_mtime_ns
    semiseg.demo(tmp_path / "demo", show=False)
    assert weights.stat().st_mtime_ns == before
