"""Machines without the device or the number formats that a run could use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from semiseg.errors import InputError
from semiseg.runs.precision import resolve_precision
from semiseg.settings.load import load_config
from semiseg.training.launch import launch


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_one_that_is_asked_for_is_refused_and_the_default_trains_on_the_cpu() -> None:
    with pytest.raises(InputError, match=r"accelerator gpu, devices 1: this machine has not .*accelerator=cpu"):
        launch(load_config(None, {"data": Path("data"), "accelerator": "gpu"}))
    assert launch(load_config(None, {"data": Path("data")})).device.type == "cpu"


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_that_only_emulates_bf16_trains_in_fp32(
    monkeypatch: pytest.MonkeyPatch, native: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert resolve_precision("auto", "auto") == precision
    assert resolve_precision("auto", "gpu") == precision
    assert resolve_precision("bf16", "gpu") == "bf16", "a person may want it all the same"
