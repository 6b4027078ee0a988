"""Weights from elsewhere: files of this package, and checkpoints of the official code of the papers."""

from __future__ import annotations

import io
import pickle  # nosec B403
import re
import struct
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from semiseg.errors import InputError, raise_all
from semiseg.networks.base import Network

_ENCODER = ("one", "two", "three", "four", "five")
_DECODER = ("six", "seven", "eight", "nine")
_STAGES = {f"block_{name}": f"encoder.{number}" for number, name in enumerate(_ENCODER)}
_STAGES |= {f"block_{name}": f"decoder.{number}" for number, name in enumerate(_DECODER)}
_RESAMPLERS = {f"block_{name}_dw": f"down.{number}" for number, name in enumerate(_ENCODER[:-1])}
_RESAMPLERS |= {f"block_{name}_up": f"up.{number}" for number, name in enumerate((_ENCODER + _DECODER)[4:8])}

_HEADS = {"out_conv_4": "heads.0", "out_conv_3": "heads.1", "out_conv_2": "heads.2", "out_conv": "head"}

_LAYER = re.compile(r"(?P<block>block_\w+)\.conv\.(?P<index>\d+)\.(?P<leaf>\w+)")
_HALF = re.compile(r"(encoder|decoder)\d*\.(?=block_|out_conv)")

_SLICES = re.compile(
    r"(?:encoder\d*\.(?:(?P<first>in_conv)|down(?P<down>\d+)\.maxpool_conv\.1)|decoder\d*\.up(?P<up>\d+)\.conv)"
    r"\.conv_conv\.(?P<layer>[0145])\.(?P<leaf>\w+)"
)
_UPWARDS = re.compile(r"decoder\d*\.up(?P<up>\d+)\.(?P<kind>conv1x1|up)\.(?P<leaf>weight|bias)")
_UNITS = {"0": "0.conv", "1": "0.norm", "4": "1.conv", "5": "1.norm"}
"""Convolution and normalisation by their place in the U-Net of SSL4MIS; activations and dropout have no weights."""
_LISTED, _LONGEST_NAME = 6, 300
_BROKEN = (
    *(RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError),
    *(struct.error, zipfile.BadZipFile, SafetensorError),
)
"""What readers raise on damaged files."""


def import_weights(path: Path | str, network: Network, *, entry: str | None = None, ignore: Sequence[str] = ()) -> None:
    """Load a weights file into `network`, in place; every value must fit and nothing may be left over.

    Args:
        path: `.safetensors`, or any other ending: a PyTorch checkpoint, of which only tensors are read.
        network: built with the options (filters, classes, normalisation, ...) that the weights were trained with.
        entry: which of several state dicts of a checkpoint; needed only if there are several.
        ignore: beginnings of names that are to be left out, such as `decoder2.`.

    Raises:
        InputError: the file cannot be read, holds no or several state dicts, or names or shapes do not fit.
    """
    path = Path(path)
    state = _chosen(_read(path), entry, path)
    unused = [prefix for prefix in ignore if not any(name.startswith(prefix) for name in state)]
    raise_all(f"{path}: ignore: no name begins with {prefix!r}" for prefix in unused)
    state = {name: value for name, value in state.items() if not name.startswith(tuple(ignore))}
    own_names = network.own_names if isinstance(network, Renames) else import_official
    load_state(network, own_names(state), str(path))


