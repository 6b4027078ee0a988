"""Values computed by official code: where the files are and how tests open them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(os.environ.get("SEMISEG_GOLDEN", Path(__file__).parent / "golden"))


def golden(name: str) -> dict[str, np.ndarray]:
    """All arrays of `<name>.npz`; the test skips where the file is absent."""
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no golden file {path}")
    with np.load(path) as file:
        return {key: file[key] for key in file.files}
