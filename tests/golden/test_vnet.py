"""The V-Net of the left-atrium papers against its official class (computed in float64, stored as float32)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from golden_files import golden
from semiseg.networks import build_network
from semiseg.networks.base import Network
from semiseg.networks.import_weights import import_official, load_state

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def file() -> dict[str, np.ndarray]:
    return golden("vnet")


def official_state(file: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name.removeprefix("sd/"): torch.from_numpy(file[name]) for name in file if name.startswith("sd/")}


def network(file: dict[str, np.ndarray], normalisation: str = "batch") -> Network:
    state = official_state(file)
    if normalisation == "instance":
        state = {name: value for name, value in import_official(state).items() if ".norm." not in name}
    else:
        state = import_official(state)
    net = build_network(
        "vnet",
        channels=file["input"].shape[1],
        classes=int(file["n_classes"]),
        spatial_dims=file["input"].ndim - 2,
        filters=int(file["n_filters"]),
        normalisation=normalisation,
    )
    load_state(net, state, "golden")
    return net.double()


def image(file: dict[str, np.ndarray]) -> Tensor:
    return torch.from_numpy(file["input"]).double()


def close(ours: Tensor, official: np.ndarray) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), official, **TOLERANCE)


def test_evaluation_mode(file: dict[str, np.ndarray]) -> None:
    net = network(file).eval()
    stages = [int(name.removeprefix("batchnorm_eval_feat")) for name in file if name.startswith("batchnorm_eval_feat")]
    logits, features = net(image(file), tuple(f"enc{stage}" for stage in stages))
    close(logits, file["batchnorm_eval_out"])
    assert stages
    for stage in stages:
        close(features[f"enc{stage}"], file[f"batchnorm_eval_feat{stage}"])


def test_training_mode_and_running_statistics(file: dict[str, np.ndarray]) -> None:
    net = network(file).train()
    close(net(image(file), dropout=False), file["batchnorm_train_out"])
    after = {name.removeprefix("batchnorm_after_train/"): file[name] for name in file if "_after_train/" in name}
    ours = import_official({name: torch.from_numpy(value) for name, value in after.items()} | convolutions(file))
    state = net.state_dict()
    checked = [name for name in ours if "running" in name]
    assert len(checked) == len(after) > 0
    for name in checked:
        close(state[name], ours[name].numpy())


def convolutions(file: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """What the key map needs to count the layers of a block."""
    return {name: value for name, value in official_state(file).items() if value.ndim > 1}


def test_instance_normalisation(file: dict[str, np.ndarray]) -> None:
    net = network(file, "instance").eval()
    close(net(image(file)), file["instancenorm_eval_out"])


def test_instance_normalisation_channels_last(file: dict[str, np.ndarray]) -> None:
    net = network(file, "instance").eval().to(memory_format=torch.channels_last_3d)
    two = image(file).repeat(2, 1, 1, 1, 1).contiguous(memory_format=torch.channels_last_3d)
    close(net(two), np.repeat(file["instancenorm_eval_out"], 2, axis=0))
