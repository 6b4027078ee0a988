"""A comparison that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semiseg.comparison.grid import Grid, load_grid

SETTINGS: dict[str, Any] = {
    "network": {"options": {"filters": [4, 8]}},
    "batch": {"patch": [16, 16, 16], "labelled": 2, "unlabelled": 2},
    "accelerator": "cpu",
    "precision": "fp32",
    "checkpoint_every": 2,
}


def toy_grid(data: Path, **changes: Any) -> Grid:
    """Mean teacher beside its control and bound: three cells of four steps, six scored cases."""
    values = {"methods": ["mean_teacher"], "labelled": [2], "seeds": 1, "test": 6, "steps": 4, "settings": SETTINGS}
    return load_grid(None, {"data": data, **values, **changes})