@runtime_checkable
class Renames(Protocol):
    """A network whose official weights have names of their own."""

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` with the network's names."""
        ...


def import_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with the names of the official V-Nets and U-Nets replaced by our own; other names stay.

    Understood are, for `VNet`, the names of UA-MT and DHC (`block_one.conv.0.weight`), of the pancreas variants
    (`branchs.0` for the last stage and head), of DuCiSC's deep supervision (`out_conv_2`) and of the encoder-decoder
    families (`encoder.`, `decoder1.`); for `UNet2D`, those of SSL4MIS (`encoder.in_conv.conv_conv.0.weight`); and
    `module.` in front of any.

    Raises:
        InputError: two names become one, as with several decoders.
    """
    plain = {name: _plain(name) for name in state}
    convolutions: dict[str, list[int]] = defaultdict(list)
    for name, value in state.items():
        layer = _LAYER.fullmatch(plain[name])
        if layer and layer["leaf"] == "weight" and value.ndim >= 4:
            convolutions[layer["block"]].append(int(layer["index"]))
    renamed: dict[str, Tensor] = {}
    sources: dict[str, list[str]] = defaultdict(list)
    for name, value in state.items():
        target = _own_name(plain[name], convolutions)
        sources[target].append(name)
        renamed[target] = value
    clashes = [names for names in sources.values() if len(names) > 1]
    if clashes:
        raise InputError(
            f"the weights hold several networks or decoders ({' and '.join(clashes[0])} stand for the same layer): "
            f"leave the others out with `ignore`, such as ignore=('{clashes[0][-1].split('.')[0]}.',)"
        )
    return renamed


def load_state(network: Network, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into `network`; counters of batch normalisation may be absent (old files have none).

    Raises:
        InputError: names are missing or left over, or shapes differ; all of them are told, and nothing is loaded.
    """
    own = network.state_dict()
    counters = {name for name in own if name.endswith(".num_batches_tracked")}
    missing = own.keys() - state.keys() - counters
    unexpected = state.keys() - own.keys()
    shapes = [
        f"{name} expected {list(own[name].shape)}, came {list(state[name].shape)}"
        for name in own.keys() & state.keys()
        if own[name].shape != state[name].shape
    ]
    problems = [
        f"{source}: {what.format(len(found))}: {_listed(found)}"
        for what, found in (
            ("the network needs {} more", missing),
            ("{} too many, without a place in the network", unexpected),
            ("{} of another shape", shapes),
        )
        if found
    ]
    broken = [name for name in sorted(own.keys() & state.keys()) if not state[name].isfinite().all()]
    if broken:
        problems.append(f"{source}: expected finite numbers, came others in {_listed(broken)}")
    if problems:
        advice = "build the network with the options of the weights (filters, classes, normalisation, upsampling ...)"
        raise InputError(*problems, f"{source}: {advice}, or leave parts out with `ignore`")
    network.load_state_dict({**own, **state})


def _plain(name: str) -> str:
    """The name as UA-MT has it, without the wrappers that other code bases put around it."""
    name = name.removeprefix("module.")
    name = _HALF.sub("", name, count=1) if _HALF.match(name) else name
    name = re.sub(r"^branchs\.0\.0\.", "block_nine.", name)
    return re.sub(r"^branchs\.0\.\d+\.(?=weight$|bias$)", "out_conv.", name)


def _own_name(name: str, convolutions: Mapping[str, list[int]]) -> str:
    """The name in `VNet`.

    The official blocks are flat sequences in which a layer's index depends on the normalisation and the way of
    up-sampling, so layers are counted from the convolutions.
    """
    convolution, _, leaf = name.partition(".")
    if convolution in _HEADS:
        return f"{_HEADS[convolution]}.{leaf}"
    layer = _LAYER.fullmatch(name)
    if layer is None:
        return _own_slices_name(name)
    block, index = layer["block"], int(layer["index"])
    unit = sum(other <= index for other in convolutions.get(block, ())) - 1
    part = f"{'conv' if index in convolutions.get(block, ()) else 'norm'}.{layer['leaf']}"
    if block in _STAGES and unit >= 0:
        return f"{_STAGES[block]}.{unit}.{part}"
    if block in _RESAMPLERS and unit == 0:
        return f"{_RESAMPLERS[block]}.{part}"
    return name


def _own_slices_name(name: str) -> str:
    """The name in `UNet2D`, or `name` itself."""
    if unit := _SLICES.fullmatch(name):
        stage = f"decoder.{int(unit['up']) - 1}" if unit["up"] else f"encoder.{int(unit['down'] or 0)}"
        return f"{stage}.units.{_UNITS[unit['layer']]}.{unit['leaf']}"
    if up := _UPWARDS.fullmatch(name):
        # Before interpolation there is a convolution of its own; a transposed one does both.
        inner = "0." if up["kind"] == "conv1x1" else ""
        return f"up.{int(up['up']) - 1}.{inner}{up['leaf']}"
    return name


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        source = _checked(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unknown protocols, before what is wrong is told
            return torch.load(source, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError:  # the only use of that module
        raise InputError(
            f"{path}: is no PyTorch checkpoint, or holds Python objects besides tensors, which are not opened because "
            "they could run code: save its state dict alone (torch.save(network.state_dict(), path)) where you trust it"
        ) from None
    except _BROKEN as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: is no weights file (safetensors or PyTorch), or is damaged: {first}") from None


def _checked(path: Path) -> Path | io.BytesIO:
    """What PyTorch shall read. Refuses archives that grow when they are unpacked; it stores tensors as they are."""
    if not zipfile.is_zipfile(path):
        return io.BytesIO(path.read_bytes())  # gives no more than there is, whatever lengths in it ask for
    with zipfile.ZipFile(path) as archive:
        promised = sum(member.file_size for member in archive.infolist())
    if promised > path.stat().st_size:
        raise ValueError(f"its members promise {promised} bytes, the file has {path.stat().st_size}")
    return path


def _chosen(content: Any, entry: str | None, path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint's content."""
    if _is_state(content):
        if entry is not None:
            raise InputError(f"{path}: has no entry {entry!r}: it is a single state dict, so leave `entry` out")
        return dict(content)
    items = content.items() if isinstance(content, Mapping) else ()
    nested = {str(name): value for name, value in items if _is_state(value)}
    if not nested:
        raise InputError(
            f"{path}: expected names with tensors (a state dict), came {type(content).__name__} without any"
        )
    if entry is None and len(nested) == 1:
        entry = next(iter(nested))
    if entry not in nested:
        raise InputError(f"{path}: choose one of its state dicts with `entry`: {', '.join(sorted(nested))}")
    return dict(nested[entry])


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(_is_name(name) and isinstance(item, Tensor) and _is_plain(item) for name, item in value.items())
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_NAME


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor has its own values, in memory, one number per element."""
    return value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_LISTED])
    return shown + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
