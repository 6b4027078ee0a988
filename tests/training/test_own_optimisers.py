"""Groups with an optimiser of their own keep its rate, whatever the schedule of the run says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch

from methods.test_conformance import make
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import make_optimisers
from semiseg.training.train import _at_rate


def test_a_discriminator_has_adam_at_its_own_rate(tmp_path: Path) -> None:
    method = make("sassnet", 2, 2)
    found = make_optimisers(OptimiserConfig(name="sgd", lr=0.01), method)
    assert list(found) == ["main", "discriminator"]
    assert isinstance(found["main"], torch.optim.SGD)
    assert isinstance(found["discriminator"], torch.optim.AdamW)
    (group,) = found["discriminator"].param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.9, 0.99), 0)
    session = SimpleNamespace(method=method, optimisers=found)
    assert _at_rate(session, "main", 0.003).param_groups[0]["lr"] == 0.003  # type: ignore[arg-type]
    assert _at_rate(session, "discriminator", 0.003).param_groups[0]["lr"] == 1e-4  # type: ignore[arg-type]
