"""Number formats of training: what is asked for, and what the machine does natively."""

from __future__ import annotations

from typing import Literal

import torch

_FABRIC: dict[str, Literal["32-true", "bf16-mixed"]] = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed"}


def resolve_precision(asked: str, accelerator: str) -> str:
    """`fp32`, `tf32` or `bf16`; `auto` becomes bf16 where the hardware multiplies it natively, otherwise fp32."""
    if asked != "auto":
        return asked
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _cpu_has_bf16() else "fp32"


def fabric_precision(precision: str) -> Literal["32-true", "bf16-mixed"]:
    """Fabric's name of a resolved precision."""
    return _FABRIC[precision]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context of forward passes in a resolved precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _cpu_has_bf16() -> bool:
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)
