"""One network whose last stage and head are there several times, made of the run's architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from semiseg.networks.base import Network, NetworkOptions, Recorder
from semiseg.networks.blocks import drop_channels
from semiseg.networks.encoder_decoder import Decoder, Encoder, join, part_name
from semiseg.networks.import_weights import import_official
from semiseg.networks.modules import ModuleListOf


class LateBranchedOptions(NetworkOptions):
    """Options of the form, beside those of the architecture that it is made of."""

    branches: int = Field(4, ge=1, description="last stages with heads, each with weights of its own")


class _Branch(nn.Module):
    """The last stage of a decoder, and its head."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.stage, self.head = decoder.stages[-1], decoder.head


class LateBranchedNet(Network):
    """The run's architecture, whose last decoder stage and head are there several times, on the same features.

    Called as any network it is the architecture with the first branch; `branch` gives the logits of all. Taps are the
    architecture's stages and what the first head receives. Source: FUSSNet (Xiang et al., MICCAI 2022).

    Args:
        options: of this form.
        build: makes a V-Net or U-Net.

    Attributes:
        shared_channels: of the features that all branches receive.

    Raises:
        TypeError: `build` makes another network.
    """

    Options = LateBranchedOptions

    def __init__(self, options: LateBranchedOptions, build: Callable[..., Network]) -> None:
        super().__init__()
        first, *others = (build() for _ in range(options.branches))
        known = {name: tap for name, tap in first.taps.items() if name.startswith(("enc", "dec"))}
        self.taps = known | {"embedding": first.taps["embedding"]}
        self.divisor = first.divisor
        self.encoder, self.decoder = Encoder(first), Decoder(first)
        self.others = ModuleListOf([_Branch(Decoder(net)) for net in others])
        self.shared_channels = first.taps["enc1"].channels * (1 if self.decoder.adds_skips else 2)

    def forward(
        self, x: Tensor, taps: tuple[str, ...] = (), *, dropout: bool | None = None, every: bool = False
    ) -> Any:
        self.check_call(x, taps)
        keep, active, decoder = Recorder(taps), self.training if dropout is None else dropout, self.decoder
        shared = self._shared(x, keep, active)
        features = keep(self.decoder_taps[-1], decoder.stages[-1](shared))
        logits: Tensor = decoder.head(keep("embedding", drop_channels(features, decoder.p, active)))
        if not every:
            return keep.result(logits)
        others = [end.head(drop_channels(end.stage(shared), decoder.p, active)) for end in self.others]
        return [logits, *others], shared

    def branch(self, x: Tensor, *, dropout: bool | None = None) -> tuple[Sequence[Tensor], Tensor]:
        """Logits `[B, C, *S]` of every branch, and the features `[B, shared_channels, *S]` that all receive.

        Raises:
            ValueError: as a plain call does.
        """
        # By way of the call, for that is what is compiled.
        found: tuple[Sequence[Tensor], Tensor] = nn.Module.__call__(self, x, dropout=dropout, every=True)
        return found

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` with this network's names; weights of the plain architecture leave the other branches as they are."""
        if any(name.startswith("others.") for name in state):
            return dict(state)
        named = {part_name(name, "decoder"): value for name, value in import_official(state).items()}
        others = (name for name in self.state_dict() if name.startswith("others."))
        return named | {name: self.state_dict()[name] for name in others}

    def _shared(self, x: Tensor, keep: Recorder, active: bool) -> Tensor:
        """Features of full size before the last stage."""
        finest, *skips, x = self.encoder(x, keep, active)
        x = drop_channels(x, self.encoder.p, active)
        for number in range(len(skips)):
            x = keep(f"dec{number + 1}", self.decoder.merge(number, self.decoder.rise(number, x), skips.pop()))
        return join(self.decoder, finest, self.decoder.rise(len(self.decoder.stages) - 1, x))
