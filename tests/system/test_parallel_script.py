"""A plain script that calls the package needs no `__main__` guard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tiny import tiny_dataset


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", cases=4)
    script = tmp_path / "script.py"
    script.write_text(
        "import semiseg\n"
        "print('started')\n"
        f"store = semiseg.prepare({str(data)!r}, {str(tmp_path / 'prepared')!r}, workers=2)\n"
        "print(len(store.cases))\n"
    )
    answer = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.split() == ["started", "4"]
