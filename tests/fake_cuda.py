"""A GPU that is not there: tensors that say they are on it, have shapes and no values, and no kernel behind them.

PyTorch's fake tensors find operations on tensors of two devices, and everything of which the host would need a value.
Two things are missing where PyTorch was built without CUDA. Autograd asks for the device's guard, which is given the
one of `meta` tensors, under another name. Backward passes ask for CUDA itself; they are replaced by gradients of zero.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

CUDA = torch.device("cuda:0")

_REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"  # c10::impl::device_guard_impl_registry
_CUDA, _META, _KINDS = 1, 14, 21  # places in it: c10::DeviceType
_SLOTS = 40  # virtual functions that are copied, more than a guard has
_kept: list[Any] = []


def install_guard() -> None:
    """A guard for CUDA that does nothing; skips the test where PyTorch has no place for one."""
    if torch.backends.cuda.is_built():
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("guards of devices are put in place on Linux alone")
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
        table = (ctypes.c_void_p * _KINDS).in_dll(library, _REGISTRY)
    except (OSError, ValueError):
        pytest.skip("this PyTorch does not tell where guards of devices are")
    if table[_CUDA]:
        return
    if not table[_META]:
        pytest.skip("this PyTorch has no guard of meta tensors")
    words = ctypes.POINTER(ctypes.c_void_p)
    functions = ctypes.cast(ctypes.cast(table[_META], words)[0], words)
    kind = ctypes.CFUNCTYPE(ctypes.c_int8, ctypes.c_void_p)(lambda guard: _CUDA)  # the first one: of which device
    own = (ctypes.c_void_p * _SLOTS)(
        ctypes.cast(kind, ctypes.c_void_p).value, *(functions[slot] for slot in range(1, _SLOTS))
    )
    guard = (ctypes.c_void_p * 1)(ctypes.addressof(own))
    _kept.extend((kind, own, guard))
    table[_CUDA] = ctypes.addressof(guard)


class Event:
    """Of a stream that is always done."""

    def __init__(self, *_: object, **__: object) -> None: ...
    def record(self, *_: object) -> None: ...
    def synchronize(self) -> None: ...


class HostGenerator(torch.Generator):
    """Of the host, whatever device is named."""

    def __new__(cls, device: object = None) -> HostGenerator:
        return super().__new__(cls)


@contextmanager
def fake_cuda(module: nn.Module | None = None) -> Iterator[FakeTensorMode]:
    """Inside, `module` and all new tensors with `device="cuda:0"` are on a GPU that is not there.

    What moving the module leaves behind is a tensor of the CPU, which fails in the first operation that it meets.
    """
    install_guard()

    def backward(loss: Tensor, *_: object, **__: object) -> None:
        assert loss.is_cuda
        assert loss.requires_grad
        assert loss.ndim == 0
        for parameter in module.parameters() if module is not None else ():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)

    def gradients(outputs: object, inputs: Any, *_: object, **__: object) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(each) for each in ([inputs] if isinstance(inputs, Tensor) else inputs))

    with ExitStack() as stack:
        for holder, name, stub in (
            (torch.Tensor, "backward", backward),
            (torch.autograd, "grad", gradients),
            (torch.cuda, "Event", Event),
            (torch, "Generator", HostGenerator),
            (torch.cuda, "mem_get_info", lambda *_: (1 << 40, 1 << 40)),
        ):
            stack.enter_context(mock.patch.object(holder, name, stub))
        mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        if module is not None:
            module.to(CUDA)
        mode.allow_non_fake_inputs = False
        yield mode
