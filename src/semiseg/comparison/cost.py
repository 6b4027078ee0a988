"""What the training of a cell took: time, speed, memory, operations and parameters."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from semiseg.comparison.operations import step_flops, trained_parameters
from semiseg.runs.folder import Run
from semiseg.system.files import write_json


def cost_of(run: Run, kept: Path, steps: int, seconds: float) -> Mapping[str, Any]:
    """Cost of the training that has just ended, for the record of its cell.

    Args:
        run: its run.
        kept: file that keeps what cannot be measured again, in case that the process is killed before the cell is done.
        steps: steps of this stretch; a run that was continued had others before, and one that was finished has none.
        seconds: how long they took.
    """
    if steps > 0:
        write_json(kept, {"seconds_per_step": seconds / steps, "peak_memory": peak_memory()})
    settings = run.config(), run.plan(), run.split()
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    return {
        "steps": steps_done(run),
        "seconds_per_step": known.get("seconds_per_step"),
        "patches_per_second": _median_rate(run),
        "peak_memory": known.get("peak_memory"),
        "parameters": trained_parameters(*settings),
        "flops_per_step": step_flops(*settings),
    }


def peak_memory() -> int | None:
    """Most bytes that this process has held at once: on the GPU where it used one, else in memory, PyTorch included;
    None where the system does not tell.
    """
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def steps_done(run: Run) -> int:
    """Step of the last checkpoint."""
    return max((int(record.stem.split("_")[1]) for record in run.checkpoints.glob("step_*.json")), default=0)


def _median_rate(run: Run) -> float | None:
    lines = map(json.loads, run.log.read_text(encoding="utf-8").splitlines()) if run.log.is_file() else ()
    rates = [line["patches_per_second"] for line in lines if "patches_per_second" in line]
    return median(rates) if rates else None
