"""Out of memory or disk, explained by what can be changed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from semiseg.engine.footprint import footprint
from semiseg.engine.resolve import network_builder
from semiseg.engine.session import Session
from semiseg.errors import InputError
from semiseg.networks.base import Network
from semiseg.oom import is_out_of_memory

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def explained(session: Session) -> Iterator[None]:
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
            f"{session.run.path}: cannot be written ({error.strerror}): free some space and give the same command again"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(_advice(session, error)) from error


def step_bytes(session: Session) -> int:
    """Bytes that a step of this run takes in one process, roughly.

    Networks that are trained see all patches once, with gradient; teachers only weigh. Methods that pass a network
    several times take more.
    """
    size = sum(p.numel() for p in _network(session).parameters())
    trained = sum(p.numel() for p in session.method.parameters() if p.requires_grad) / size
    copies = sum(p.numel() for p in session.method.parameters() if not p.requires_grad) / size
    labelled, unlabelled = _patches(session)
    patches = (labelled + unlabelled * session.method.uses_unlabelled) // session.fabric.world_size
    images = (patches, len(session.plan.channels), *session.batches.patch)
    found = footprint(partial(_network, session, "cpu"), images, session.precision)
    return found.total(max(trained, 1.0), copies)


def _network(session: Session, device: str = "meta") -> Network:
    with torch.device(device):
        return network_builder(session.config, session.plan, pretrained=False)()


def _patches(session: Session) -> tuple[int, int]:
    plan, batch = session.plan, session.config.batch
    unlabelled = plan.unlabelled_per_batch if batch.unlabelled is None else batch.unlabelled
    return batch.labelled or plan.labelled_per_batch, unlabelled


def _advice(session: Session, error: BaseException) -> str:
    patch = session.batches.patch
    labelled, unlabelled = _patches(session)
    parameters = sum(p.numel() for p in session.method.parameters()) / 1e6
    return (
        f"memory ran out ({str(error).splitlines()[0]}): the step holds {labelled} labelled + {unlabelled} unlabelled "
        f"patches of {' x '.join(map(str, patch))} voxels and {parameters:.1f} million parameters, "
        f"about {step_bytes(session) / 2**30:.2g} GiB; make one smaller: "
        f"--set batch.unlabelled={max(unlabelled // 2, 1)}, "
        f"--set batch.patch=[{', '.join(str(side // 2) for side in patch)}], or --set precision=bf16"
    )
