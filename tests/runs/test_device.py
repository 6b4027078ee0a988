"""One place says which device is taken and how it computes, for training, prediction and benchmarks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from semiseg.errors import InputError
from semiseg.prediction import predict
from semiseg.prediction.predict import load_predictor
from semiseg.runs.device import choose_device, set_up_device, tell_of_precision
from semiseg.runs.folder import Run
from semiseg.runs.precision import resolve_precision
from semiseg.settings.load import load_config
from semiseg.speed import bench
from semiseg.training.launch import launch
from semiseg.training.train import train
from tiny import tiny_dataset

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """What this machine is said to have."""

    def has(*, cuda: bool = False, mps: bool = False, built: bool = True, release: str = "2.13.0") -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)
        monkeypatch.setattr(torch, "__version__", release)

    return has


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of the process are put back."""
    cudnn = torch.backends.cudnn
    for holder, name in ((cudnn, "benchmark"), (cudnn, "deterministic"), (cudnn, "allow_tf32")):
        monkeypatch.setattr(holder, name, getattr(holder, name))
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    was = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
    yield
    torch.use_deterministic_algorithms(was[0])
    torch.set_float32_matmul_precision(was[1])
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.parametrize(
    ("has", "taken"),
    [
        ({}, {"auto": "cpu", "cpu": "cpu"}),
        ({"cuda": True}, {"auto": "cuda", "gpu": "cuda", "cpu": "cpu"}),
        ({"mps": True}, {"auto": "cpu", "cpu": "cpu", "mps": "mps"}),
        ({"cuda": True, "mps": True}, {"auto": "cuda", "gpu": "cuda", "mps": "mps"}),
    ],
)
def test_a_gpu_of_apple_is_taken_only_where_it_is_asked_for(machine: Machine, has: dict, taken: dict) -> None:
    machine(**has)
    assert {asked: choose_device(asked).type for asked in taken} == taken


def test_training_on_a_mac_with_defaults_takes_the_cpu(machine: Machine, tmp_path: Path) -> None:
    machine(mps=True)
    assert launch(load_config(None, {"data": tmp_path})).device.type == "cpu"


@pytest.mark.parametrize(
    ("has", "asked", "words"),
    [
        ({}, "gpu", "this machine has none"),
        ({"mps": True}, "gpu", "this machine has none"),
        ({}, "mps", "no GPU of Apple"),
        ({"built": False}, "mps", "built without"),
        ({"mps": True, "release": "2.7.1"}, "mps", "lacks 3D operations"),
        ({}, "gpus", "did you mean 'gpu'"),
    ],
)
def test_what_a_machine_has_not_is_refused_with_the_reason(machine: Machine, has: dict, asked: str, words: str) -> None:
    machine(**has)
    with pytest.raises(InputError, match=f"accelerator {asked}: .*{words}"):
        choose_device(asked)


def test_a_gpu_of_apple_computes_in_fp32() -> None:
    assert {resolve_precision(asked, "mps") for asked in ("auto", "fp32", "bf16")} == {"fp32"}


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_number_formats_and_kernels_follow_the_settings(precision: str, deterministic: bool) -> None:
    set_up_device(CUDA, precision, deterministic=deterministic)
    cudnn = torch.backends.cudnn
    assert (cudnn.deterministic, cudnn.benchmark) == (deterministic, not deterministic)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert not deterministic or torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert cudnn.allow_tf32 == (precision == "tf32")
    assert torch.get_float32_matmul_precision() == ("high" if precision == "tf32" else "highest")
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == deterministic


@pytest.mark.usefixtures("flags")
def test_deterministic_linear_interpolation_on_a_gpu_is_one_that_has_a_repeatable_gradient() -> None:
    set_up_device(CUDA, "fp32")
    seen = []

    class Elsewhere(torch.Tensor):
        """Says that it is on no CPU."""

        is_cpu = property(lambda self: False)

    class Names(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    x = torch.randn(1, 1, 4, 4, 4).as_subclass(Elsewhere)
    with Names():
        torch.nn.functional.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=True)
    assert "upsample_trilinear3d" not in seen


def test_training_prediction_and_bench_set_their_device_up_alike(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for module in ("semiseg.training.launch", "semiseg.prediction.predict"):
        monkeypatch.setattr(f"{module}.set_up_device", lambda *args, **kwargs: seen.append((*args, kwargs)))
    config = load_config(
        None,
        {
            "data": tiny_dataset(tmp_path / "data", cases=2, labelled=2),
            "network": {"options": {"filters": [4, 8], "strides": [[1, 1, 1], [2, 2, 2]]}},
            "batch": {"patch": [8, 8, 8], "labelled": 1, "unlabelled": 0},
            "accelerator": "cpu",
            "precision": "fp32",
            "deterministic": False,
            "steps": 1,
            "method": "supervised",
        },
    )
    train(config, tmp_path / "run", show=False)
    load_predictor(Run(tmp_path / "run"), accelerator="cpu")
    assert seen == 2 * [(CPU, "fp32", {"deterministic": False})]
    assert bench.choose_device is predict.choose_device is choose_device


def test_a_wish_for_bf16_that_is_not_followed_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("semiseg.runs.precision.cpu_convolves_bf16", lambda: False)
    for asked in ("auto", "fp32", "tf32"):
        tell_of_precision(asked, "cpu", "micd", "any")
    assert not caplog.records
    tell_of_precision("bf16", "cpu", "micd", "any")
    assert "no bf16 convolutions" in caplog.text
    assert "fp32 is computed" in caplog.text
