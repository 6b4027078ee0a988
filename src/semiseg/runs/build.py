"""What a configuration means for the prepared data: who is labelled, which network, which patches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semiseg.batches.sampler import BatchPlan, steps_per_epoch
from semiseg.datasets.dataset import Dataset
from semiseg.datasets.splits import Split, draw_split, read_roles, split_of
from semiseg.errors import InputError, raise_all
from semiseg.methods.base import Entry, Method, MethodConfig, NetworkBuilder, Task, entry
from semiseg.networks import build_network
from semiseg.networks.base import Network
from semiseg.networks.import_weights import import_weights
from semiseg.preparing.plan import Plan
from semiseg.preparing.store import Store
from semiseg.runs.precision import resolve_precision
from semiseg.scans.components import piece_sizes
from semiseg.settings.run import RunConfig

WHOLE = 0.95
"""Share of a class's voxels that its largest component holds in every labelled scan, if it is one piece there."""


Roles = tuple[Mapping[str, Sequence[str]], str]
"""Case ids by role, and a note, as `read_roles` finds them in a split file."""


@dataclass(frozen=True)
class Build:
    """What settings and plan make together: method, network, patches. It is made once for a run, and handed on."""

    config: RunConfig
    plan: Plan

    @cached_property
    def entry(self) -> Entry:
        """The registered method."""
        return entry(self.config.method)

    @cached_property
    def options(self) -> MethodConfig:
        """Options of the method."""
        return self.entry.configure(self.config.options)

    @cached_property
    def network(self) -> Network:
        """A network of the run, with shapes and no weights (`meta`)."""
        with torch.device("meta"):
            return self.networks(pretrained=False)()

    @cached_property
    def patch(self) -> tuple[int, ...]:
        """Patch sides: those of the configuration, or the plan's, rounded up to what the network can halve.

        Raises:
            InputError: the configured patch has the wrong number of sides or sides that the network cannot halve.
        """
        return _patch(self.config, self.plan, self.network)

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Labelled and unlabelled patches of a step: what the configuration leaves open comes from the plan."""
        batch, plan = self.config.batch, self.plan
        unlabelled = plan.unlabelled_per_batch if batch.unlabelled is None else batch.unlabelled
        return batch.labelled or plan.labelled_per_batch, unlabelled

    @cached_property
    def precision(self) -> str:
        """Resolved precision of forward passes in training."""
        return precision_of(self.config)

    @property
    def network_options(self) -> dict[str, Any]:
        """Options of the configured network, with what the plan proposes for those that are left open."""
        options = dict(self.config.network.options)
        if self.config.network.name == "unet":
            filters = options.setdefault("filters", self.plan.filters)
            if isinstance(filters, Sequence):
                options.setdefault("strides", self.plan.strides[: len(filters)])
        return options

    def networks(self, *, pretrained: bool = True) -> NetworkBuilder:
        """Builder of the configured network; the plan proposes what the options leave open.

        With `pretrained`, networks start from the configured weights, if there are any.
        """
        build = partial(
            build_network,
            self.config.network.name,
            channels=len(self.plan.channels),
            classes=self.plan.classes,
            spatial_dims=self.plan.spatial_dims,
            **self.network_options,
        )
        weights = self.config.network.weights if pretrained else None
        return build if weights is None else partial(_build_from, weights, build)

    def method(self, task: Task, *, pretrained: bool = True) -> Method:
        """The method with its networks."""
        return self.entry.build(self.config.options, task, self.networks(pretrained=pretrained))

    def batch_plan(self, split: Split) -> BatchPlan:
        """Patches of a training step."""
        labelled, unlabelled = self.counts
        return BatchPlan(
            labelled=labelled,
            unlabelled=unlabelled if split.unlabelled else 0,
            patch=self.patch,
            foreground=self.config.batch.foreground,
            augment=self.config.augment,
            # Slices of a fixed size are turned as they are, like those of the code that brings them there.
            spacing=None if self.plan.slice_size else self.plan.spacing[: self.plan.spatial_dims],
        )

    def with_length(self, split: Split) -> Build:
        """With the number of steps that the `epochs` of the settings have with this split, if they count in epochs."""
        config = self.config
        if config.epochs is None:
            return self
        unlabelled = split.unlabelled if self.entry.cls.uses_unlabelled else ()
        steps = config.epoch_steps or steps_per_epoch(split.labelled, unlabelled, *self.counts)
        return replace(self, config=config.model_copy(update={"steps": config.epochs * steps}))


def precision_of(config: RunConfig) -> str:
    """The precision that forward passes really have."""
    return resolve_precision(config.precision, config.accelerator, entry(config.method).cls.precision)


def choose_split(config: RunConfig, dataset: Dataset, store: Store, named: Roles | None = None) -> Split:
    """The split of the configuration: of its file (`named`, where that was read already), drawn, or all labels."""
    content = {case: store.meta(case).content for case in store.cases}
    voxels = {case: counts for case in store.cases if (counts := store.meta(case).voxels) is not None}
    if config.split:
        split = split_of(config.split, *(named or read_roles(config.split)), dataset, content=content)
        _check_classes(split, voxels, store.plan)
    else:
        labelled = config.labelled or len(voxels) - config.test - config.validation
        kept = {"validation": config.validation, "test": config.test}
        split = draw_split(dataset, voxels, labelled, config.split_seed, content=content, **kept)
    _check_selection(config, split, voxels)
    return split


def selection_cases(config: RunConfig, split: Split) -> tuple[str, ...]:
    """Cases whose labels choose the weights; none when the last ones are taken."""
    return split.roles[config.selects_on] if config.select == "best" else ()


def _check_selection(config: RunConfig, split: Split, voxels: Collection[str]) -> None:
    chosen = selection_cases(config, split)
    without = [case for case in chosen if case not in voxels]
    if config.select == "best" and not chosen:
        raise InputError(
            f"select: best needs {config.selects_on} cases, the split has none: add some, or take the last"
        )
    if without:
        raise InputError(
            f"select: best needs labels of the {config.selects_on} cases, {len(without)} have none "
            f"({', '.join(without[:3])}): add them, or set select: last"
        )


def _check_classes(split: Split, voxels: Mapping[str, tuple[int, ...]], plan: Plan) -> None:
    totals = [sum(per_class) for per_class in zip(*(voxels[case] for case in split.labelled), strict=True)]
    missing = [name for name, total in zip(plan.class_names, totals, strict=True) if not total]
    if missing:
        raise InputError(
            f"the {len(split.labelled)} labelled cases of the split have no voxel of {', '.join(missing)}: "
            "label one that has, or take the class out of dataset.json"
        )


def _build_from(weights: Path, build: NetworkBuilder, **overrides: Any) -> Network:
    network = build(**overrides)
    import_weights(weights, network)
    return network


def task_of(store: Store, split: Split, config: MethodConfig, steps: int) -> Task:
    """What the method may know of the data: labels of the labelled cases, summed up, and the number of the others."""
    counts = [store.meta(case).voxels for case in split.labelled]
    totals = tuple(sum(per_class) for per_class in zip(*(count for count in counts if count), strict=True))
    plan = store.plan
    pieces = one_piece(store, split.labelled) if config.asks_for_pieces() else ()
    return Task(plan.classes, len(plan.channels), plan.spatial_dims, totals, len(split.unlabelled), steps, pieces)


def one_piece(store: Store, cases: Sequence[str]) -> tuple[bool, ...]:
    """Per class, whether in each of the labelled `cases` its largest component holds nearly all of its voxels.

    In plans of 2D slices the components are those of slices. A class that no case shows is not one piece; background
    counts as one. A class that came in pieces is not looked at in further cases.
    """
    whole: dict[int, bool] = {}
    for case in cases:
        labels = np.asarray(store.label(case))
        parts = labels[None] if store.plan.spatial_dims == 3 else np.moveaxis(labels, -1, 0)
        open_yet = [label for label in range(1, store.plan.classes) if whole.get(label, True)]
        largest, voxels = np.sum([piece_sizes(part, open_yet) for part in parts], axis=0)
        shown = zip(open_yet, largest, voxels, strict=True)
        whole |= {label: bool(most >= WHOLE * count) for label, most, count in shown if count}
    return True, *(whole.get(label, False) for label in range(1, store.plan.classes))


def check_batch(config: RunConfig, batch: BatchPlan, processes: int) -> None:
    """Refuse batches in which a process would have too few patches for the method.

    Raises:
        InputError: a share of the batch is too small; says which setting to raise.
    """
    raise_all(entry(config.method).too_few(config.options, batch.labelled, batch.unlabelled, processes))


def _patch(config: RunConfig, plan: Plan, network: Network) -> tuple[int, ...]:
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
