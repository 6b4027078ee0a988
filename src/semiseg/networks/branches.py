"""One encoder with several decoders, made of the run's architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from semiseg.networks.base import Network, NetworkOptions, Recorder
from semiseg.networks.blocks import Upsampling, drop_channels, scale_gradient
from semiseg.networks.encoder_decoder import Decoder, Encoder, part_name
from semiseg.networks.import_weights import import_official
from semiseg.networks.modules import ModuleListOf

Factor = float | Tensor | None
"""Of a decoder's gradient to the encoder: 1, any number as a tensor, or None for a decoder without gradient."""


class BranchedOptions(NetworkOptions):
    """Options of the form, beside those of the architecture that it is made of."""

    decoders: int = Field(
        2, ge=1, description="decoders with weights of their own; without meaning beside `upsamplings`"
    )
    upsamplings: tuple[Upsampling, ...] | None = Field(
        None, description="how each decoder enlarges, instead of `decoders`; null: all as the architecture does"
    )


class BranchedNet(Network):
    """The encoder of the run's architecture with several of its decoders, heads included.

    Called as any network it is the encoder and the first decoder alone; `decode` gives the logits of all. Taps are the
    stages of the encoder and of the first decoder. Dropout is the architecture's: what lies in or after the encoder is
    drawn once for all decoders, what lies before the heads once for each.

    Args:
        options: of this form.
        build: makes a V-Net or U-Net; keywords override its options.

    Raises:
        TypeError: `build` makes another network.
    """

    Options = BranchedOptions

    def __init__(self, options: BranchedOptions, build: Callable[..., Network]) -> None:
        super().__init__()
        kinds = [{"upsampling": kind} for kind in options.upsamplings or ()] or [{}] * options.decoders
        first, *others = (build(**kind) for kind in kinds)
        self.taps = {name: tap for name, tap in first.taps.items() if name.startswith(("enc", "dec"))}
        self.divisor = first.divisor
        self.encoder = Encoder(first)
        self.decoders = ModuleListOf([Decoder(net) for net in (first, *others)])

    def forward(
        self,
        x: Tensor,
        taps: tuple[str, ...] = (),
        *,
        dropout: bool | None = None,
        gradients: tuple[Factor, ...] | None = None,
        drop: float | None = None,
    ) -> Any:
        self.check_call(x, taps)
        active = self.training if dropout is None else dropout
        if drop is not None:
            return self._decode_dropped(x, drop, active)
        if gradients is not None:
            return self._decode_all(x, gradients, active)
        keep = Recorder(taps)
        return keep.result(_decode(self.decoders[0], self._encode(x, keep, active), keep, active))

    def decode(self, x: Tensor, gradients: Sequence[float | None] = (), *, dropout: bool | None = None) -> list[Tensor]:
        """Logits `[B, C, *S]` of every decoder for images `[B, channels, *S]`.

        Args:
            gradients: per decoder the factor of the gradient that it gives to the encoder: 1 (also for decoders beyond
                the end) leaves it, a negative number reverses it, and with `None` the decoder runs without gradient.
            dropout: as in a plain call.

        Raises:
            ValueError: as a plain call does.
        """
        # By way of the call, for that is what is compiled, anew for each number; tensors are no such numbers.
        factors = tuple(g if g in (None, 1.0) else x.new_full((), g) for g in gradients)
        found: list[Tensor] = nn.Module.__call__(self, x, dropout=dropout, gradients=factors)
        return found

    def with_dropped_features(self, x: Tensor, drop: float) -> tuple[Tensor, Tensor]:
        """Logits of the first decoder, and those that it gives without a share `drop` of the encoder's channels.

        Channels of every stage and sample are dropped at random, in evaluation mode too. Both are decoded together, so
        that batch statistics are theirs in common.

        Raises:
            ValueError: as a plain call does.
        """
        found: tuple[Tensor, Tensor] = nn.Module.__call__(self, x, drop=drop)
        return found

    def _decode_dropped(self, x: Tensor, drop: float, active: bool) -> tuple[Tensor, Tensor]:
        nothing = Recorder(())
        features = [torch.cat([f, drop_channels(f, drop, True)]) for f in self._encode(x, nothing, active)]
        logits = _decode(self.decoders[0], features, nothing, active)
        return logits[: len(x)], logits[len(x) :]

    def _decode_all(self, x: Tensor, gradients: Sequence[Factor], active: bool) -> list[Tensor]:
        nothing = Recorder(())
        features = self._encode(x, nothing, active)
        logits = []
        for number, decoder in enumerate(self.decoders):
            factor = gradients[number] if number < len(gradients) else 1.0
            taken = [scale_gradient(f, factor) for f in features] if isinstance(factor, Tensor) else features
            with torch.set_grad_enabled(factor is not None and torch.is_grad_enabled()):
                logits.append(_decode(decoder, taken, nothing, active))
        return logits

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` with this network's names.

        Weights of a network with one decoder give encoder and first decoder; the others keep what they have.
        """
        if any(name.startswith("decoders.") for name in state):
            return dict(state)
        named = {part_name(name, "decoders.0"): value for name, value in import_official(state).items()}
        others = (name for name in self.state_dict() if name.startswith("decoders.") and name.split(".")[1] != "0")
        return named | {name: self.state_dict()[name] for name in others}

    def _encode(self, x: Tensor, keep: Recorder, active: bool) -> list[Tensor]:
        *skips, x = self.encoder(x, keep, active)
        return [*skips, drop_channels(x, self.encoder.p, active)]


def _decode(decoder: Decoder, features: Sequence[Tensor], keep: Recorder, active: bool) -> Tensor:
    logits: Tensor = decoder.head(drop_channels(decoder(features, keep), decoder.p, active))
    return logits
