"""The V-Net of yulequan/UA-MT, and the two-decoder network of maxwell0027/LeFeD."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128, 256)
UNITS = (1, 2, 3, 3, 3)


def unit(*layers: nn.Module, channels: int) -> nn.Sequential:
    """Layers, batch normalisation, ReLU."""
    return nn.Sequential(*layers, nn.BatchNorm3d(channels), nn.ReLU(inplace=True))


def stage(inputs: int, channels: int, units: int) -> nn.Sequential:
    """Units of 3x3x3 convolutions."""
    return nn.Sequential(
        *[unit(nn.Conv3d(channels if k else inputs, channels, 3, padding=1), channels=channels) for k in range(units)]
    )


def up(inputs: int, channels: int, kind: str) -> nn.Sequential:
    """Doubles the sides."""
    if kind == "transposed":
        return unit(nn.ConvTranspose3d(inputs, channels, 2, stride=2), channels=channels)
    enlarge = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)
    return unit(enlarge, nn.Conv3d(inputs, channels, 3, padding=1), channels=channels)


class Features(NamedTuple):
    """Logits, the bottleneck after its dropout, sums of skips, decoder stages, and side logits, coarse to fine."""

    logits: Tensor
    bottleneck: Tensor
    sums: list[Tensor]
    stages: list[Tensor]
    sides: list[Tensor]


class VNet(nn.Module):
    """One input channel, 16 filters; `deep`: heads on the sums at strides 8, 4, 2."""

    def __init__(self, classes: int = 2, upsampling: str = "transposed", dropout: float = 0.5, deep: bool = False):
        super().__init__()
        self.encoder = nn.ModuleList(stage(([1, *WIDTHS[1:]])[k], WIDTHS[k], UNITS[k]) for k in range(5))
        self.down = nn.ModuleList(
            unit(nn.Conv3d(WIDTHS[k], WIDTHS[k + 1], 2, stride=2), channels=WIDTHS[k + 1]) for k in range(4)
        )
        self.up = nn.ModuleList(up(WIDTHS[k + 1], WIDTHS[k], upsampling) for k in (3, 2, 1, 0))
        self.decoder = nn.ModuleList(stage(WIDTHS[k], WIDTHS[k], UNITS[k]) for k in (3, 2, 1, 0))
        self.head = nn.Conv3d(WIDTHS[0], classes, 1)
        self.heads = nn.ModuleList(nn.Conv3d(WIDTHS[k], classes, 1) for k in (3, 2, 1) if deep)
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, x: Tensor) -> Features:
        skips = []
        for k, block in enumerate(self.encoder):
            x = block(self.down[k - 1](x) if k else x)
            skips.append(x)
        x = bottleneck = self.dropout(skips.pop())
        sums, stages, sides = [], [], []
        for k, block in enumerate(self.decoder):
            x = self.up[k](x) + skips.pop()
            sums.append(x)
            if k < len(self.heads):
                sides.append(self.heads[k](x))
            x = block(x)
            stages.append(x)
        return Features(self.head(self.dropout(x)), bottleneck, sums, stages, sides)


class LeFeDEncoder(nn.Module):
    """Encoder whose stages take feedback."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stage(([1, *WIDTHS[1:]])[k], WIDTHS[k], UNITS[k]) for k in range(5))
        self.down = nn.ModuleList(
            unit(nn.Conv3d(WIDTHS[k], WIDTHS[k + 1], 2, stride=2), channels=WIDTHS[k + 1]) for k in range(4)
        )

    def forward(self, x: Tensor, feedback: list[Tensor]) -> list[Tensor]:
        features = []
        for k, block in enumerate(self.stages):
            x = block(self.down[k - 1](x) if k else x)
            if feedback:
                x = x + feedback[k]
            features.append(x)
        return features


class LeFeDDecoder(nn.Module):
    """Decoder that also gives what its up-sampling units put out, fine to coarse, the bottleneck last."""

    def __init__(self, classes: int, upsampling: str, dropout: float) -> None:
        super().__init__()
        self.up = nn.ModuleList(up(WIDTHS[k + 1], WIDTHS[k], upsampling) for k in (3, 2, 1, 0))
        self.stages = nn.ModuleList(stage(WIDTHS[k], WIDTHS[k], UNITS[k]) for k in (3, 2, 1, 0))
        self.head = nn.Conv3d(WIDTHS[0], classes, 1)
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, x: Tensor, skips: list[Tensor], gates: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        if gates:
            x = x + x * torch.sigmoid(gates[4].detach())
        taps = [x]
        for k, block in enumerate(self.stages):
            x = self.up[k](x)
            taps.append(x)
            skip = skips[3 - k]
            if gates:
                skip = skip * torch.sigmoid(gates[3 - k].detach())
            x = block(x + skip)
        return self.head(self.dropout(x)), taps[::-1]


class Both(NamedTuple):
    """Logits and taps of the decoders, and side logits of the first."""

    logits_a: Tensor
    logits_b: Tensor
    taps_a: list[Tensor]
    taps_b: list[Tensor]
    sides: list[Tensor]


class LeFeDNet(nn.Module):
    """One encoder, decoder A with side heads, decoder B gated by A."""

    def __init__(self, classes: int = 2, dropout: tuple[float, float] = (0.3, 0.5)) -> None:
        super().__init__()
        self.encoder = LeFeDEncoder()
        self.a = LeFeDDecoder(classes, "transposed", dropout[1])
        self.b = LeFeDDecoder(classes, "trilinear", dropout[1])
        self.sides = nn.ModuleList(nn.Conv3d(width, classes, 1) for width in WIDTHS)
        self.dropout = nn.Dropout3d(dropout[0])
        self.enlarge = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)

    def forward(
        self, x: Tensor, feedback: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        features = self.encoder(x, feedback)
        bottom = self.dropout(features[4])
        logits_a, taps_a = self.a(bottom, features[:4], None)
        logits_b, taps_b = self.b(bottom, features[:4], taps_a)
        sides = []
        for k, head in enumerate(self.sides):
            side = head(taps_a[k])
            for _ in range(k):
                side = self.enlarge(side)
            sides.append(side)
        return Both(logits_a, logits_b, taps_a, taps_b, sides)
