"""Weights of the official code bases under their names, and files that do not fit."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from semiseg.errors import InputError
from semiseg.networks import build_network
from semiseg.networks.base import Network
from semiseg.networks.import_weights import import_official, import_weights

STAGES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
State = dict[str, Tensor]


def vnet(**options: Any) -> Network:
    net = build_network("vnet", channels=1, classes=2, spatial_dims=3, **{"filters": 2, **options})
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.normal_(std=0.2)
    return net


def official(net: Network, step: int, first: int = 0) -> State:
    """The state dict as UA-MT writes it; `step` layers per unit, `first` index of an up unit's convolution."""
    names = {}
    for name in net.state_dict():
        part, *rest = name.split(".")
        if part == "head":
            names[name] = f"out_conv.{rest[0]}"
        elif part in ("encoder", "decoder"):
            block = STAGES[int(rest[0]) + (5 if part == "decoder" else 0)]
            index = step * int(rest[1]) + (rest[2] == "norm")
            names[name] = f"block_{block}.conv.{index}.{rest[3]}"
        else:
            block = STAGES[int(rest[0]) + (4 if part == "up" else 0)]
            index = (rest[1] == "norm") + (first if part == "up" else 0)
            names[name] = f"block_{block}_{'up' if part == 'up' else 'dw'}.conv.{index}.{rest[2]}"
    return {names[name]: value.clone() for name, value in net.state_dict().items()}


def pancreas(state: State) -> State:
    """The naming of the pancreas variants: the last stage and the head in a sequence."""
    named = {name.replace("block_nine.", "branchs.0.0."): value for name, value in state.items()}
    return {name.replace("out_conv.", "branchs.0.2."): value for name, value in named.items()}


def halves(state: State, decoder: str = "decoder1") -> State:
    """The naming of MC-Net: encoder and decoder as modules of their own."""
    encoder = [f"block_{name}{end}." for name in STAGES[:5] for end in ("", "_dw")]
    return {("encoder." if name.startswith(tuple(encoder)) else f"{decoder}.") + name: state[name] for name in state}


def same(first: Network, second: Network) -> bool:
    x = torch.randn(1, 1, 32, 16, 16)
    return torch.equal(first.eval()(x), second.eval()(x))


def saved(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("options", "step", "first"),
    [
        ({}, 3, 0),
        ({"normalisation": "none"}, 2, 0),
        ({"normalisation": "instance"}, 3, 0),
        ({"upsampling": "linear"}, 3, 1),
        ({"upsampling": "nearest", "normalisation": "none"}, 2, 1),
    ],
)
@pytest.mark.parametrize("naming", [dict, pancreas, halves])
def test_official_names(
    tmp_path: Path, suffix: str, options: dict[str, Any], step: int, first: int, naming: Any
) -> None:
    source, target = vnet(**options), vnet(**options)
    assert not same(source, target)
    path = saved(tmp_path / f"weights{suffix}", naming(official(source, step, first)))
    import_weights(path, target)
    assert same(source, target)


