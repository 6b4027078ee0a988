"""What training costs on any machine: floating-point operations, counted, and trained parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch

from semiseg.batches.batch import Batch
from semiseg.batches.places import Place
from semiseg.datasets.splits import Split
from semiseg.methods.base import Clock, Method, Task, entry
from semiseg.networks import build_network
from semiseg.networks.base import Network
from semiseg.networks.narrow import narrowed
from semiseg.preparing.plan import Plan
from semiseg.runs.build import Build
from semiseg.settings.run import RunConfig
from semiseg.speed.floor import Ledger

LATE = (80_000, 100_000, 800, 1000)
"""Step, steps, epoch and epochs where a step is counted: late, when methods wait for nothing any more."""


def step_flops(config: RunConfig, plan: Plan, split: Split) -> float:
    """Floating-point operations of a training step of a run with this plan and split, forwards and backwards.

    A step is taken for real on a small network of the same architecture and on small patches, in every stage of the
    method, and counted. In units of a forward pass of one patch that is what the method does; one such pass of the
    run's own network and patch is counted on shapes. Passes over whole scans (refreshing thresholds, validation) are
    not in it.
    """
    build = Build(config, plan)
    batch, network = build.batch_plan(split), config.network
    unlabelled = batch.unlabelled if entry(config.method).cls.uses_unlabelled else 0
    shape = (plan.classes, len(plan.channels), plan.spatial_dims)
    settings = (config.method, _frozen(config.options), network.name, _frozen(build.network_options))
    return _passes(*settings, batch.labelled, unlabelled, *shape) * _forward(*settings[2:], batch.patch, *shape)


def trained_parameters(config: RunConfig, plan: Plan, split: Split) -> int:
    """Numbers that the optimisers of such a run change: those of all its networks but teachers and other copies."""
    voxels = tuple(range(plan.classes, 0, -1))
    task = Task(plan.classes, len(plan.channels), plan.spatial_dims, voxels, len(split.unlabelled))
    with apart():
        built = Build(config, plan).method(task, pretrained=False)
    trained = {id(each): each.numel() for group in built.groups().values() for each in group}
    return sum(trained.values())


@lru_cache
def _forward(name: str, options: Any, patch: tuple[int, ...], classes: int, channels: int, dims: int) -> int:
    """Operations of a forward pass of one patch."""
    with torch.device("meta"):
        network = build_network(name, channels=channels, classes=classes, spatial_dims=dims, **_thawed(options))
        images = torch.empty(1, channels, *patch)
    return _counted(lambda: network(images))


@lru_cache
def _passes(
    method: str,
    method_options: Any,
    name: str,
    options: Any,
    labelled: int | None,
    unlabelled: int | None,
    classes: int,
    channels: int,
    dims: int,
) -> float:
    """Forward passes of one patch that a step of the method costs as much as."""
    small = narrowed(name, _thawed(options))
    build: Callable[..., Network] = partial(
        build_network, name, channels=channels, classes=classes, spatial_dims=dims, **small
    )
    with apart():
        task = Task(classes, channels, dims, tuple(range(classes, 0, -1)), unlabelled=16)
        built = entry(method).build(_thawed(method_options), task, build).train()
        network = build()
        sides = tuple(2 * max(unit, 4) for unit in network.divisor)
        batch = random_batch((labelled or 1, unlabelled or 0), channels, sides, classes)
        with torch.no_grad():
            one = _counted(lambda: network(batch.images[:1]))
        total = sum(
            stage.share * _counted(partial(_step, built, batch, Clock(*LATE, stage.name))) for stage in built.stages()
        )
    return total / one


@contextmanager
def apart() -> Iterator[None]:
    """With random numbers of its own, and one thread, which is the fastest for tensors this small."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _step(method: Method, batch: Batch, clock: Clock) -> None:
    for loss in method.step(batch, clock):
        loss.total.backward()  # type: ignore[no-untyped-call]


def _counted(work: Callable[[], Any]) -> int:
    with Ledger() as ledger:
        work()
    return int(ledger.flops)


def random_batch(counts: tuple[int, int], channels: int, sides: tuple[int, ...], classes: int) -> Batch:
    """Patches of noise with random labels: so many labelled and unlabelled ones of these sides."""
    labelled, total = counts[0], sum(counts)
    labels = torch.randint(classes, (labelled, *sides))
    names = tuple(f"case{number}" for number in range(total))
    return Batch(torch.randn(total, channels, *sides), labels, names, (Place.whole(sides),) * total)


def _frozen(value: Any) -> Any:
    """Settings as something that can be looked up."""
    if isinstance(value, Mapping):
        return ("mapping", *((key, _frozen(item)) for key, item in sorted(value.items())))
    return ("list", *map(_frozen, value)) if isinstance(value, list | tuple) else value


def _thawed(value: Any) -> Any:
    if isinstance(value, tuple) and value[0] == "mapping":
        return {key: _thawed(item) for key, item in value[1:]}
    return [_thawed(item) for item in value[1:]] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Kind:
    """What a control must have too, to be a control of a method's kind.

    Attributes:
        updates: optimiser steps per batch, of the group that has most.
        networks: networks whose mean predicts.
    """

    updates: int = 1
    networks: int = 1


def kind_of(config: RunConfig) -> Kind:
    """The kind of a run's method with its options, found by a step on a small network of the same architecture.

    Raises:
        InputError: the method and the network do not fit together.
    """
    network = config.network
    return _kind(config.method, _frozen(config.options), network.name, _frozen(network.options))


@lru_cache
def _kind(method: str, method_options: Any, name: str, options: Any) -> Kind:
    flat = {option: value for option, value in narrowed(name, _thawed(options)).items() if option != "strides"}
    build: Callable[..., Network] = partial(build_network, name, channels=1, classes=2, spatial_dims=2, **flat)
    with apart():
        built = entry(method).build(_thawed(method_options), Task(2, 1, 2, (2, 1), unlabelled=16), build).train()
        sides = tuple(2 * max(unit, 4) for unit in build().divisor)
        losses = built.step(random_batch((2, 2), 1, sides, 2), Clock(*LATE, built.stages()[-1].name))
        groups = Counter(loss.group for loss in losses if loss.update)
    return Kind(max(groups.values(), default=1), max(len(built.predictors()), 1))
