"""The plain steps of the benchmark are the same steps as ours: equal losses from equal weights, step after step."""

from __future__ import annotations

import sys
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts import ROOT
from semiseg.batches.batch import Batch
from semiseg.methods.base import Clock, Method, Task, entry
from semiseg.networks import build_network
from semiseg.settings.run import OptimiserConfig
from semiseg.speed.workbench import AT_WORK, PAPERS, settings
from semiseg.training.optim import guarded_step, make_optimiser

sys.path.insert(0, str(ROOT / "benchmarks"))
from plain import networks
from plain.methods import METHODS

FILTERS = 4

SIDES = (32, 16, 16)
QUIET: dict[str, dict[str, Any]] = {
    "mean_teacher": {"noise": 0.0, "ramp": "none"},
    "cps": {"ramp": "none"},
    "micd": {"ramp": "none"},
    **{name: dict(entry(f"{name}-official").options) for name in ("ducisc", "cml")},
    "lefed": {"encoder_dropout": 0.0, "decoder_dropout": 0.0},
}
PLAIN: dict[str, dict[str, Any]] = {"mean_teacher": {"noise": 0.0}, "lefed": {"dropout": (0.0, 0.0)}}


def ours(name: str) -> Method:
    build = partial(build_network, "vnet", channels=1, classes=2, spatial_dims=3, filters=FILTERS, dropout=0.0)
    options = {**AT_WORK.get(name, {}), **QUIET.get(name, {})}
    return entry(name).build(options, Task(2, 1, 3, (1000, 200), 4), build).train()


def step(method: Method, optimiser: torch.optim.Optimizer, batch: Batch, clock: Clock) -> float:
    value = 0.0
    for loss in method.step(batch, clock):
        optimiser.zero_grad()
        loss.total.backward()
        guarded_step(optimiser, loss.total, None)
        value = float(loss.total.detach())
    return value


@pytest.mark.parametrize("name", METHODS)
def test_equal_losses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "WIDTHS", tuple(FILTERS * 2**k for k in range(5)))
    torch.manual_seed(0)
    method = ours(name)
    plain = METHODS[name](**{"dropout": 0.0, **PLAIN.get(name, {})})
    of_plain = list(chain.from_iterable(net.parameters() for net in plain.nets))
    of_ours = list(method.parameters())
    assert [p.shape for p in of_plain] == [p.shape for p in of_ours]
    for mine, theirs in zip(of_plain, of_ours, strict=True):
        mine.data.copy_(theirs.data)
    optimiser = make_optimiser(OptimiserConfig(**PAPERS["optimiser"]), method.groups()["main"])
    n = 4 if name == "cml" else 2
    images = torch.randn(2 * n, 1, *SIDES)
    labels = (images[:n, 0] > 0.5).long()
    images = images[:n] if name == "supervised" else images
    for count in range(2):
        torch.manual_seed(count)
        theirs = plain.step(images, labels)
        torch.manual_seed(count)
        mine = step(method, optimiser, Batch(images, labels), Clock(count, 2, 0, 1, "selftraining"))
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-4), count


@pytest.mark.parametrize("name", ["cml", "cml-official", "cml-cfl", "bcp", "bcp-official", "ducisc-official"])
def test_variants_are_measured_at_work_too(name: str) -> None:
    config = settings(Path("nowhere"), name)
    method = entry(name).configure(config.options)
    assert getattr(method, "warmup" if name.startswith("ducisc") else "pretraining") == 0
