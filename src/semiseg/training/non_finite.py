"""Updates that were left out because a loss or a gradient was not finite, and what they have in common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.runs import checkpoint
from semiseg.system.files import write_json
from semiseg.training.session import Session

KEPT = 100
"""Updates that a dump holds: the last ones that were left out."""

_NAMED = 8
"""Case ids in a message; the file has all."""


@dataclass(frozen=True)
class Update:
    """One update that was left out: its step, and its loss terms with their total."""

    step: int
    loss: dict[str, float]


class Trail:
    """The updates since the last reading; their numbers stay on the device until they are asked for."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, Mapping[str, Tensor], Tensor]] = []

    def add(self, step: int, loss: Mapping[str, Tensor], skipped: Tensor) -> None:
        """Keep the terms of an update; `skipped` is 1 when it was left out."""
        self._kept.append((step, {name: term.detach() for name, term in loss.items()}, skipped))

    def clear(self) -> None:
        """Forget them."""
        self._kept = []

    def skipped(self) -> list[Update]:
        """Those that were left out."""
        return [
            Update(step, {name: float(term) for name, term in loss.items()})
            for step, loss, skipped in self._kept
            if float(skipped)
        ]


class Dump:
    """`non_finite.json`: updates that were left out, with the patches of their batches.

    Patches are functions of (seed, step), so they are read again, to see whether the images themselves are to blame.
    Every process tells of its own patches, in a file of its own.
    """

    def __init__(self, session: Session, updates: Iterable[Update]) -> None:
        self._session, self._updates = session, tuple(updates)
        self._batches = {step: session.batches(step) for step in dict.fromkeys(update.step for update in self._updates)}

    @property
    def path(self) -> Path:
        """Where it is written."""
        rank = self._session.fabric.global_rank
        return self._session.run.path / f"non_finite{f'_{rank}' if rank else ''}.json"

    def write(self, in_a_row: int) -> None:
        """Write the file; `in_a_row` updates were left out up to now."""
        config = self._session.config
        facts = {
            "step": self._session.progress.step,
            "in_a_row": in_a_row,
            "seed": config.seed,
            "method": config.method,
            "precision": self._session.precision,
            "updates": [self._of(update) for update in self._updates],
        }
        write_json(self.path, facts)

    def blame(self) -> str:
        """The cases and the remedy: those whose prepared images are not finite, or else those of all the updates."""
        store = self._session.store
        suspects = sorted({case for batch in self._batches.values() for case, good in _finite(batch) if not good})
        broken = [case for case in suspects if not np.isfinite(store.image(case)).all()]
        if broken:
            return (
                f"the prepared images of {_some(broken)} hold NaN or infinite voxels: delete the JSON files of these "
                f"cases in {store.root / 'store'} and start again, then they are prepared anew"
            )
        counts = Counter(case for batch in self._batches.values() for case in dict.fromkeys(batch.cases))
        often = [case for case, _ in counts.most_common()]
        return (
            f"the patches were of {_some(often)}: look at these scans, lower optimiser.lr, set optimiser.clip, or take "
            "precision: fp32 (with another --output)"
        )

    def _of(self, update: Update) -> dict[str, Any]:
        batch = self._batches[update.step]
        return {
            "step": update.step,
            "learning_rate": self._session.rate(update.step),
            "loss": {name: _number(value) for name, value in update.loss.items()},
            "patches": [
                {
                    "case": case,
                    "labelled": index < batch.n,
                    "corner": list(place.corner),
                    "window": list(place.window),
                    "finite": good,
                }
                for index, ((case, good), place) in enumerate(zip(_finite(batch), batch.places, strict=True))
            ],
        }


def broken_state(session: Session) -> list[str]:
    """Parameters, buffers and moments of the session that hold NaN or infinite values."""
    tensors = checkpoint.pack(session.method, session.optimisers)
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating:
        return []
    whole = torch.stack([tensor.isfinite().all().to(session.fabric.device) for tensor in floating.values()]).tolist()
    return [name for name, good in zip(floating, whole, strict=True) if not good]


def _finite(batch: Batch) -> list[tuple[str, bool]]:
    good = batch.images.flatten(1).isfinite().all(1).tolist()
    return list(zip(batch.cases, good, strict=True))


def _number(value: float) -> float | str:
    """As JSON has it, which knows no NaN."""
    return value if math.isfinite(value) else str(value)


def _some(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - _NAMED} more" if len(cases) > _NAMED else ""
    return ", ".join(cases[:_NAMED]) + more
