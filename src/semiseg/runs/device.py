"""Devices: which one is taken, what it is called, and how it computes. Training, prediction and benchmarks share it."""

from __future__ import annotations

import logging
import os
from typing import get_args

import torch

from semiseg.errors import InputError, did_you_mean
from semiseg.methods.base import MethodPrecision
from semiseg.runs.precision import resolve_precision
from semiseg.settings.run import Accelerator

_log = logging.getLogger(__name__)

MPS_SINCE = (2, 8)
"""PyTorch that has 3D transposed convolutions on Apple's GPUs, pytorch/pytorch#154615."""


def choose_device(accelerator: Accelerator) -> torch.device:
    """The device that `accelerator` means here; `auto` is an NVIDIA or AMD GPU where there is one, otherwise the CPU.

    Raises:
        InputError: this machine has no such device, or there is none of that name.
    """
    if accelerator not in (known := get_args(Accelerator)):
        raise InputError(f"accelerator {accelerator}: {did_you_mean(accelerator, known)}")
    if accelerator == "mps":
        return _mps()
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator == "gpu":
        raise InputError("accelerator gpu: this machine has none that PyTorch can use: take auto or cpu")
    return torch.device("cpu")


def _mps() -> torch.device:
    """Apple's GPU, taken only when it is asked for: half precision and double precision do not work there."""
    release = tuple(int(part) for part in torch.__version__.split(".")[:2])
    problem = None
    if not torch.backends.mps.is_built():
        problem = f"PyTorch {torch.__version__} was built without support for Apple's GPUs"
    elif not torch.backends.mps.is_available():
        problem = "this machine has no GPU of Apple that PyTorch can use (it takes macOS 14 on Apple silicon)"
    elif release < MPS_SINCE:
        problem = f"PyTorch {torch.__version__} lacks 3D operations there, which came with 2.8"
    if problem is not None:
        raise InputError(f"accelerator mps: {problem}: take auto or cpu")
    _log.warning("warning: accelerator mps: nobody has tried semiseg there yet; auto and cpu compute on the CPU")
    return torch.device("mps")


def set_up_device(device: torch.device, precision: str, *, deterministic: bool = True) -> None:
    """Let this process compute on `device` in a resolved precision: in TF32 or not, by repeatable kernels or fast ones.

    PyTorch warns of an operation that has no repeatable kernel on a GPU.
    """
    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without, sums of matrix products vary
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Memory that nothing reads needs no value.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def tell_of_precision(asked: str, accelerator: str, method: str, needs: MethodPrecision) -> None:
    """Warn where the precision that was asked for is not the one that is computed in, or too coarse for the method."""
    found = resolve_precision(asked, accelerator, needs)
    if needs == "fp32" and found != "fp32":
        _log.warning(
            "warning: precision %s: %s adds small terms to large ones, which are lost in it: take auto or fp32",
            *(asked, method),
        )
    if asked == "bf16" != found:
        _log.warning(
            "warning: precision bf16: this device has no bf16 convolutions, and replacing them takes many times as "
            "long: %s is computed",
            found,
        )


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type if device.type == "mps" else f"{device.type}, {torch.get_num_threads()} threads"


def free_cache(device: torch.device) -> None:
    """Give memory that nothing uses back to the device, which counts it as taken otherwise."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