def slices(net: Network, decoder: str = "decoder") -> State:
    """The state dict of the 2D U-Net as SSL4MIS and CML write it."""
    layers = {"0.conv": "0", "0.norm": "1", "1.conv": "4", "1.norm": "5"}
    names = {}
    for name in net.state_dict():
        part, *rest = name.split(".")
        if part == "head":
            names[name] = f"{decoder}.out_conv.{rest[0]}"
        elif part == "up":
            names[name] = f"{decoder}.up{int(rest[0]) + 1}.{'conv1x1' if len(rest) == 3 else 'up'}.{rest[-1]}"
        else:
            stage, layer = int(rest[0]), layers[f"{rest[2]}.{rest[3]}"]
            block = f"{decoder}.up{stage + 1}.conv" if part == "decoder" else f"encoder.down{stage}.maxpool_conv.1"
            block = "encoder.in_conv" if part == "encoder" and stage == 0 else block
            names[name] = f"{block}.conv_conv.{layer}.{rest[4]}"
    return {names[name]: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("upsampling", ["linear", "transposed"])
def test_official_names_of_the_unet_of_slices(tmp_path: Path, upsampling: str) -> None:
    def unet2d(kind: str) -> Network:
        return build_network(
            "unet2d", channels=1, classes=2, spatial_dims=2, filters=(2, 3, 4), dropout=0, upsampling=kind
        )

    source, target, other = (unet2d(kind) for kind in (upsampling, upsampling, "transposed"))
    x = torch.randn(1, 1, 16, 16)
    import_weights(saved(tmp_path / "unet.pth", slices(source)), target)
    assert torch.equal(source.eval()(x), target.eval()(x))
    release = slices(source, "decoder1") | {n: v for n, v in slices(other, "decoder2").items() if "decoder2" in n}
    target = unet2d(upsampling)
    path = saved(tmp_path / "release.pth", release)
    with pytest.raises(InputError, match=r"ignore=\('decoder2.',\)"):
        import_weights(path, target)
    import_weights(path, target, ignore=("decoder2.",))
    assert torch.equal(source(x), target.eval()(x))


def test_own_names_and_those_of_data_parallel(tmp_path: Path) -> None:
    source = vnet()
    own, wrapped = vnet(), vnet()
    import_weights(saved(tmp_path / "own.safetensors", source.state_dict()), own)
    state = {f"module.{name}": value for name, value in official(source, 3).items()}
    import_weights(saved(tmp_path / "wrapped.pth", state), wrapped)
    assert same(source, own)
    assert same(source, wrapped)


def test_old_files_without_counters(tmp_path: Path) -> None:
    source, target = vnet(), vnet()
    state = {name: value for name, value in official(source, 3).items() if "num_batches" not in name}
    import_weights(saved(tmp_path / "old.pth", state), target)
    assert same(source, target)


def test_one_of_several_networks(tmp_path: Path) -> None:
    source, target = vnet(), vnet()
    several = {"A": official(vnet(), 3), "B": official(source, 3), "epoch": 7}
    path = saved(tmp_path / "two.pth", several)
    with pytest.raises(InputError, match=r"choose one .* A, B"):
        import_weights(path, target)
    import_weights(path, target, entry="B")
    assert same(source, target)
    import_weights(saved(tmp_path / "one.pth", {"net": several["A"], "opt": {"lr": 0.1}}), target)
    assert not same(source, target)


def test_one_of_several_decoders(tmp_path: Path) -> None:
    source, target = vnet(), vnet()
    both = halves(official(source, 3)) | {
        name: value for name, value in halves(official(vnet(), 3), "decoder2").items() if "decoder2" in name
    }
    path = saved(tmp_path / "both.pth", both)
    with pytest.raises(InputError, match=r"decoder1\.\S+ and decoder2\.\S+ .*ignore=\('decoder2.',\)"):
        import_weights(path, target)
    import_weights(path, target, ignore=("decoder2.",))
    assert same(source, target)
    with pytest.raises(InputError, match=r"no name begins with 'decoder3\.'"):
        import_weights(path, target, ignore=("decoder3.",))


def test_all_misfits_are_told_and_nothing_is_loaded(tmp_path: Path) -> None:
    target = vnet()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    state = official(vnet(), 3)
    del state["block_two.conv.3.bias"]
    state["sideconv1.weight"] = torch.zeros(1)
    state["out_conv.bias"] = torch.zeros(5)
    with pytest.raises(InputError) as caught:
        import_weights(saved(tmp_path / "misfit.pth", state), target)
    missing, left_over, shapes, advice = caught.value.problems
    assert "the network needs 1 more: encoder.1.1.conv.bias" in missing
    assert "sideconv1.weight" in left_over
    assert "head.bias expected [2], came [5]" in shapes
    assert "ignore" in advice
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_long_lists_are_cut(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"and \d+ more"):
        import_weights(saved(tmp_path / "wide.pth", official(vnet(filters=3), 3)), vnet())


def test_unknown_official_layers_keep_their_names() -> None:
    state = {"block_ten.conv.0.weight": torch.zeros(1, 1, 1, 1), "block_two.conv.0.bias": torch.zeros(1)}
    assert import_official(state).keys() == state.keys()


class Harmless:
    """An object that a checkpoint must not be able to bring to life."""


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_weights(tmp_path: Path, suffix: str) -> None:
    def refused(path: Path, **options: Any) -> str:
        with pytest.raises(InputError) as caught:
            import_weights(path, vnet(), **options)
        return str(caught.value)

    assert "cannot be read" in refused(tmp_path / f"absent{suffix}")
    whole = saved(tmp_path / f"whole{suffix}", official(vnet(), 3))
    damaged = tmp_path / f"damaged{suffix}"
    for content in (b"", b"no weights at all", whole.read_bytes()[:-2000], whole.read_bytes()[:100]):
        damaged.write_bytes(content)
        assert str(damaged) in refused(damaged)
    assert "leave `entry` out" in refused(whole, entry="net")


def test_checkpoints_of_other_things(tmp_path: Path) -> None:
    for content, word in (
        ([torch.zeros(1)], "came list"),
        ({"epoch": 3}, "came dict"),
        ({"net": Harmless()}, "could run code"),
    ):
        path = saved(tmp_path / "other.pth", content)
        with pytest.raises(InputError, match=word):
            import_weights(path, vnet())


def test_weights_that_are_no_plain_numbers_are_refused(tmp_path: Path) -> None:
    network = build_network("unet", channels=1, classes=2, spatial_dims=2, filters=[2, 3])
    state = network.state_dict()
    name = next(name for name, value in state.items() if value.ndim > 1)
    for value in (torch.full_like(state[name], float("nan")), state[name].to_sparse()):
        torch.save({**state, name: value}, tmp_path / "a.pth")
        with pytest.raises(InputError, match=r"expected finite numbers|expected names with tensors"):
            import_weights(tmp_path / "a.pth", network)


def test_an_archive_that_grows_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 22))
    with pytest.raises(InputError, match=r"its members promise 4194304 bytes, the file has \d+"):
        import_weights(tmp_path / "a.pth", build_network("unet", channels=1, classes=2, spatial_dims=2, filters=[2, 3]))


