from __future__ import annotations

import torch
import torch.multiprocessing as mp

from semiseg.ingredients.reduce import batch_sum
from two_processes import results, worker


def test_one_process_gets_its_own_value_back():
    value = torch.ones(3)
    assert batch_sum(value) is value


def test_two_processes_reproduce_one(tmp_path):
    mp.spawn(worker, args=(str(tmp_path),), nprocs=2)
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    whole = results(slice(None))
    for name, expected in whole.items():
        if "gradient" in name:  # data-parallel training averages gradients
            torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, expected)
        else:
            for half in halves:
                torch.testing.assert_close(half[name], expected)
