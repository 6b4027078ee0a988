"""Everything that a training run needs, built from its configuration in one place."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor, nn
from torch.optim import Optimizer

from semiseg.config import RunConfig
from semiseg.data.batches import Batches, BatchPlan, Share
from semiseg.data.dataset import Dataset, open_dataset
from semiseg.data.plan import Plan
from semiseg.data.prepare import prepare
from semiseg.data.splits import Split, draw_split, load_split
from semiseg.data.store import Store
from semiseg.engine import checkpoint
from semiseg.engine.optim import make_optimiser
from semiseg.engine.precision import fabric_precision, memory_format, resolve_precision, set_memory_format
from semiseg.engine.run import Run, locked, start
from semiseg.engine.stages import Span, spans
from semiseg.errors import InputError
from semiseg.methods.base import Clock, Loss, Method, NetworkBuilder, Stage, Task, entry
from semiseg.networks import build_network
from semiseg.networks.base import Network
from semiseg.networks.import_weights import import_weights

_INIT, _STEP = 2, 3


class Stepper(nn.Module):
    """One forward is one `next` of the method's generator, so that every backward has its own DDP forward."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, losses: Iterator[Loss]) -> tuple[str, Tensor, dict[str, Tensor]] | None:
        """Group, total and detached terms of the next loss; None when the step is over."""
        loss = next(losses, None)
        if loss is None:
            return None
        return loss.group, loss.total, {name: term.detach() for name, term in loss.terms.items()}


@dataclass
class Progress:
    """What a run has behind it; saved in every checkpoint."""

    step: int = 0
    skipped: int = 0
    best_score: float = -1.0
    best_step: int = 0


