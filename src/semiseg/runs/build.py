"""What a configuration means for the prepared data: who is labelled, which network, which patches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semiseg.batches.sampler import BatchPlan, steps_per_epoch
from semiseg.datasets.dataset import Dataset
from semiseg.datasets.splits import Split, draw_split, load_split
from semiseg.errors import InputError, raise_all
from semiseg.methods.base import MethodConfig, NetworkBuilder, Task, entry
from semiseg.networks import build_network
from semiseg.networks.base import Network
from semiseg.networks.import_weights import import_weights
from semiseg.preparing.plan import Plan
from semiseg.preparing.store import Store
from semiseg.scans.components import piece_sizes
from semiseg.settings.run import RunConfig

WHOLE = 0.95
"""Share of a class's voxels that its largest component holds in every labelled scan, if it is one piece there."""


def choose_split(config: RunConfig, dataset: Dataset, store: Store) -> Split:
    """The split of the configuration: read from its file, drawn, or all labels there are."""
    content = {case: store.meta(case).content for case in store.cases}
    voxels = {case: counts for case in store.cases if (counts := store.meta(case).voxels) is not None}
    if config.split:
        split = load_split(config.split, dataset, content=content)
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


def with_length(config: RunConfig, split: Split, batch: BatchPlan) -> RunConfig:
    """`config` with the number of steps that its `epochs` have with this split, if it counts in epochs."""
    if config.epochs is None:
        return config
    unlabelled = split.unlabelled if entry(config.method).cls.uses_unlabelled else ()
    steps = config.epoch_steps or steps_per_epoch(split.labelled, unlabelled, batch)
    return config.model_copy(update={"steps": config.epochs * steps})


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
    build = partial(
        build_network,
        config.network.name,
        channels=len(plan.channels),
        classes=plan.classes,
        spatial_dims=plan.spatial_dims,
        **network_options(config, plan),
    )
    weights = config.network.weights if pretrained else None
    return build if weights is None else partial(_build_from, weights, build)


def network_options(config: RunConfig, plan: Plan) -> dict[str, Any]:
    """Options of the configured network, with what the plan proposes for those that are left open."""
    options = dict(config.network.options)
    if config.network.name == "unet":
        filters = options.setdefault("filters", plan.filters)
        if isinstance(filters, Sequence):
            options.setdefault("strides", plan.strides[: len(filters)])
    return options


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


def batch_plan_of(config: RunConfig, plan: Plan, split: Split) -> BatchPlan:
    """Patches of a training step: what the configuration leaves open comes from the plan."""
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
        # Slices of a fixed size are turned as they are, like those of the code that brings them there.
        spacing=None if plan.slice_size else plan.spacing[: plan.spatial_dims],
    )
