"""Networks by name, for 2D and 3D. Importing this package imports no network."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from semiseg.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from semiseg.networks.base import Network

_CLASSES = {"unet": "UNet", "unet2d": "UNet2D", "vnet": "VNet"}
"""Class of each network, in the module that has the network's name."""

NETWORKS: tuple[str, ...] = tuple(_CLASSES)
"""Names of all networks."""


def network_class(name: str) -> type[Network]:
    """The network class called `name`.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    if name not in _CLASSES:
        raise InputError(f"unknown network {name!r}: {did_you_mean(name, _CLASSES)}")
    found: type[Network] = getattr(import_module(f"{__name__}.{name}"), _CLASSES[name])
    return found


def build_network(name: str, *, channels: int, classes: int, spatial_dims: int, **options: Any) -> Network:
    """A freshly initialised network (drawn from torch's default generator).

    Args:
        name: `unet`, `unet2d` or `vnet`.
        channels: image channels.
        classes: output channels, background included.
        spatial_dims: 2 or 3.
        options: fields of the network's `Options`.

    Raises:
        InputError: the name or an option is unknown, or values are out of bounds or do not fit each other.
    """
    from semiseg.validation import parse

    cls = network_class(name)
    if spatial_dims not in (2, 3):
        raise InputError(f"network {name}: spatial_dims must be 2 or 3, came {spatial_dims}")
    parsed = parse(cls.Options, options, f"network {name}")
    return cls(parsed, channels=channels, classes=classes, spatial_dims=spatial_dims)
