"""Training that starts from official V-Net weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import semiseg
from golden_files import golden
from semiseg.errors import InputError
from semiseg.networks.import_weights import import_official
from tiny import tiny_dataset


def test_networks_start_from_official_weights(tmp_path: Path) -> None:
    values = golden("vnet")
    official = {
        name.removeprefix("sd/"): torch.from_numpy(v.copy()) for name, v in values.items() if name.startswith("sd/")
    }
    save_file(official, tmp_path / "official.safetensors")
    data = tiny_dataset(tmp_path / "data", cases=2, labelled=2, classes=int(values["n_classes"]))
    settings = {
        "method": "cps",
        "options": {"init_a": "default", "init_b": "default"},
        "steps": 1,
        "accelerator": "cpu",
        "batch": {"patch": [32, 32, 32]},
        "optimiser": {"name": "sgd", "lr": 1e-20},
    }
    network = {
        "name": "vnet",
        "options": {"filters": int(values["n_filters"])},
        "weights": tmp_path / "official.safetensors",
    }
    run = semiseg.train(data, tmp_path / "run", network=network, **settings)
    trained = load_file(run.checkpoints / "final.safetensors")
    for name, tensor in import_official(official).items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            for net in range(2):
                torch.testing.assert_close(trained[f"method.nets.{net}.{name}"], tensor)
    wider = {**network, "options": {"filters": 2 * int(values["n_filters"])}}
    with pytest.raises(InputError, match=r"official\.safetensors"):
        semiseg.train(data, tmp_path / "other", network=wider, **settings)
