"""Counted work and clocks."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from semiseg.networks import build_network
from semiseg.speed.floor import Ledger, Machine, Work, measure_machine
from semiseg.training.timing import alternating, ratio, seconds

CPU = torch.device("cpu")


def test_a_convolution_and_its_normalisation_are_counted() -> None:
    conv, norm = nn.Conv3d(2, 4, 3, padding=1, bias=False), nn.BatchNorm3d(4)
    x = torch.randn(2, 2, 6, 6, 6, requires_grad=True)
    with Ledger() as ledger:
        norm(conv(x)).sum().backward()
    names = [work.name for work in ledger.works]
    assert names == ["convolution", "native_batch_norm", "native_batch_norm_backward", "convolution_backward"]
    forward, normalised, _, backward = ledger.works
    voxels = 2 * 6**3
    assert forward.flops == 2 * 27 * 2 * 4 * voxels
    assert backward.flops == 2 * forward.flops
    assert forward.bytes == 4 * (2 * voxels + 4 * 2 * 27 + 4 * voxels)
    assert (normalised.flops, normalised.bytes) == (0, 3 * 4 * 4 * voxels)
    assert ledger.launches > len(ledger.works)


def test_the_papers_network_costs_what_is_known() -> None:
    with torch.device("meta"):
        net = build_network("vnet", channels=1, classes=2, spatial_dims=3).train()
        images = torch.randn(1, 1, 112, 112, 80)
    with Ledger() as ledger:
        net(images).sum().backward()
    assert sum(work.flops for work in ledger.works) == pytest.approx(239.8e9, rel=1e-3)


def test_the_floor_is_the_longer_of_two_times() -> None:
    machine = Machine({torch.float32: 100.0, torch.bfloat16: 200.0}, 10.0)
    assert machine.seconds(Work("a", 400, 10, torch.float32)) == 4
    assert machine.seconds(Work("a", 400, 10, torch.bfloat16)) == 2
    assert machine.seconds(Work("a", 400, 50, torch.float32)) == 5
    assert machine.floor([Work("a", 400, 10, torch.float32), Work("b", 0, 10, torch.float32)]) == 5


def test_the_machine_is_measured() -> None:
    machine = measure_machine(CPU, quick=True)
    assert min(machine.flops.values()) > 1e8
    assert machine.bandwidth > 1e7


def test_calls_alternate() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    took = alternating(calls, 3, partial(seconds, device=CPU))
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert [len(times) for times in took.values()] == [3, 3]


def test_ratios_are_taken_round_by_round() -> None:
    assert ratio([1.0, 20.0, 3.0], [1.0, 10.0, 1.5]) == 2.0
    ticks = iter((5.0, 7.5))
    assert seconds(lambda: None, CPU, lambda: next(ticks)) == 2.5


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gradients_of_a_convolution_cost_twice_the_convolution(groups: int, transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer, x = kind(8, 16, 2, stride=2, groups=groups), torch.randn(3, 8, 6, 6, requires_grad=True)
    with Ledger() as forwards:
        loss = layer(x).sum()
    with Ledger() as backwards:
        loss.backward()
    assert forwards.flops > 0
    assert backwards.flops == 2 * forwards.flops
