"""No training step asks the device for a value: on a GPU the host would wait for all that was given to it before."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from methods.test_conformance import LATE, make, make_batch
from semiseg.methods.base import Clock, registry
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import guarded_step, make_optimiser

WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}
"""Operations whose result, or its size, the host has to know."""
READING = ("tolist", "numpy", "cpu", "item")

KNOWN = {
    "bcp-official": "largest components are found on the host",
    "caml": "the voxels that are compared are those on which two networks agree, however many",
    "caml-official": "the same",
    "cml-official": "largest components, beside the next passes",
    "ssnet": "the features that enter the memories are chosen by their number",
}
MOST = {"ssnet": 4}
"""Waits of a step of which all have a reason."""


class Trap(TorchDispatchMode):
    """Notes from where an operation is called that makes the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put_") and any(
            isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1])
        )
        if name in WAITING or masks:
            self.found.append(f"{name} in {_caller()}")
        return func(*args, **(kwargs or {}))


def _caller() -> str:
    frame = sys._getframe()
    while frame is not None and "/semiseg/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return "backward" if frame is None else f"{frame.f_code.co_filename.split('/semiseg/')[-1]}:{frame.f_lineno}"


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    with Trap() as trap, monkeypatch.context() as patched:
        for name in READING:
            real = getattr(torch.Tensor, name)

            def noting(tensor: torch.Tensor, *args: Any, real: Any = real, name: str = name, **kwargs: Any) -> Any:
                trap.found.append(f"{name} in {_caller()}")
                return real(tensor, *args, **kwargs)

            patched.setattr(torch.Tensor, name, noting)
        yield trap.found


@pytest.mark.parametrize("name", sorted(registry()))
def test_a_step_waits_for_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = make(name, 2, 4), make_batch(2, 4)
    optimisers = {key: make_optimiser(OptimiserConfig(), group) for key, group in method.groups().items()}
    with watched(monkeypatch) as found:
        for loss in method.step(batch, Clock(LATE, 100, LATE, 100, method.stages()[-1].name)):
            total = loss.total
            total.backward()
            guarded_step(optimisers[loss.group], total, 12.0)
    assert bool(found) == (name in KNOWN), found
    assert name not in MOST or len(found) <= MOST[name], found


def test_the_trap_works(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.arange(4.0)
    with watched(monkeypatch) as found:
        bool(values.sum() > 0)
        values[values > 1].tolist()
        values.nonzero()
    assert [line.split()[0] for line in found] == ["_local_scalar_dense", "index", "tolist", "nonzero"]
