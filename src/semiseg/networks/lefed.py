"""One encoder with two unlike decoders, made of the run's architecture: the network of LeFeD."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from semiseg.networks.base import Network, NetworkOptions, Recorder, Tap
from semiseg.networks.blocks import CONVOLUTION, LinearUpsample, TwoDecoderOptions, drop_channels
from semiseg.networks.encoder_decoder import Decoder, Encoder, part_name
from semiseg.networks.import_weights import import_official


class Decoded(NamedTuple):
    """What the two decoders make of one pass; lists run from full resolution to the bottleneck.

    Attributes:
        logits_a, logits_b: `[B, C, *S]`.
        features_a, features_b: outputs of the up-sampling units before the skip is added, and last the bottleneck as
            each decoder takes it; of equal shapes, those of the encoder's stages.
        sides: logits of decoder A's features at full size, `[sides_of, C, *S]`; empty without side heads.
    """

    logits_a: Tensor
    logits_b: Tensor
    features_a: list[Tensor]
    features_b: list[Tensor]
    sides: list[Tensor]


class Both(NamedTuple):
    """What `LeFeDNet.decode_both` asks of a call."""

    feedback: tuple[Tensor, ...]
    sides_of: int | None


class GatedDecoderOptions(TwoDecoderOptions):
    """Two decoders of which the second is gated by the first; a method's options may include these."""

    encoder_dropout: float | None = Field(
        None, ge=0, lt=1, description="dropout of whole channels after the bottleneck; null: the architecture's"
    )
    decoder_dropout: float | None = Field(
        None, ge=0, lt=1, description="the same before the heads of both decoders; null: the architecture's"
    )


class LeFeDOptions(GatedDecoderOptions, NetworkOptions):
    """Options of the two-decoder form, beside those of the architecture that it is made of."""

    cross_gate: bool = Field(True, description="decoder A's features gate what decoder B takes from the encoder")
    side_heads: bool = Field(True, description="heads on decoder A's features, for deep supervision")


