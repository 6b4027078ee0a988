"""The protocol that all networks follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, overload

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from semiseg.errors import did_you_mean, raise_all

Init = Literal["default", "kaiming", "xavier"]


@dataclass(frozen=True)
class Tap:
    """A named intermediate feature: its number of channels and its stride to the input per axis."""

    channels: int
    stride: tuple[int, ...]


class NetworkOptions(BaseModel):
    """Options of a network: typed, bounded, documented fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(nn.Module, ABC):
    """A segmentation network: images in, logits at full size out, intermediate features on request.

    A network is built as `cls(options, channels=..., classes=..., spatial_dims=...)`, mostly by
    `semiseg.networks.build_network`.

    Attributes:
        taps: every feature that can be asked for; `enc1 ...` (fine to coarse, the last one is the bottleneck),
            `dec1 ...` (coarse to fine), all before any dropout that follows the stage; `bottleneck`, the very tensor
            that the decoder receives (the last `enc` after its dropout); `embedding`, the one that the head receives
            (the last `dec` after its dropout, at full resolution); and with deep supervision `head1 ...` (logits
            of `dec1 ...` at their own resolution; the last decoder stage has the main head only).
        divisor: what each spatial side must be a multiple of.
    """

    Options: ClassVar[type[NetworkOptions]]

    taps: dict[str, Tap]
    divisor: tuple[int, ...]

    @property
    def decoder_taps(self) -> tuple[str, ...]:
        """Names of the decoder stages, from the bottleneck to full resolution."""
        return tuple(name for name in self.taps if name.startswith("dec"))

    @property
    def dropout_rate(self) -> float:
        """Largest rate of dropout anywhere in the network; 0: two passes in train mode give the same."""
        rates = (getattr(module, "p", 0.0) for module in self.modules())
        return max(float(rate) for rate in rates if isinstance(rate, int | float))

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
            dropout: for this call only: `None` follows the mode (on in train mode), `False` is off, `True` is on
                (in eval mode too). Normalisations follow the mode in any case.

        Raises:
            ValueError: a side is not a multiple of `divisor`, the number of axes is wrong, or a tap is unknown.
        """
        return super().__call__(*args, **kwargs)

    def tapped(self, images: Tensor, taps: tuple[str, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and the features called `taps` (at least one), as teachers answer too."""
        return self(images, taps)

    @abstractmethod
    def forward(
        self, x: Tensor, taps: tuple[str, ...] = (), *, dropout: bool | None = None
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]: ...

    def check_call(self, x: Tensor, taps: Iterable[str]) -> None:
        """Refuse what `forward` cannot take; the errors are those of `__call__`."""
        sides = tuple(x.shape[2:])
        if len(sides) != len(self.divisor):
            raise ValueError(f"expected images [B, channels, {len(self.divisor)} sides], came {list(x.shape)}")
        if any(side % unit for side, unit in zip(sides, self.divisor, strict=True)):
            raise ValueError(f"sides {list(sides)} are not multiples of {list(self.divisor)}: pad or choose others")
        for name in taps:
            if name not in self.taps:
                raise ValueError(f"no tap {name!r}: {did_you_mean(name, self.taps)}")


def stage_taps(
    widths: Sequence[int], strides: Sequence[tuple[int, ...]], classes: int, *, deep_supervision: bool
) -> dict[str, Tap]:
    """Taps of an encoder-decoder whose stages, fine to coarse, have these channels and strides to the input."""
    features = [Tap(width, stride) for width, stride in zip(widths, strides, strict=True)]
    decoder = features[-2::-1]
    taps = {f"enc{number}": tap for number, tap in enumerate(features, start=1)}
    taps["bottleneck"] = features[-1]
    taps |= {f"dec{number}": tap for number, tap in enumerate(decoder, start=1)}
    taps["embedding"] = decoder[-1]
    if deep_supervision:
        taps |= {f"head{number}": Tap(classes, tap.stride) for number, tap in enumerate(decoder[:-1], start=1)}
    return taps


def stage_rates(
    rates: float | tuple[float, ...], stages: int, filters: Sequence[int], network: str, kind: str = "stage"
) -> tuple[float, ...]:
    """A rate of dropout for each of `stages`, from one for all or one for each.

    Raises:
        InputError: rates out of bounds or of another number; filters that are not positive.
    """
    found = rates if isinstance(rates, tuple) else (rates,) * stages
    problems = []
    if len(found) != stages:
        problems.append(
            f"network {network}: dropout: expected one number or {stages}, one per {kind}, came {len(found)}"
        )
    if any(not 0 <= rate < 1 for rate in found):
        problems.append(f"network {network}: dropout: expected numbers from 0 to below 1, came {list(found)}")
    if min(filters) < 1:
        problems.append(f"network {network}: filters must be positive, came {list(filters)}")
    raise_all(problems)
    return found


class Recorder:
    """Keeps the features that are asked for, and no others, so that the rest can be freed."""

    def __init__(self, taps: tuple[str, ...]) -> None:
        self.taps = taps
        self._kept: dict[str, Tensor] = {}

    def __call__(self, name: str, feature: Tensor) -> Tensor:
        """`feature` itself, kept if `name` was asked for."""
        if name in self.taps:
            self._kept[name] = feature
        return feature

    def result(self, logits: Tensor) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """What `forward` returns: the logits, with the features in the order in which they were asked for, if any."""
        return (logits, {name: self._kept[name] for name in self.taps}) if self.taps else logits
