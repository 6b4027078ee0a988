"""A network with a second head that tells how far every voxel is from the border of each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from semiseg.networks.base import Network, NetworkOptions
from semiseg.networks.blocks import CONVOLUTION
from semiseg.networks.import_weights import import_official


class DistanceOptions(NetworkOptions):
    """Options of the form, beside those of the architecture that it is made of."""

    maps: int = Field(1, ge=1, description="signed distance maps: the number of foreground classes")


class DistanceNet(Network):
    """The run's architecture with a convolution of kernel 1 and tanh beside its head, on the same features.

    Called as any network it gives logits alone; `with_distances` gives signed distances as well. Source: SASSNet (Li et
    al., MICCAI 2020).

    Args:
        options: of this form.
        build: makes the network of the run.
    """

    Options = DistanceOptions

    def __init__(self, options: DistanceOptions, build: Callable[..., Network]) -> None:
        super().__init__()
        self.net = build()
        self.taps, self.divisor = self.net.taps, self.net.divisor
        width = self.taps["embedding"].channels
        self.distance_head = CONVOLUTION[len(self.divisor)](width, options.maps, 1)

    def forward(
        self, x: Tensor, taps: tuple[str, ...] = (), *, dropout: bool | None = None, distances: bool = False
    ) -> Any:
        if not distances:
            return self.net(x, taps, dropout=dropout)
        logits, features = self.net(x, ("embedding", *taps), dropout=dropout)
        return logits, torch.tanh(self.distance_head(features["embedding"])), features

    def with_distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[B, C, *S]` and signed distances `[B, maps, *S]` in (-1, 1), negative inside, of one pass.

        Raises:
            ValueError: as a plain call does.
        """
        return self.with_distances_and_features(x, ())[:2]

    def with_distances_and_features(
        self, x: Tensor, taps: tuple[str, ...], *, dropout: bool | None = None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The same, with the features called `taps`."""
        # By way of the call, for that is what is compiled.
        found: tuple[Tensor, Tensor, dict[str, Tensor]] = nn.Module.__call__(
            self, x, taps, dropout=dropout, distances=True
        )
        return found

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` with this network's names; weights of the plain architecture leave the second head as it is."""
        if any(name.startswith("distance_head.") for name in state):
            return dict(state)
        named = {f"net.{name}": value for name, value in import_official(state).items()}
        own = (name for name in self.state_dict() if name.startswith("distance_head."))
        return named | {name: self.state_dict()[name] for name in own}