class LeFeDNet(Network):
    """The encoder and decoder (A) of the run's architecture and a second decoder (B) that up-samples in another way.

    What B takes from the encoder is gated by A: skips x_k become x_k sigmoid(a_k), the bottleneck x becomes
    x + x sigmoid(x), with a_k the output of A's up-sampling unit at the same scale and no gradient through the gate.
    Called as any network it is encoder and decoder A alone; `decode_both` gives everything, and takes one tensor per
    scale that is added to the encoder's features. Taps are those of the architecture. Source: maxwell0027/LeFeD
    (arXiv:2309.14819), whose weights load through `import_weights`.

    Args:
        options: of this form.
        build: makes a V-Net or U-Net; keywords override its options.

    Raises:
        TypeError: `build` makes another network.
    """

    Options = LeFeDOptions

    def __init__(self, options: LeFeDOptions, build: Callable[..., Network]) -> None:
        super().__init__()
        self.options = options
        with torch.device("meta"):
            plain = Encoder(build())  # tells the architecture's dropout, and draws no random number
        # Dropout of the form's own replaces that of the architecture, also inside of its encoder.
        own: dict[str, Any] = {} if options.encoder_dropout is None else {"dropout": 0.0}
        first, second = (build(**own, upsampling=kind) for kind in (options.upsampling_a, options.upsampling_b))
        self.encoder_p = plain.p if options.encoder_dropout is None else options.encoder_dropout
        self.decoder_p = plain.p if options.decoder_dropout is None else options.decoder_dropout
        self.taps = {name: tap for name, tap in first.taps.items() if name.startswith(("enc", "dec"))}
        self.divisor = first.divisor
        self.encoder = Encoder(first)
        self.a = Decoder(first)
        self.b = Decoder(second)
        dims, stages = len(self.divisor), [tap for name, tap in first.taps.items() if name.startswith("enc")]
        conv, classes = CONVOLUTION[dims], first.get_submodule("head").out_channels
        self.sides = nn.ModuleList(conv(stage.channels, classes, 1) for stage in stages if options.side_heads)
        self.enlarge = nn.ModuleList(LinearUpsample(dims, _ratio(*pair)) for pair in pairwise(stages))

    def forward(
        self, x: Tensor, taps: tuple[str, ...] = (), *, dropout: bool | None = None, both: Both | None = None
    ) -> Any:
        self.check_call(x, taps)
        active = self.training if dropout is None else dropout
        if both is not None:
            return self._decode_both(x, both, active)
        keep = Recorder(taps)
        *skips, x = self.encoder(x, keep, active)
        x = self.a([*skips, drop_channels(x, self.encoder_p, active)], keep)
        return keep.result(self._head(self.a, x, active))

    def decode_both(
        self, x: Tensor, feedback: Sequence[Tensor] = (), *, sides_of: int | None = None, dropout: bool | None = None
    ) -> Decoded:
        """Both decoders' answers to images `[B, channels, *S]`.

        Args:
            feedback: added to the features of the encoder's stages, fine to coarse, before they go on to the next
                stage and to the skip; stages beyond its end get none. Each has the shape of the stage's features, or
                one channel.
            sides_of: number of samples, from the first on, with logits of the side heads; `None`: all.
            dropout: as in a plain call.

        Raises:
            ValueError: as a plain call does.
        """
        # By way of the call, for that is what is compiled.
        found: Decoded = nn.Module.__call__(self, x, dropout=dropout, both=Both(tuple(feedback), sides_of))
        return found

    def _decode_both(self, x: Tensor, both: Both, active: bool) -> Decoded:
        features = self.encoder(x, Recorder(()), active, both.feedback)
        bottom = drop_channels(features[-1], self.encoder_p, active)
        skips = features[:-1]
        of_a = [bottom]
        a = bottom
        for number, skip in enumerate(reversed(skips)):
            of_a.append(self.a.rise(number, a))
            a = self.a.merge(number, of_a[-1], skip)
        b = bottom + bottom * _gate(bottom) if self.options.cross_gate else bottom
        of_b = [b]
        for number, (skip, seen) in enumerate(zip(reversed(skips), of_a[1:], strict=True)):
            of_b.append(self.b.rise(number, b))
            b = self.b.merge(number, of_b[-1], skip * _gate(seen) if self.options.cross_gate else skip)
        of_a.reverse()
        of_b.reverse()
        sides = self._sides([f[: both.sides_of] for f in of_a]) if both.sides_of != 0 else []
        return Decoded(self._head(self.a, a, active), self._head(self.b, b, active), of_a, of_b, sides)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` of LeFeD's official code with this network's names.

        Weights of a network with one decoder give encoder and decoder A; the rest keeps what it has.
        """
        split: dict[str, dict[str, Tensor]] = {"": {}, "a": {}, "b": {}, "sides": {}}
        parts = {"decoder2": "b", "sideconv1": "sides"}
        for name, value in state.items():
            plain = name.removeprefix("module.")
            own = plain.split(".")[0] in ("a", "b", "sides") or plain.startswith(("encoder.stages.", "encoder.down."))
            split["" if own else parts.get(plain.split(".")[0], "a")][plain] = value
        named = split[""]
        for name, value in import_official(split["a"]).items():
            named[part_name(name, "a")] = value
        named |= {part_name(name, "b"): value for name, value in import_official(split["b"]).items()}
        for name, value in split["sides"].items():
            _, side, leaf = name.split(".")
            named[f"sides.{int(side.removeprefix('side')) - 1}.{leaf}"] = value
        if not any(name.startswith("b.") for name in named):
            named |= {name: value for name, value in self.state_dict().items() if name.startswith(("b.", "sides."))}
        return named

    def _head(self, decoder: Decoder, x: Tensor, active: bool) -> Tensor:
        logits: Tensor = decoder.head(drop_channels(x, self.decoder_p, active))
        return logits

    def _sides(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Enlarged stage by stage, as in the official code; at once would not be the same."""
        sides = []
        for number, head in enumerate(self.sides):
            logits = head(features[number])
            for coarse in range(number - 1, -1, -1):
                logits = self.enlarge[coarse](logits)
            sides.append(logits)
        return sides


def _gate(features: Tensor) -> Tensor:
    return torch.sigmoid(features.detach())


def _ratio(fine: Tap, coarse: Tap) -> tuple[int, ...]:
    return tuple(c // f for f, c in zip(fine.stride, coarse.stride, strict=True))
