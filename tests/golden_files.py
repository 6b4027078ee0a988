"""Values computed by official code: where the files are and how tests open them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

_KEPT = Path(__file__).parent / "golden"
_ALL = Path(__file__).parents[2] / "shared" / "golden"
FOLDERS = (Path(os.environ["SEMISEG_GOLDEN"]),) if "SEMISEG_GOLDEN" in os.environ else (_KEPT, _ALL)
"""Where to look: the folder that is asked for, or the files kept here, then the full set beside the checkout."""


def golden(name: str) -> dict[str, np.ndarray]:
    """All arrays of `<name>.npz`; the test skips where the file is absent."""
    found = [path for folder in FOLDERS if (path := folder / f"{name}.npz").is_file()]
    if not found:
        pytest.skip(f"no golden file {name}.npz")
    with np.load(found[0]) as file:
        return {key: file[key] for key in file.files}
