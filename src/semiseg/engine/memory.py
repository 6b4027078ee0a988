"""Out of memory or disk, explained by what can be changed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from semiseg.engine.session import Session
from semiseg.errors import InputError

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CPU_MESSAGES = ("can't allocate memory", "not enough memory")


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
        if not _is_out_of_memory(error):
            raise
        raise InputError(_advice(session, error)) from error


def _is_out_of_memory(error: BaseException) -> bool:
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(error) for words in _CPU_MESSAGES)


def _advice(session: Session, error: BaseException) -> str:
    plan, config = session.plan, session.config
    patch = config.batch.patch or plan.patch
    labelled = config.batch.labelled or plan.labelled_per_batch
    unlabelled = plan.unlabelled_per_batch if config.batch.unlabelled is None else config.batch.unlabelled
    parameters = sum(p.numel() for p in session.method.parameters()) / 1e6
    return (
        f"memory ran out ({str(error).splitlines()[0]}): the step holds {labelled} labelled + {unlabelled} unlabelled "
        f"patches of {' x '.join(map(str, patch))} voxels and {parameters:.1f} million parameters; make one smaller: "
        f"--set batch.unlabelled={max(unlabelled // 2, 1)}, "
        f"--set batch.patch=[{', '.join(str(side // 2) for side in patch)}], or --set precision=bf16"
    )
