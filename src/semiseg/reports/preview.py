"""What a training would see: pictures of its first batches, without training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.batches.sampler import Batches
from semiseg.datasets.dataset import open_dataset
from semiseg.datasets.splits import Split
from semiseg.methods.base import Clock, Method
from semiseg.networks.base import Network
from semiseg.networks.narrow import narrowed
from semiseg.preparing.prepare import prepare
from semiseg.preparing.store import Store
from semiseg.reports.batch_pictures import Strip, draw_batch
from semiseg.runs.build import Build, choose_split, task_of
from semiseg.settings.run import RunConfig

MOST = 4
"""Most different inputs of networks in a picture."""


def preview(config: RunConfig, output: Path, count: int) -> list[Path]:
    """Draw the first `count` batches of the training that `config` describes as `output/batch_N.png`; their paths.

    A picture has the labelled patches with the outlines of their labels, the unlabelled ones, and what the method makes
    of them before its networks see it (masks, mixtures, noise), as in the last stage of the run. Nothing is trained, no
    run is begun, and no label is opened but those of the labelled cases.

    For the inputs a step of the method is taken with narrow networks of the run's architecture on the CPU, so what
    depends on weights, such as adversarial noise, is that of untrained ones.

    Raises:
        InputError: settings or data are not usable, or a picture cannot be written.
    """
    dataset = open_dataset(config.data, config.patient_pattern)
    store = prepare(dataset, config.prepared, wishes=config.plan, apart=True)
    split = choose_split(config, dataset, store)
    build = Build(config, store.plan).with_length(split)
    config, batch_plan = build.config, build.batch_plan(split)
    method = _narrow_method(build, store, split)
    unlabelled = split.unlabelled if method.uses_unlabelled else ()
    batches = Batches(store, split.labelled, unlabelled, batch_plan, seed=config.seed, resident=False)
    epochs = -(-config.steps // batches.steps_per_epoch)
    clock = Clock(config.steps - 1, config.steps, epochs - 1, epochs, method.stages()[-1].name)
    written = []
    for number, batch in enumerate(batches.stream(0, min(count, config.steps)), start=1):
        torch.manual_seed(config.seed + number)
        strips, path = [*_plain(batch), *_inputs(method, batch, clock)], output / f"batch_{number}.png"
        spacing = store.plan.spacing[: store.plan.spatial_dims]
        draw_batch(strips, path, class_names=store.plan.class_names, spacing=spacing)
        written.append(path)
    return written


def _narrow_method(build: Build, store: Store, split: Split) -> Method:
    config, network = build.config, build.config.network
    options = narrowed(network.name, build.network_options)
    narrow = config.model_copy(update={"network": network.model_copy(update={"options": options})})
    torch.manual_seed(config.seed)
    task = task_of(store, split, build.options, config.steps)
    return Build(narrow, build.plan).method(task, pretrained=False).train()


def _plain(batch: Batch) -> Iterator[Strip]:
    """The patches of a batch, augmented."""
    cases = batch.cases
    if batch.n:
        yield Strip("labelled", batch.labelled.numpy(), cases[: batch.n], batch.labels.numpy())
    if len(batch.unlabelled):
        yield Strip("unlabelled", batch.unlabelled.numpy(), cases[batch.n :])


def _inputs(method: Method, batch: Batch, clock: Clock) -> list[Strip]:
    """What the networks are given in a step, where it is not patches of the batch as they are."""
    seen: list[tuple[str, Tensor]] = []
    with _watched(method, seen):
        for _ in method.step(batch, clock):
            pass
    found: list[tuple[list[str], Tensor]] = []
    for name, images in seen:
        if _all_of(images, batch.images):
            continue
        same = next((names for names, known in found if torch.equal(known, images)), None)
        if same is None:
            found.append(([name], images))
        elif name not in same:
            same.append(name)
    more = f" ({len(found) - MOST} more are not shown)" if len(found) > MOST else ""
    strips = [Strip(f"into {', '.join(names)}", images.numpy()) for names, images in found[:MOST]]
    return [*strips[:-1], *(replace(last, title=last.title + more) for last in strips[-1:])]


@contextmanager
def _watched(method: Method, seen: list[tuple[str, Tensor]]) -> Iterator[None]:
    """Inside, the images of every call of a network are put into `seen`."""
    handles = []
    for name, module in method.networks().items():
        network = next(part for part in module.modules() if isinstance(part, Network))  # type: ignore[attr-defined]

        def note(_: object, inputs: Sequence[Tensor], name: str = name) -> None:
            seen.append((name, inputs[0].detach().float().clone()))

        handles.append(network.register_forward_pre_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _all_of(images: Tensor, known: Tensor) -> bool:
    """Whether each of `images` is one of `known`."""
    return all(any(torch.equal(image, other) for other in known) for image in images)
