"""Every method on a GPU that is not there: no tensor of another device, and nothing that the host has to wait for."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)

from fake_cuda import CUDA, fake_cuda
from methods.test_conformance import make
from methods.test_waiting import KNOWN
from semiseg.batches.batch import Batch
from semiseg.methods.base import Clock, Method, Tiles, registry
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import guarded_step, make_optimiser

CLASSES, PATCHES, LABELLED = 3, 4, 2
SIDES = {2: (16, 16), 3: (16, 16, 16)}

WAITS = {
    "bcp-official": (RuntimeError, "numpy"),
    "caml": (DynamicOutputShapeException, "nonzero"),
    "caml-official": (DynamicOutputShapeException, "nonzero"),
    "cml-official": (RuntimeError, "numpy"),
    "ssnet": (DynamicOutputShapeException, "nonzero"),
}
"""How the waits of test_waiting show here, where nothing can be waited for."""


def batch_of(dims: int) -> Batch:
    images = torch.randn(PATCHES, 1, *SIDES[dims], device=CUDA)
    return Batch(images, torch.zeros(LABELLED, *SIDES[dims], dtype=torch.long, device=CUDA), tuple("abcd"))


def train(method: Method, dims: int) -> None:
    """A first and a late step of every stage, and what is refreshed before."""
    optimisers = {key: make_optimiser(OptimiserConfig(), group) for key, group in method.groups().items()}
    for stage in method.stages():
        for step in (0, 60):
            clock = Clock(step, 100, step, 100, stage.name)
            if method.refresh_at() != "never":
                tiles = Tiles(batch_of(dims).images, torch.ones(PATCHES, *SIDES[dims], dtype=torch.bool, device=CUDA))
                with torch.no_grad():
                    method.eval().refresh(iter([tiles]), clock)
                method.train()
            for loss in method.step(batch_of(dims), clock):
                total = loss.total
                total.backward()
                guarded_step(optimisers[loss.group], total, 12.0)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", sorted(registry()))
def test_steps_refreshes_and_predictions_stay_on_the_device(name: str, dims: int) -> None:
    method = make(name, dims, CLASSES).train()
    with fake_cuda(method):
        assert all(tensor.is_cuda for tensor in chain(method.parameters(), method.buffers()))
        if name in WAITS:
            kind, words = WAITS[name]
            with pytest.raises(kind, match=words):
                train(method, dims)
        else:
            train(method, dims)
        with torch.no_grad():
            assert method.eval().predict(batch_of(dims).images).is_cuda
        assert all(value.is_cuda for value in method.observations().values())


def test_what_waits_is_what_is_known_to() -> None:
    assert WAITS.keys() == KNOWN.keys()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lambda x: x + torch.ones(8), Exception),
        (lambda x: x.sum().item(), DataDependentOutputException),
        (lambda x: x[x > 0], DynamicOutputShapeException),
        (lambda x: x.nonzero(), DynamicOutputShapeException),
    ],
)
def test_faults_are_found(fault: Any, kind: type[Exception]) -> None:
    with fake_cuda(), pytest.raises(kind):
        fault(torch.randn(8, device=CUDA))


def test_a_tensor_that_moving_leaves_behind_is_found() -> None:
    class Holder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.left = torch.nn.Parameter(torch.ones(2)), torch.ones(2)

    holder = Holder()
    with fake_cuda(holder):
        assert holder.weight.is_cuda
        with pytest.raises(Exception, match="FakeTensor"):
            _ = holder.weight + holder.left


def test_fake_tensors_are_gone_afterwards() -> None:
    with fake_cuda():
        pass
    assert type(torch.ones(2)) is torch.Tensor
    torch.ones(2, requires_grad=True).sum().backward()