@pytest.mark.parametrize("kept", [3, 20, 60, 200])
def test_an_old_checkpoint_that_was_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    network = build_network("unet", channels=1, classes=2, spatial_dims=2, filters=[2, 3])
    torch.save(network.state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:kept])
    with pytest.raises(InputError, match=r"a\.pth"):
        import_weights(tmp_path / "a.pth", network)


def test_an_old_checkpoint_of_another_protocol_is_read_without_a_warning(tmp_path: Path) -> None:
    network = build_network("unet", channels=1, classes=2, spatial_dims=2, filters=[2, 3])
    torch.save(network.state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pth").read_bytes()
    assert content.count(b"\x80\x02") > 1
    (tmp_path / "a.pth").write_bytes(content.replace(b"\x80\x02", b"\x80\x05"))
    import_weights(tmp_path / "a.pth", network)


def test_lengths_in_an_old_checkpoint_take_no_memory(tmp_path: Path) -> None:
    network = build_network("unet", channels=1, classes=2, spatial_dims=2, filters=[2, 3])
    torch.save(network.state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    name = next(iter(network.state_dict())).encode()
    content, length = (tmp_path / "a.pth").read_bytes(), len(name).to_bytes(4, "little")
    assert b"X" + length + name in content
    (tmp_path / "a.pth").write_bytes(content.replace(b"X" + length + name, b"X" + b"\xf0\xff\xff\x7f" + name))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"a\.pth"):
        import_weights(tmp_path / "a.pth", network)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 26
