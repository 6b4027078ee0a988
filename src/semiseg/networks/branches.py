"""One encoder with several decoders, made of the run's architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

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
        drops: tuple[float, ...] = (),
        first: int = 0,
        head_dropout: bool = True,
        part: Literal["whole", "encoder", "decoder"] = "whole",
        skips: Sequence[Tensor] = (),
        embeddings: bool = False,
    ) -> Any:
        active = self.training if dropout is None else dropout
        if part == "decoder":
            return _decode(self.decoders[0], [*skips, x], Recorder(()), active)
        self.check_call(x, taps)
        if part == "encoder":
            return self._encode(x, Recorder(()), active)
        if embeddings:
            features = self._encode(x, Recorder(()), active)
            return [_with_embedding(decoder, features, active) for decoder in self.decoders]
        if drops:
            return self._decode_dropped(x, drops, first, active, head_dropout)
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

    def decode_with_embeddings(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Logits of every decoder, and the features `[B, width, *S]` that its head received.

        Raises:
            ValueError: as a plain call does.
        """
        found: list[tuple[Tensor, Tensor]] = nn.Module.__call__(self, x, embeddings=True)
        return found

    def encode(self, x: Tensor, *, dropout: bool | None = None) -> list[Tensor]:
        """Features of the encoder's stages, fine to coarse, as a decoder takes them.

        Raises:
            ValueError: as a plain call does.
        """
        found: list[Tensor] = nn.Module.__call__(self, x, dropout=dropout, part="encoder")
        return found

    def decode_features(self, features: Sequence[Tensor], *, dropout: bool | None = None) -> Tensor:
        """Logits that the first decoder makes of what `encode` gave, or of the same changed."""
        *skips, deepest = features
        found: Tensor = nn.Module.__call__(self, deepest, dropout=dropout, part="decoder", skips=skips)
        return found

    def with_dropped_features(
        self, x: Tensor, *drops: float, first: int = 0, head_dropout: bool = True
    ) -> tuple[Tensor, ...]:
        """Logits of the first decoder, and those that it gives without a share of the encoder's channels.

        Channels of every stage and sample are dropped at random, in evaluation mode too, anew for each share in
        `drops`. All are decoded together, so that batch statistics are theirs in common.

        Args:
            first: the first sample of `x` `[B, channels, *S]` that is decoded with dropped channels too.
            head_dropout: false leaves out the dropout before the head.

        Raises:
            ValueError: as a plain call does.
        """
        found: tuple[Tensor, ...] = nn.Module.__call__(self, x, drops=drops, first=first, head_dropout=head_dropout)
        return found

    def _decode_dropped(
        self, x: Tensor, drops: tuple[float, ...], first: int, active: bool, head: bool
    ) -> tuple[Tensor, ...]:
        nothing = Recorder(())
        features = [
            torch.cat([f, *(drop_channels(f[first:], drop, True) for drop in drops)])
            for f in self._encode(x, nothing, active)
        ]
        logits = _decode(self.decoders[0], features, nothing, active and head)
        return torch.split(logits, [len(x)] + [len(x) - first] * len(drops))

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
    x = drop_channels(decoder(features, keep), decoder.p, active)
    logits: Tensor = decoder.head(keep("embedding", x))
    return logits


def _with_embedding(decoder: Decoder, features: Sequence[Tensor], active: bool) -> tuple[Tensor, Tensor]:
    keep = Recorder(("embedding",))
    logits, found = keep.result(_decode(decoder, features, keep, active))
    return logits, found["embedding"]
