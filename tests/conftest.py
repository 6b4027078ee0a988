"""Fixtures that several test files share."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on tensors this small, threads cost more than they bring
# In processes that tests start too, what is deprecated is an error.
os.environ["PYTHONWARNINGS"] = ",".join(
    f"error::{kind}" for kind in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")
)
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="semiseg_tests_")  # what is remembered of this machine
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

from pathlib import Path

import hypothesis
import pytest

# How long an example takes is the machine's business.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real scans (`SEMISEG_TEST_DATA`); tests that need them skip where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SEMISEG_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real scans in {folder}")
    return folder
