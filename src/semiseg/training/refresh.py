"""Passes over all unlabelled scans that a method asks for at the start of its epochs or stages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from semiseg.methods.base import Tiles
from semiseg.prediction.windows import tile_windows
from semiseg.runs.precision import autocast
from semiseg.training.session import Session


def refresh(session: Session, step: int) -> None:
    """Where `step` is the first of an epoch or stage and the method wants it, show it the unlabelled scans.

    This is done before the step, so that a run continued from a checkpoint of this very moment does it as well.
    """
    if not _due(session, step):
        return
    session.seed_refresh(step)
    _share_statistics(session)
    session.method.eval()
    with torch.no_grad(), autocast(session.fabric.device, session.precision):
        session.method.refresh(_pool(session), session.clock(step))
    session.method.train()


def _due(session: Session, step: int) -> bool:
    match session.method.refresh_at():
        case "never":
            return False
        case "epoch":
            return step % session.epoch_steps == 0
        case "stage":
            return step == session.span(step).first


def _share_statistics(session: Session) -> None:
    """Running statistics of the first process for all: they normalise what is computed in eval mode."""
    if session.fabric.world_size == 1:
        return
    norms = [module for module in session.method.modules() if isinstance(module, _BatchNorm)]
    for buffer in (buffer for norm in norms for buffer in norm.buffers()):
        torch.distributed.broadcast(buffer, 0)


def _pool(session: Session, batch: int = 4) -> Iterator[Tiles]:
    """Tiles of this process's share of the unlabelled scans."""
    fabric = session.fabric
    for case in session.split.unlabelled[fabric.global_rank :: fabric.world_size]:
        image = torch.from_numpy(np.array(session.store.image(case), dtype=np.float32)).to(fabric.device)
        for images, counted in tile_windows(image, session.batches.patch, batch=batch):
            yield Tiles(images, counted)
