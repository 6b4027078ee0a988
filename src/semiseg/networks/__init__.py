"""Networks by name, for 2D and 3D. Importing this package imports no network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from semiseg.errors import InputError, find

if TYPE_CHECKING:
    from semiseg.networks.base import Network

_CLASSES = {"unet": "UNet", "unet2d": "UNet2D", "unet3d": "UNet3D", "vnet": "VNet"}
"""Class of each network, in the module that has the network's name."""

_FORMS = {
    "attentive": "AttentiveNet",
    "branches": "BranchedNet",
    "distance": "DistanceNet",
    "dynamic": "DynamicNet",
    "late_branches": "LateBranchedNet",
    "lefed": "LeFeDNet",
    "resnet": "ResNet",
}
"""Networks that single methods ask for, made of the run's architecture."""

_WHOLE = ("distance",)
"""Forms that take any architecture as it is; the others take it apart."""

_DIVISIBLE = ("unet", "unet2d", "vnet")
"""Architectures that can be taken apart."""

NETWORKS: tuple[str, ...] = tuple(_CLASSES)
"""Names of all networks."""


def network_class(name: str) -> type[Network]:
    """The network class called `name`.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    written = find("network", name, _CLASSES)
    found: type[Network] = getattr(import_module(f"{__name__}.{name}"), written)
    return found


def build_network(
    name: str, *, channels: int, classes: int, spatial_dims: int, network: str | None = None, **options: Any
) -> Network:
    """A freshly initialised network (drawn from torch's default generator).

    Args:
        name: `unet`, `unet2d`, `unet3d` or `vnet`.
        channels: image channels.
        classes: output channels, background included.
        spatial_dims: 2 or 3.
        network: a form that a method needs, made of the architecture `name`: `lefed`, one encoder with two decoders;
            `branches`, one encoder with any number of decoders; `late_branches`, the last stage and head several times;
            `distance`, a second head for signed distances; `resnet`, a residual encoder before its decoder; `dynamic`,
            kernels that depend on the image; `attentive`, attention in the encoder, also among the patches of a batch.
        options: fields of the network's `Options`; with `network` also those of the form.

    Raises:
        InputError: the name or an option is unknown, or values are out of bounds or do not fit each other.
    """
    from semiseg.validation import parse

    cls = network_class(name)
    if spatial_dims not in (2, 3):
        raise InputError(f"network {name}: spatial_dims must be 2 or 3, came {spatial_dims}")
    if network is not None:
        make = partial(build_network, name, channels=channels, classes=classes, spatial_dims=spatial_dims)
        return _build_form(network, name, make, options)
    parsed = parse(cls.Options, options, f"network {name}")
    return cls(parsed, channels=channels, classes=classes, spatial_dims=spatial_dims)


def _build_form(form: str, name: str, make: Callable[..., Network], options: dict[str, Any]) -> Network:
    from semiseg.validation import parse

    written = find("form of network", form, _FORMS)
    if form not in _WHOLE and name not in _DIVISIBLE:
        raise InputError(
            f"network {name}: the method takes encoder and decoder apart, which needs {', '.join(_DIVISIBLE)}: "
            "choose one of these, or another method"
        )
    cls = getattr(import_module(f"{__name__}.{form}"), written)
    own = {name: options.pop(name) for name in cls.Options.model_fields if name in options}
    built: Network = cls(parse(cls.Options, own, f"network {form}"), partial(make, **options))
    return built
