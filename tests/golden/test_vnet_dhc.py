"""The V-Net of DHC and MICD against its official class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from golden_files import golden
from semiseg.networks import build_network
from semiseg.networks.base import Network
from semiseg.networks.import_weights import import_official, load_state


@pytest.fixture(scope="module")
def file() -> dict[str, np.ndarray]:
    return golden("vnet_dhc")


def official_state(file: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name.removeprefix("sd/"): torch.from_numpy(file[name]) for name in file if name.startswith("sd/")}


def build(filters: int, classes: int, channels: int = 1) -> Network:
    return build_network("vnet", channels=channels, classes=classes, spatial_dims=3, filters=filters)


@pytest.fixture
def net(file: dict[str, np.ndarray]) -> Network:
    built = build(int(file["n_filters"]), int(file["n_classes"]), file["x"].shape[1])
    load_state(built, import_official(official_state(file)), "golden")
    return built


def parameters(net: Network) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def own_names(file: dict[str, np.ndarray], prefix: str) -> dict[str, str]:
    """Our name of every official name that the file has under `prefix`."""
    numbered = {name: torch.full_like(value, number, dtype=torch.float64) for number, (name, value)
                in enumerate(official_state(file).items())}  # fmt: skip
    number_to_ours = {float(value.flatten()[0]): name for name, value in import_official(numbered).items()}
    official = [name.removeprefix(prefix) for name in file if name.startswith(prefix)]
    return {name: number_to_ours[float(numbered[name].flatten()[0])] for name in official}


def test_evaluation_mode(file: dict[str, np.ndarray], net: Network) -> None:
    stages = {f"x{number}": f"enc{number}" for number in range(1, 6)}
    stages |= {f"x{number}": f"dec{number - 5}" for number in range(6, 10)}
    with torch.no_grad():
        logits, features = net.eval()(torch.from_numpy(file["x"]), tuple(stages.values()))
    np.testing.assert_allclose(logits.numpy(), file["logits"], rtol=1e-4, atol=1e-4)
    for official, ours in stages.items():
        feature = features[ours].numpy()
        if f"feat_{official}" in file:
            expected = file[f"feat_{official}"]
        else:
            expected, feature = file[f"feat_{official}_sub4"], feature[..., ::4, ::4, ::4]
        np.testing.assert_allclose(feature, expected, rtol=1e-4, atol=1e-4, err_msg=official)


def test_training_step(file: dict[str, np.ndarray], net: Network) -> None:
    net.double().train()
    logits = net(torch.from_numpy(file["train_x"]).double(), dropout=False)
    waves = torch.arange(logits.numel(), dtype=torch.float64).cos().view_as(logits)
    loss = (logits * waves).sum() / 1000
    loss.backward()
    np.testing.assert_allclose(
        logits.detach()[..., ::2, ::2, ::2].numpy(), file["train_logits_sub2"], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(loss.item(), file["train_loss"], rtol=1e-8)

    gradients = own_names(file, "train_grad/")
    ours = dict(net.named_parameters())
    assert gradients
    for official, name in gradients.items():
        expected = file[f"train_grad/{official}"]
        gradient = ours[name].grad
        assert gradient is not None
        cut = gradient[:8, :8] if gradient.ndim > 1 else gradient
        np.testing.assert_allclose(cut.numpy(), expected, rtol=1e-8, atol=1e-12 + 1e-8 * np.abs(expected).max())

    statistics = own_names(file, "train_after/")
    assert statistics
    for official, name in statistics.items():
        np.testing.assert_allclose(net.state_dict()[name].numpy(), file[f"train_after/{official}"], rtol=1e-8)


def test_parameter_counts(file: dict[str, np.ndarray], net: Network) -> None:
    assert parameters(net) == file["param_count_this"]
    counts = [name for name in file if name.startswith("param_count_nf")]
    assert counts
    for name in counts:
        filters, classes = name.removeprefix("param_count_nf").split("_ncls")
        with torch.device("meta"):
            assert parameters(build(int(filters), int(classes))) == file[name]


def test_stage_shapes_at_full_width(file: dict[str, np.ndarray]) -> None:
    (key,) = (name for name in file if name.startswith("stage_shapes_"))
    width, classes, sides = key.removeprefix("stage_shapes_nf").replace("ncls", "").split("_")
    with torch.device("meta"):
        net = build(int(width), int(classes))
        image = torch.empty(1, 1, *map(int, sides.split("x")))
        stages = [name for name in net.taps if name.startswith(("enc", "dec"))]
        logits, features = net(image, tuple(stages))
    ours = {f"x{number}": features[name] for number, name in enumerate(stages, start=1)} | {"logits": logits}
    for name, shape in zip(file["stage_names"], file[key], strict=True):
        assert tuple(ours[str(name)].shape[1:]) == tuple(shape), name


def test_state_dict_is_used_to_the_last_entry(file: dict[str, np.ndarray], net: Network) -> None:
    official = official_state(file)
    ours = import_official(official)
    assert len(ours) == len(official) == len(net.state_dict())
    assert ours.keys() == net.state_dict().keys()
