"""Everything that a training run needs, built from its configuration in one place."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from semiseg.batches.sampler import Batches, BatchPlan, Share
from semiseg.datasets.dataset import Dataset, open_dataset
from semiseg.datasets.splits import Split, patients_of, read_roles, split_of
from semiseg.errors import InputError, shown
from semiseg.methods.base import Clock, Loss, Method, Stage, Task
from semiseg.preparing.plan import Plan
from semiseg.preparing.prepare import prepare, prepared_folder
from semiseg.preparing.store import Store, open_store
from semiseg.runs import checkpoint
from semiseg.runs.build import Build, check_batch, choose_split, selection_cases, task_of
from semiseg.runs.device import device_name
from semiseg.runs.folder import Run, start
from semiseg.runs.stamps import stamps
from semiseg.settings.presets import deviations, differences
from semiseg.settings.run import RunConfig
from semiseg.system.files import sweep
from semiseg.system.locks import locked
from semiseg.training.execution import execute
from semiseg.training.execution_choice import Choice, Workload, choose_execution
from semiseg.training.launch import launch
from semiseg.training.memory import MemoryInputs, explained
from semiseg.training.optim import make_optimisers
from semiseg.training.stages import Span, spans
from semiseg.training.used import changed_cases, used_cases

_log = logging.getLogger(__name__)

_INIT, _STEP, _REFRESH = 2, 3, 4


class Stepper(nn.Module):
    """One forward is one `next` of the method's generator, so that every backward has its own DDP forward."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, losses: Iterator[Loss]) -> tuple[str, Tensor, dict[str, Tensor], bool] | None:
        """Group, total and detached terms of the next loss, and whether it updates; None when the step is over."""
        loss = next(losses, None)
        if loss is None:
            return None
        total = loss.total
        if loss.weightless:
            total = total + _nothing_of(self.method.groups()[loss.group])
        return loss.group, total, {name: term.detach() for name, term in loss.terms.items()}, loss.update


def _nothing_of(parameters: Sequence[nn.Parameter]) -> Tensor:
    """0 with a gradient of 0 for each of `parameters`: those that only terms of weight 0 would train must still have
    one, on all processes, for `DistributedDataParallel` waits for it.
    """
    return 0 * torch.stack([parameter[(0,) * parameter.ndim] for parameter in parameters]).sum()


@dataclass
class Progress:
    """What a run has behind it; saved in every checkpoint."""

    step: int = 0
    skipped: int = 0
    streak: int = 0
    """Updates left out in a row up to here."""
    best_score: float = -1.0
    best_step: int = 0
    worse: int = 0
    """Validations since the best one."""


