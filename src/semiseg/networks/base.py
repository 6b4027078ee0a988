"""The protocol that all networks follow, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, overload

from torch import Tensor, nn

Init = Literal["default", "kaiming", "xavier"]


@dataclass(frozen=True)
class Tap:
    """A named intermediate feature: its number of channels and its stride to the input per axis."""

    channels: int
    stride: tuple[int, ...]


class Network(nn.Module, ABC):
    """A segmentation network: images in, logits at full size out, intermediate features on request.

    Attributes:
        taps: every feature that can be asked for; `enc1 ...` (fine to coarse, the last one is the bottleneck),
            `dec1 ...` (coarse to fine, before any dropout), `head1 ...` (logits at `dec1 ...`, with deep supervision).
        divisor: what each spatial side must be a multiple of.
    """

    taps: dict[str, Tap]
    divisor: tuple[int, ...]

    @property
    def decoder_taps(self) -> tuple[str, ...]:
        """Names of the decoder stages, from the bottleneck to full resolution."""
        return tuple(name for name in self.taps if name.startswith("dec"))

    @overload
    def __call__(self, x: Tensor, *, dropout: bool | None = None) -> Tensor: ...
    @overload
    def __call__(
        self, x: Tensor, taps: tuple[str, ...], *, dropout: bool | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Logits `[B, C, *S]`, with the asked-for features when `taps` are named.

        Args:
            x: images `[B, channels, *S]`, each side a multiple of `divisor`.
            taps: names of features to return.
            dropout: `None` follows the mode (on in train mode); `False` switches it off for this call only.
        """
        return super().__call__(*args, **kwargs)

    @abstractmethod
    def forward(
        self, x: Tensor, taps: tuple[str, ...] = (), *, dropout: bool | None = None
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]: ...


NETWORKS: dict[str, type[Network]] = {}


def register_network(name: str) -> Callable[[type[Network]], type[Network]]:
    """Class decorator that makes a network known under `name`."""

    def add(cls: type[Network]) -> type[Network]:
        NETWORKS[name] = cls
        return cls

    return add
