"""Out of memory or disk, explained by what can be changed."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from semiseg.errors import InputError
from semiseg.methods.base import Method, Task, entry
from semiseg.networks import network_class
from semiseg.networks.base import Network
from semiseg.preparing.plan import Plan
from semiseg.runs.build import network_builder, patch_of
from semiseg.settings.run import RunConfig
from semiseg.system.memory import is_out_of_memory
from semiseg.training.footprint import footprint
from semiseg.training.launch import precision_of

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Step:
    """What decides the memory of a training step: settings, plan, and the number of processes that share a batch.

    Attributes:
        resident: bytes of scans that are kept on the device.
    """

    config: RunConfig
    plan: Plan
    processes: int = 1
    resident: int = 0

    def having(self, section: str, **changes: Any) -> Step:
        """The same step with other settings of `section`, or of the top where it is empty."""
        if section:
            changes = {section: getattr(self.config, section).model_copy(update=changes)}
        return replace(self, config=self.config.model_copy(update=changes))

    @property
    def patches(self) -> tuple[int, int]:
        """Labelled and unlabelled patches over all processes."""
        batch, plan = self.config.batch, self.plan
        unlabelled = plan.unlabelled_per_batch if batch.unlabelled is None else batch.unlabelled
        uses = entry(self.config.method).cls.uses_unlabelled
        return batch.labelled or plan.labelled_per_batch, unlabelled if uses else 0

    @property
    def patch(self) -> tuple[int, ...]:
        """Sides of the patches."""
        return patch_of(self.config, self.plan, self.network())

    def network(self, device: str = "meta") -> Network:
        """A network of the run."""
        with torch.device(device):
            return network_builder(self.config, self.plan, pretrained=False)()

    def method(self) -> Method:
        """The method, with shapes and no data."""
        classes = self.plan.classes
        task = Task(classes, len(self.plan.channels), self.plan.spatial_dims, (1,) * classes, 1)
        with torch.device("meta"):
            build = network_builder(self.config, self.plan, pretrained=False)
            return entry(self.config.method).build(self.config.options, task, build)


@contextmanager
def explained(step: Step, folder: Path) -> Iterator[None]:
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


def step_bytes(step: Step) -> int:
    """Bytes that a step takes in one process, roughly, with the scans that are kept on the device.

    Networks that are trained see all patches once, with gradient; teachers only weigh. Methods that pass a network
    several times take more.
    """
    size = sum(p.numel() for p in step.network().parameters())
    parameters = list(step.method().parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad) / size
    copies = sum(p.numel() for p in parameters if not p.requires_grad) / size
    images = (sum(step.patches) // step.processes, len(step.plan.channels), *step.patch)
    found = footprint(partial(step.network, "cpu"), images, precision_of(step.config))
    return found.total(max(trained, 1.0), copies) + step.resident


def _advice(step: Step, error: BaseException) -> str:
    labelled, unlabelled = step.patches
    parameters = sum(p.numel() for p in step.method().parameters()) / 1e6
    scans = f", {step.resident / 2**30:.2g} GiB of scans" if step.resident else ""
    remedies = []
    for setting, changed in _changes(step):
        with suppress(InputError, ValueError):  # what the network, or its normalisation, cannot take
            remedies.append(f"--set {setting} (about {_gib(changed)})")
    return (
        f"memory ran out ({_first_line(error)}): the step holds {labelled} labelled + {unlabelled} unlabelled "
        f"patches of {' x '.join(map(str, step.patch))} voxels{scans} and {parameters:.1f} million parameters, "
        f"about {_gib(step)}; make one of these smaller, with another --output: "
        f"{', '.join(remedies) if remedies else 'none is left: take a machine with more memory'}"
    )


def _changes(step: Step) -> Iterator[tuple[str, Step]]:
    """Settings that take less memory, and what the step is with each; not every network accepts all of them."""
    network = step.config.network
    half = _smaller(step.patch, step.network().divisor)
    if half != step.patch:
        yield f"batch.patch={_listed(half)}", step.having("batch", patch=half)
    needs = entry(step.config.method).configure(step.config.options).smallest_batch()
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
    spared = entry(step.config.method).cls.precision == "fp32"  # bf16 would leave a part of the method out
    if not spared and precision_of(step.config) != "bf16" == precision_of(half_precision.config):
        yield "precision=bf16", half_precision
    if step.resident:
        yield "speed.resident=off", replace(step, resident=0)


def _filters(step: Step) -> Any:
    """Channels of the network, of its first stage or of all of them; None where it has no such setting."""
    network = step.config.network
    own = network_class(network.name).Options.model_fields.get("filters")
    planned = step.plan.filters if network.name == "unet" else own.default if own else None
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


def _gib(step: Step) -> str:
    return f"{step_bytes(step) / 2**30:.2g} GiB"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