@dataclass(frozen=True)
class Session:
    """A run in memory."""

    config: RunConfig
    fabric: Fabric
    run: Run
    plan: Plan
    store: Store
    split: Split
    batches: Batches
    task: Task
    method: Method
    stepper: nn.Module
    optimisers: dict[str, Optimizer]
    progress: Progress

    @property
    def precision(self) -> str:
        """Resolved precision of forward passes."""
        return _precision(self.config)

    def clock(self, step: int) -> Clock:
        """The clock that the method sees at `step`."""
        per_epoch, steps = self.batches.steps_per_epoch, self.config.steps
        return Clock(step, steps, step // per_epoch, -(-steps // per_epoch), self.span(step).stage.name)

    def span(self, step: int) -> Span:
        """The stage of `step`."""
        return next(span for span in spans(self.method.stages(), self.config.steps) if step < span.end)

    def rate(self, step: int) -> float:
        """Learning rate of `step`."""
        return self.span(step).rate(self.config.optimiser, step, self.config.steps)

    def save(self) -> None:
        """Write a checkpoint of the present moment (first process only)."""
        if self.fabric.is_global_zero:
            tensors = checkpoint.pack(self.method, self.optimisers)
            state = {"progress": vars(self.progress), "extra": self.method.extra_state()}
            checkpoint.save_step(self.run.checkpoints, self.progress.step, tensors, state)
        self.fabric.barrier()

    def enter_stage(self, step: int) -> None:
        """Where `step` is the first of a later stage, begin with what the stage wants of the one before it.

        This is done before the step, so that a run continued from a checkpoint of this very moment does it as well.
        """
        span = self.span(step)
        if step != span.first or span.before is None:
            return
        self.progress.best_score, self.progress.best_step = -1.0, 0
        if span.stage.start == "best" and self.config.select == "best":
            found = checkpoint.load(self.run.checkpoints, best_name(span.before))
            checkpoint.unpack(found.tensors, self.method, self.optimisers)
            self.method.load_extra_state(found.state["extra"])

    def save_best(self) -> None:
        """Write the best moment of the stage that the last step was of; that of the last stage is the run's `best`."""
        span = self.span(self.progress.step - 1)
        if span.end == self.config.steps:
            self.save_weights("best")
        else:
            self.save_weights(best_name(span.stage), self.optimisers)

    def save_weights(self, name: str, optimisers: Mapping[str, Optimizer] | None = None) -> None:
        """Write the method's weights, as `predict` loads them, and states of optimisers (first process only)."""
        if self.fabric.is_global_zero:
            state = {
                "step": self.progress.step,
                "method": self.config.method,
                "task": asdict(self.task),
                "extra": self.method.extra_state(),
            }
            checkpoint.save(self.run.checkpoints, name, checkpoint.pack(self.method, optimisers or {}), state)
        self.fabric.barrier()

    def seed(self, step: int) -> None:
        """Give torch's generators the stream of (seed, step, rank)."""
        torch.manual_seed(_number(self.config.seed, _STEP, step, self.fabric.global_rank))


@contextmanager
def open_session(config: RunConfig, run: Run) -> Iterator[Session]:
    """The session of `run`, resumed from its newest whole checkpoint when there is one."""
    fabric = _launch(config)
    dataset, store = _open_data(config, fabric)
    split = choose_split(config, dataset, store)
    batch_plan = _batch_plan(config, store.plan, split)
    # Only now is it known that the settings hold together; a refusal leaves no folder behind.
    with locked(run) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            start(run, config, store.plan, split, _facts(config, fabric, split, store))
        fabric.barrier()
        layout = memory_format(fabric.device, store.plan.spatial_dims)
        task = task_of(store, split)
        torch.manual_seed(_number(config.seed, _INIT))
        method = entry(config.method).build(config.options, task, network_builder(config, store.plan))
        set_memory_format(method, layout)
        stepper = fabric.setup_module(Stepper(method))
        optimisers = {
            name: make_optimiser(config.optimiser, parameters) for name, parameters in method.groups().items()
        }
        batches = Batches(
            store,
            split.labelled,
            split.unlabelled if method.uses_unlabelled else (),
            batch_plan,
            seed=config.seed,
            device=fabric.device,
            share=Share(fabric.global_rank, fabric.world_size),
            layout=layout,
        )
        progress = _resume(run, method, optimisers)
        yield Session(
            config, fabric, run, store.plan, store, split, batches, task, method, stepper, optimisers, progress
        )


def choose_split(config: RunConfig, dataset: Dataset, store: Store) -> Split:
    """The split of the configuration: read from its file, drawn, or all labels there are."""
    content = {case: store.meta(case).content for case in store.cases}
    voxels = {case: counts for case in store.cases if (counts := store.meta(case).voxels) is not None}
    if config.split:
        split = load_split(config.split, dataset, content=content)
        _check_classes(split, voxels, store.plan)
        return split
    labelled = config.labelled or len(voxels) - config.test - config.validation
    kept = {"validation": config.validation, "test": config.test}
    return draw_split(dataset, voxels, labelled, config.split_seed, content=content, **kept)


def _check_classes(split: Split, voxels: Mapping[str, tuple[int, ...]], plan: Plan) -> None:
    totals = [sum(per_class) for per_class in zip(*(voxels[case] for case in split.labelled), strict=True)]
    missing = [name for name, total in zip(plan.class_names, totals, strict=True) if not total]
    if missing:
        raise InputError(
            f"the {len(split.labelled)} labelled cases of the split have no voxel of {', '.join(missing)}: "
            "label one that has, or take the class out of dataset.json"
        )


def network_builder(config: RunConfig, plan: Plan, *, pretrained: bool = True) -> NetworkBuilder:
    """Builder of the configured network; the plan proposes what the options leave open.

    With `pretrained`, networks start from the configured weights, if there are any.
    """
    options = dict(config.network.options)
    if config.network.name == "unet":
        filters = options.setdefault("filters", plan.filters)
        options.setdefault("strides", plan.strides[: len(filters)])
    build = partial(
        build_network,
        config.network.name,
        channels=len(plan.channels),
        classes=plan.classes,
        spatial_dims=plan.spatial_dims,
        **options,
    )
    weights = config.network.weights if pretrained else None
    return build if weights is None else partial(_build_from, weights, build)


def _build_from(weights: Path, build: NetworkBuilder, **overrides: Any) -> Network:
    network = build(**overrides)
    import_weights(weights, network)
    return network


def task_of(store: Store, split: Split) -> Task:
    """What the method may know of the data: counts of the labelled cases only."""
    counts = [store.meta(case).voxels for case in split.labelled]
    totals = tuple(sum(per_class) for per_class in zip(*(count for count in counts if count), strict=True))
    plan = store.plan
    return Task(plan.classes, len(plan.channels), plan.spatial_dims, totals)


def patch_of(config: RunConfig, plan: Plan, network: Network) -> tuple[int, ...]:
    """Patch sides: those of the configuration, or the plan's, rounded up to what the network can halve.

    Raises:
        InputError: the configured patch has the wrong number of sides or sides that the network cannot halve.
    """
    if config.batch.patch is None:
        return tuple(-(-side // unit) * unit for side, unit in zip(plan.patch, network.divisor, strict=True))
    patch = config.batch.patch
    if len(patch) != plan.spatial_dims:
        raise InputError(f"batch.patch: expected {plan.spatial_dims} sides, came {list(patch)}")
    fitting = tuple(-(-side // unit) * unit for side, unit in zip(patch, network.divisor, strict=True))
    if fitting != patch:
        raise InputError(
            f"batch.patch: {list(patch)} is not divisible by {list(network.divisor)}, as the network needs: "
            f"take {list(fitting)}"
        )
    return patch


def _launch(config: RunConfig) -> Fabric:
    """Processes, device and precision by Fabric; under `torchrun` its world is taken as it is."""
    world = int(os.environ.get("LOCAL_WORLD_SIZE", config.devices))
    distributed = world > 1 or int(os.environ.get("WORLD_SIZE", 1)) > 1
    strategy: Strategy | str = "auto"
    if distributed:
        several_groups = entry(config.method).cls.groups is not Method.groups
        strategy = DDPStrategy(find_unused_parameters=several_groups)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=world,
        num_nodes=max(int(os.environ.get("GROUP_WORLD_SIZE", 1)), 1),
        strategy=strategy,
        precision=fabric_precision(_precision(config)),
    )
    if distributed:
        fabric.launch()
    if fabric.device.type == "cuda":
        torch.backends.cudnn.benchmark = not config.deterministic
        torch.backends.cudnn.deterministic = config.deterministic
        torch.set_float32_matmul_precision("high" if _precision(config) == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = _precision(config) == "tf32"
    return fabric


def _precision(config: RunConfig) -> str:
    return resolve_precision(config.precision, config.accelerator)


def _open_data(config: RunConfig, fabric: Fabric) -> tuple[Dataset, Store]:
    """The first process prepares what is not prepared yet; the others wait, then open it."""
    if fabric.is_global_zero:
        prepare(config.data, config.prepared)
    fabric.barrier()
    return open_dataset(config.data, config.patient_pattern), prepare(config.data, config.prepared)


def _batch_plan(config: RunConfig, plan: Plan, split: Split) -> BatchPlan:
    with torch.device("meta"):
        network = network_builder(config, plan, pretrained=False)()
    batch = config.batch
    unlabelled = plan.unlabelled_per_batch if batch.unlabelled is None else batch.unlabelled
    return BatchPlan(
        labelled=batch.labelled or plan.labelled_per_batch,
        unlabelled=unlabelled if split.unlabelled else 0,
        patch=patch_of(config, plan, network),
        foreground=batch.foreground,
        augment=config.augment,
    )


def _resume(run: Run, method: Method, optimisers: dict[str, Optimizer]) -> Progress:
    found = checkpoint.latest(run.checkpoints)
    if found is None:
        return Progress()
    checkpoint.unpack(found.tensors, method, optimisers)
    method.load_extra_state(found.state["extra"])
    return replace(Progress(), **found.state["progress"])


def _facts(config: RunConfig, fabric: Fabric, split: Split, store: Store) -> dict[str, Any]:
    chosen = len(split.validation) if config.select == "best" else 0
    if config.protocol == "paper" and config.select == "best":
        chosen = len(split.test)
    return {
        "device": _device_name(fabric.device),
        "processes": fabric.world_size,
        "precision": _precision(config),
        "protocol": config.protocol + (" (test-selected)" if config.protocol == "paper" and chosen else ""),
        "label_budget": {"training": len(split.labelled), "selection": chosen},
        "split": split.digest,
        "cases": {case: store.meta(case).content for case in store.cases},
    }


def _device_name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads"
    )


def best_name(stage: Stage) -> str:
    """Name of the checkpoint of a stage's best moment, for the stage after it."""
    return f"best_{stage.name}"


def _number(*key: int) -> int:
    """A 63-bit number that is a pure function of `key`."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
