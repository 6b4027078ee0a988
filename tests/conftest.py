"""Fixtures that several test files share."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on tensors this small, threads cost more than they bring
_CACHE = tempfile.TemporaryDirectory(prefix="semiseg_tests_")
os.environ["XDG_CACHE_HOME"] = _CACHE.name  # what is remembered of this machine

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real scans (`SEMISEG_TEST_DATA`); tests that need them skip where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SEMISEG_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real scans in {folder}")
    return folder