@dataclass(frozen=True)
class Session:
    """A run in memory."""

    build: Build
    fabric: Fabric
    run: Run
    store: Store
    split: Split
    batches: Batches
    task: Task
    method: Method
    stepper: nn.Module
    optimisers: dict[str, Optimizer]
    progress: Progress
    choice: Choice

    @property
    def config(self) -> RunConfig:
        """Settings of the run."""
        return self.build.config

    @property
    def plan(self) -> Plan:
        """Plan of the prepared data."""
        return self.build.plan

    @property
    def precision(self) -> str:
        """Resolved precision of forward passes."""
        return self.build.precision

    @property
    def memory_inputs(self) -> MemoryInputs:
        """What decides the memory of a step."""
        return MemoryInputs(self.build, self.fabric.world_size, self.batches.resident)

    @property
    def epoch_steps(self) -> int:
        """Steps of an epoch: as set, or one pass over the cases."""
        return self.config.epoch_steps or self.batches.steps_per_epoch

    def clock(self, step: int) -> Clock:
        """The clock that the method sees at `step`."""
        per_epoch, steps = self.epoch_steps, self.config.steps
        return Clock(step, steps, step // per_epoch, -(-steps // per_epoch), self.span(step).stage.name)

    def span(self, step: int) -> Span:
        """The stage of `step`."""
        return next(span for span in spans(self.method.stages(), self.config.steps) if step < span.end)

    def rate(self, step: int) -> float:
        """Learning rate of `step`."""
        return self.span(step).rate(self.config.optimiser, step, self.config.steps, self.epoch_steps)

    def validates(self, steps: int) -> bool:
        """Whether it is time to validate after so many steps: by the configured rhythm, and where a stage ends."""
        config = self.config
        unit = self.epoch_steps if config.validate_unit == "epoch" else 1
        every, first = config.validate_every * unit, (config.validate_from or config.validate_every) * unit
        due = steps >= first and (steps - first) % every == 0
        return config.select == "best" and (due or steps == self.span(steps - 1).end)

    @property
    def exhausted(self) -> bool:
        """Whether the last stage has been validated often enough without a better score."""
        patience = self.config.patience
        return patience is not None and self.progress.worse >= patience and self._in_last_stage

    @property
    def _in_last_stage(self) -> bool:
        return self.progress.step > 0 and self.span(self.progress.step - 1).end == self.config.steps

    def take(self, score: float) -> None:
        """Note a validation score of this moment; the best one's weights are kept."""
        progress = self.progress
        progress.worse += 1
        if score > progress.best_score:
            progress.best_score, progress.best_step, progress.worse = score, progress.step, 0
            self.save_best()

    def save(self) -> None:
        """Write a checkpoint of the present moment (first process only)."""
        if self.fabric.is_global_zero:
            tensors = checkpoint.pack(self.method, self.optimisers)
            state = {
                "method": self.config.method,
                "progress": vars(self.progress),
                "processes": self.fabric.world_size,
                "extra": self.method.extra_state(),
            }
            checkpoint.save_step(self.run.checkpoints, self.progress.step, tensors, state)
        self.fabric.barrier()

    def enter_stage(self, step: int) -> None:
        """Where `step` is the first of a later stage, begin with what the stage wants of the one before it.

        This is done before the step, so that a run continued from a checkpoint of this very moment does it as well.
        """
        span = self.span(step)
        if step != span.first or span.before is None:
            return
        self.progress.best_score, self.progress.best_step, self.progress.worse = -1.0, 0, 0
        if span.stage.start == "best" and self.config.select == "best":
            found = checkpoint.load(self.run.checkpoints, best_name(span.before))
            checkpoint.restore(found, self.config.method, self.method, self.optimisers)
        if span.stage.start == "anew":
            for optimiser in self.optimisers.values():
                optimiser.state.clear()

    def save_best(self) -> None:
        """Write the best moment of the stage that the last step was of; that of the last stage is the run's `best`."""
        span = self.span(self.progress.step - 1)
        if self._in_last_stage:
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

    def seed_refresh(self, step: int) -> None:
        """Give them the stream of (seed, step), the same on every process."""
        torch.manual_seed(_number(self.config.seed, _REFRESH, step))


@contextmanager
def open_session(
    config: RunConfig, run: Run, dataset: Dataset | None = None, say: Callable[[str], None] = lambda line: None
) -> Iterator[Session]:
    """The session of `run`, resumed from its newest whole checkpoint when there is one.

    `dataset` is that of the settings, where it is open already; `say` is told how the run differs from its preset, and
    what it is going to do.
    """
    fabric = launch(config)
    dataset = dataset or open_dataset(config.data, config.patient_pattern)
    deviating = deviations(config, dataset.cropped)
    for line in differences(config, deviating):
        say(line)
    named = read_roles(config.split) if config.split else None
    if config.split and named:
        split_of(config.split, *named, dataset)  # what is wrong with it is told before hours of preparation
    store = _prepared(config, dataset, fabric)
    split = choose_split(config, dataset, store, named)
    build = Build(config, store.plan).with_length(split)
    config, batch_plan = build.config, build.batch_plan(split)
    check_batch(config, batch_plan, fabric.world_size)
    say(_announcement(config, split, batch_plan))
    # Only now is it known that the settings hold together; a refusal leaves no folder behind.
    with locked(run.path) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            sweep(run.checkpoints)
            used = used_cases(config, split, store, dataset)
            facts = _facts(build, fabric, split, store, dataset) | {"deviations": list(deviating)}
            facts |= {"with_label": [case for case in store.cases if store.has_label(case)]}
            facts |= {"used": {case: each.model_dump() for case, each in used.items()}}
            start(run, config, store.plan, split, facts, lambda: changed_cases(run, used))
        fabric.barrier()
        say("trying how the networks run best on this device")
        with explained(MemoryInputs(build, fabric.world_size), run.path):
            session = _assemble(build, fabric, run, store, split, batch_plan)
        yield session


def _announcement(config: RunConfig, split: Split, batch: BatchPlan) -> str:
    """Cases, steps and patches of a run, in a line."""
    counts = {"labelled": split.labelled, "unlabelled": split.unlabelled, "validation": split.validation}
    told = [f"{len(cases)} {role}" for role, cases in counts.items() if cases]
    patch = " x ".join(map(str, batch.patch))
    return (
        f"{config.method}: {', '.join([*told, f'{len(split.test)} test'])} cases; {config.steps} steps of "
        f"{batch.labelled} + {batch.unlabelled} patches of {patch}"
    )


def _assemble(build: Build, fabric: Fabric, run: Run, store: Store, split: Split, batch_plan: BatchPlan) -> Session:
    """Networks, optimisers and batches on the device, resumed from the newest whole checkpoint."""
    config, plan = build.config, build.plan
    choice = _choose_execution(build, fabric, run)
    task = task_of(store, split, build.options, config.steps)
    torch.manual_seed(_number(config.seed, _INIT))
    method = build.method(task)
    execute(method, choice.mode, plan.spatial_dims)
    stepper = fabric.setup_module(Stepper(method))
    optimisers = make_optimisers(config.optimiser, method)
    batches = Batches(
        store,
        split.labelled,
        split.unlabelled if method.uses_unlabelled else (),
        batch_plan,
        seed=config.seed,
        device=fabric.device,
        share=Share(fabric.global_rank, fabric.world_size),
        layout=choice.mode.memory_format(plan.spatial_dims),
        resident={"auto": None, "on": True, "off": False}[config.speed.resident],
    )
    progress = _resume(config, run, method, optimisers, fabric)
    return Session(build, fabric, run, store, split, batches, task, method, stepper, optimisers, progress, choice)


def _choose_execution(build: Build, fabric: Fabric, run: Run) -> Choice:
    """How this run executes its networks: the first process finds out, for all."""
    if not fabric.is_global_zero:
        return fabric.broadcast(None)  # type: ignore[return-value]
    config, plan = build.config, build.plan
    images = MemoryInputs(build, fabric.world_size).images
    network = str([config.network.name, config.network.options, plan.filters, plan.strides, plan.classes])
    networks = build.networks(pretrained=False)
    work = Workload(networks, network, plan.classes, images, build.precision, fabric.device, config.steps)
    return fabric.broadcast(choose_execution(config.speed, work, run.path))


def _prepared(config: RunConfig, dataset: Dataset, fabric: Fabric) -> Store:
    """The store, which the first process prepares where that is not done yet; then the others open it, for which the
    first one of another machine looks after its own copy, if it has one.

    Scans are prepared with their labels, those of test cases among them: in processes apart, so that no process that
    trains has opened a label but those it may use.
    """
    store: Store | None = None
    first = fabric.is_global_zero
    for turn in (first, not first and fabric.local_rank == 0):
        if turn:
            store = prepare(dataset, config.prepared, wishes=config.plan, apart=True)
        fabric.barrier()
    return store or open_store(prepared_folder(dataset.root, config.prepared, config.plan))


def _resume(config: RunConfig, run: Run, method: Method, optimisers: dict[str, Optimizer], fabric: Fabric) -> Progress:
    found = checkpoint.latest(run.checkpoints)
    if found is None:
        return Progress()
    checkpoint.restore(found, config.method, method, optimisers)
    if fabric.is_global_zero:
        checkpoint.prune(run.checkpoints, found.step)  # a run that was killed before it did so may have nothing to save
    before, now = found.state.get("processes"), fabric.world_size
    progress, own = found.state.get("progress"), vars(Progress())
    if not isinstance(progress, dict) or progress.keys() != own.keys() or not _are_numbers(before, *progress.values()):
        raise InputError(
            f"{found.path}: expected numbers for processes, {', '.join(own)}, came {shown(before)}, {shown(progress)}: "
            "restore the file, or delete it to go on from the checkpoint before it"
        )
    if before != now and fabric.is_global_zero:
        _log.warning(
            "warning: %s: %d process(es) go on where %d trained up to step %d: random masks and noise are drawn per "
            "process, so the weights are not bit for bit those of an uninterrupted run",
            *(run.path, now, before, found.step),
        )
    return Progress(**progress)


def _are_numbers(*values: Any) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)


def _facts(build: Build, fabric: Fabric, split: Split, store: Store, dataset: Dataset) -> dict[str, Any]:
    config, content = build.config, {case: store.meta(case).content for case in store.cases}
    found = stamps(config, store.plan, dataset)
    return {
        "device": device_name(fabric.device),
        "processes": fabric.world_size,
        "precision": build.precision,
        "protocol": config.protocol + (f" ({', '.join(found)})" if found else ""),
        "stamps": list(found),
        "based_on": config.based_on,
        "label_budget": {"training": len(split.labelled), "selection": len(selection_cases(config, split))},
        "split": split.digest,
        "patients": patients_of(dataset, content, split.test),
        "cases": content,
    }


def best_name(stage: Stage) -> str:
    """Name of the checkpoint of a stage's best moment, for the stage after it."""
    return f"best_{stage.name}"


def _number(*key: int) -> int:
    """A 63-bit number that is a pure function of `key`."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
