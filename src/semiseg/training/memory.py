"""Out of memory or disk, explained by what can be changed."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from semiseg.errors import InputError
from semiseg.methods.base import Method, Task
from semiseg.networks import network_class
from semiseg.runs.build import Build
from semiseg.system.memory import is_out_of_memory
from semiseg.training.footprint import footprint

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class MemoryInputs:
    """What decides the memory of a training step: its build, and the number of processes that share a batch.

    Attributes:
        resident: bytes of scans that are kept on the device.
    """

    build: Build
    processes: int = 1
    resident: int = 0

    def having(self, section: str, **changes: Any) -> MemoryInputs:
        """The same with other settings of `section`, or of the top where it is empty."""
        config = self.build.config
        if section:
            changes = {section: getattr(config, section).model_copy(update=changes)}
        return replace(self, build=Build(config.model_copy(update=changes), self.build.plan))

    @property
    def patches(self) -> tuple[int, int]:
        """Labelled and unlabelled patches over all processes."""
        labelled, unlabelled = self.build.counts
        return labelled, unlabelled if self.build.entry.cls.uses_unlabelled else 0

    @property
    def images(self) -> tuple[int, ...]:
        """Shape of the patches of one process, `[B, C, *S]`."""
        return sum(self.patches) // self.processes, len(self.build.plan.channels), *self.build.patch

    @cached_property
    def method(self) -> Method:
        """The method, with shapes and no data."""
        plan = self.build.plan
        task = Task(plan.classes, len(plan.channels), plan.spatial_dims, (1,) * plan.classes, 1)
        with torch.device("meta"):
            return self.build.method(task, pretrained=False)


@contextmanager
def explained(step: MemoryInputs, folder: Path) -> Iterator[None]:
    """Turn an allocation failure into advice with this run's figures, and a full disk into a clear message.

    Raises:
        InputError: memory or disk ran out.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_IS_FULL:
            raise
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}): free some space and give the same command again"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(_advice(step, error)) from error


def step_bytes(step: MemoryInputs) -> int:
    """Bytes that a step takes in one process, roughly, with the scans that are kept on the device.

    Networks that are trained see all patches once, with gradient; teachers only weigh. Methods that pass a network
    several times take more.
    """
    size = sum(p.numel() for p in step.build.network.parameters())
    parameters = list(step.method.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad) / size
    copies = sum(p.numel() for p in parameters if not p.requires_grad) / size
    found = footprint(step.build.networks(pretrained=False), step.images, step.build.precision)
    return found.total(max(trained, 1.0), copies) + step.resident


def _advice(step: MemoryInputs, error: BaseException) -> str:
    labelled, unlabelled = step.patches
    parameters = sum(p.numel() for p in step.method.parameters()) / 1e6
    scans = f", {step.resident / 2**30:.2g} GiB of scans" if step.resident else ""
    remedies = []
    for setting, changed in _changes(step):
        with suppress(InputError, ValueError):  # what the network, or its normalisation, cannot take
            remedies.append(f"--set {setting} (about {_gib(changed)})")
    return (
        f"memory ran out ({_first_line(error)}): the step holds {labelled} labelled + {unlabelled} unlabelled "
        f"patches of {' x '.join(map(str, step.build.patch))} voxels{scans} and {parameters:.1f} million parameters, "
        f"about {_gib(step)}; make one of these smaller, with another --output: "
        f"{', '.join(remedies) if remedies else 'none is left: take a machine with more memory'}"
    )


def _changes(step: MemoryInputs) -> Iterator[tuple[str, MemoryInputs]]:
    """Settings that take less memory, and what the step is with each; not every network accepts all of them."""
    build, network = step.build, step.build.config.network
    half = _smaller(build.patch, build.network.divisor)
    if half != build.patch:
        yield f"batch.patch={_listed(half)}", step.having("batch", patch=half)
    needs = build.options.smallest_batch()
    for name, count, least in zip(("labelled", "unlabelled"), step.patches, needs, strict=True):
        fewer = max(count // 2 // step.processes, least, 1) * step.processes
        if fewer < count:
            yield f"batch.{name}={fewer}", step.having("batch", **{name: fewer})
    thinner = _halved(_filters(step))
    yield (
        f"network.options.filters={_listed(thinner)}",
        step.having("network", options={**network.options, "filters": thinner}),
    )
    half_precision = step.having("", precision="bf16")
    spared = build.entry.cls.precision == "fp32"  # bf16 would leave a part of the method out
    if not spared and build.precision != "bf16" == half_precision.build.precision:
        yield "precision=bf16", half_precision
    if step.resident:
        yield "speed.resident=off", replace(step, resident=0)


def _filters(step: MemoryInputs) -> Any:
    """Channels of the network, of its first stage or of all of them; None where it has no such setting."""
    network = step.build.config.network
    own = network_class(network.name).Options.model_fields.get("filters")
    planned = step.build.plan.filters if network.name == "unet" else own.default if own else None
    return network.options.get("filters", planned)


def _halved(filters: Any) -> Any:
    if isinstance(filters, int):
        return filters // 2
    return tuple(int(width) // 2 for width in filters or ())


def _smaller(patch: Sequence[int], divisor: Sequence[int]) -> tuple[int, ...]:
    """Half of the sides, as multiples of what the network needs."""
    return tuple(max(side // 2 // unit, 1) * unit for side, unit in zip(patch, divisor, strict=True))


def _listed(values: int | Sequence[int]) -> str:
    return str(values) if isinstance(values, int) else f"[{','.join(map(str, values))}]"


def _gib(step: MemoryInputs) -> str:
    return f"{step_bytes(step) / 2**30:.2g} GiB"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
