"""Number formats of training: what is asked for, and what the machine does natively."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from semiseg.methods.base import MethodPrecision

_FABRIC: dict[str, Literal["32-true", "bf16-mixed"]] = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed"}


def resolve_precision(asked: str, accelerator: str, needs: MethodPrecision = "any") -> str:
    """`fp32`, `tf32` or `bf16`; `auto` becomes bf16 where the hardware multiplies it natively, otherwise fp32.

    With `auto`, methods get what they need: `fp32` for those whose small terms bf16 would round away.

    Where there are no bf16 convolutions at all, as on CPUs without AVX-512 and on Apple's GPUs, bf16 is fp32 as well:
    what PyTorch does there instead takes 3 to 20 times as long, and loses the memory layout on the way.
    """
    if asked == "auto" and needs == "fp32":
        return "fp32"
    if accelerator not in ("cpu", "mps") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return {True: "bf16", False: "fp32"}[native] if asked == "auto" else asked
    convolves = accelerator != "mps" and cpu_convolves_bf16()
    if asked == "auto":
        return "bf16" if convolves and _cpu_has_bf16() else "fp32"
    return "fp32" if asked == "bf16" and not convolves else asked


def fabric_precision(precision: str) -> Literal["32-true", "bf16-mixed"]:
    """Fabric's name of a resolved precision."""
    return _FABRIC[precision]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context of forward passes in a resolved precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def memory_format(device: torch.device, spatial_dims: int) -> torch.memory_format:
    """Layout of weights and images: channels last is the faster one on CPUs, for the networks here by about a tenth."""
    return channels_last(spatial_dims) if device.type == "cpu" else torch.contiguous_format


def channels_last(spatial_dims: int) -> torch.memory_format:
    """The layout in which the channels of a voxel lie side by side."""
    return torch.channels_last_3d if spatial_dims == 3 else torch.channels_last


def set_memory_format(module: nn.Module, layout: torch.memory_format) -> None:
    """Give the convolution weights of `module` that layout, and the features that it computes from images."""
    if layout == torch.contiguous_format:
        return
    dims = 5 if layout == torch.channels_last_3d else 4
    for parameter in module.parameters():
        if parameter.ndim == dims:
            data, single = parameter.data, parameter.shape[1] == 1
            parameter.data = data.clone(memory_format=layout) if single else data.contiguous(memory_format=layout)
    for each in module.modules():
        if isinstance(each, nn.Conv2d | nn.Conv3d) and each.in_channels == 1:
            each.register_forward_pre_hook(partial(_lay_out, layout))


def _lay_out(layout: torch.memory_format, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # Images of one channel, and weights for them, are in both layouts at once; only a copy has strides that tell the
    # convolution which is meant. Without, features at full resolution stay contiguous, and their gradients mixed; and
    # processes that train together copy the gradient of such weights once more.
    return tuple(x.clone(memory_format=layout) for x in inputs)


def cpu_convolves_bf16() -> bool:
    """Whether PyTorch has convolutions in bf16 for this processor, be they native or emulated."""
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _cpu_has_bf16() -> bool:
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)
