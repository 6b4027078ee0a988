import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from semiseg.errors import InputError
from semiseg.preparing.plan import Plan
from semiseg.system.parallel import processes, worker_count


def running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize("count", [1, 2])
def test_results_of_all_items(count):
    with processes(count) as run:
        assert sorted(run(abs, range(-5, 0))) == [1, 2, 3, 4, 5]


def test_input_errors_arrive_with_their_problems(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("{}")
    with pytest.raises(InputError) as caught, processes(2) as run:
        list(run(Plan.load, [path]))
    assert len(caught.value.problems) > 5


def test_worker_that_dies_is_told():
    with pytest.raises(InputError, match=r"ended from outside.*fewer workers"), processes(2) as run:
        list(run(os._exit, [1]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import time, multiprocessing\n"
        "from semiseg.system.parallel import processes\n"
        "if __name__ == '__main__':\n"
        "    with processes(2) as run:\n"
        "        list(run(abs, [1, 2]))\n"
        "        print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "        list(run(time.sleep, [60, 60]))\n"
    )
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert workers
    assert all(running(pid) for pid in workers)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(running(pid) for pid in workers)


def test_workers_follow_wish_tasks_and_memory():
    assert worker_count(3, 10, 1) == 3
    assert worker_count(3, 2, 1) == 2
    assert worker_count(0, 1, 1) == 1
    assert worker_count(0, 1000, 1 << 60) == 1
