"""Networks that judge a prediction together with its image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.networks.blocks import CONVOLUTION, drop_channels

SLOPE, DROPOUT = 0.2, 0.5
LEAST = 16
"""Sides are padded to this many voxels, for four convolutions halve them."""
OFFICIAL_CELLS = range(14, 21)
"""Sides of the last features, in 2D, that the published code pools by windows of 7, which leave out the rest."""


class Discriminator(nn.Module):
    """Two logits per sample of maps `[B, maps, *S]` and their images `[B, channels, *S]`, from four convolutions.

    Kernels of 4, stride 2; LeakyReLU, and dropout of channels but after the last. In 3D the last features are averaged,
    in 2D in 2 x 2 cells, and there nothing follows the first convolution. Source: kleinzcy/SASSnet (3D) and
    HiLab-git/SSL4MIS (2D), after DAN (Zhang et al., MICCAI 2017).

    Args:
        maps, channels: of what is judged, and of the image.
        width: channels after the first convolution, doubled by each of the others.
    """

    def __init__(self, maps: int, channels: int, spatial_dims: int, width: int) -> None:
        super().__init__()
        conv: Callable[..., nn.Module] = CONVOLUTION[spatial_dims]
        halving = {"stride": 2, "padding": 1}
        self.dims = spatial_dims
        self.conv0, self.conv1 = conv(maps, width, 4, **halving), conv(channels, width, 4, **halving)
        self.conv2, self.conv3, self.conv4 = (conv(k * width, 2 * k * width, 4, **halving) for k in (1, 2, 4))
        self.classifier = nn.Linear(8 * width * (4 if spatial_dims == 2 else 1), 2)

    def forward(self, maps: Tensor, images: Tensor) -> Tensor:
        x = self.conv0(_padded(maps)) + self.conv1(_padded(images))
        if self.dims == 3:
            x = self._dropped(x)
        x = F.leaky_relu(self.conv4(self._dropped(self.conv3(self._dropped(self.conv2(x))))), SLOPE)
        verdict: Tensor = self.classifier(self._pooled(x).flatten(1))
        return verdict

    def _dropped(self, x: Tensor) -> Tensor:
        return drop_channels(F.leaky_relu(x, SLOPE), DROPOUT, self.training)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.dims == 3:
            return x.flatten(2).mean(2)
        if all(side in OFFICIAL_CELLS for side in x.shape[2:]):
            return F.avg_pool2d(x, 7)
        # Averages by sums: the gradient of adaptive pooling is not the same twice on a GPU.
        return torch.stack([cell.mean((2, 3)) for half in _halves(x, 2) for cell in _halves(half, 3)], 2)


def _halves(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The first and the last half along an axis, which share the middle of an odd side."""
    side = x.shape[axis]
    half = -(-side // 2)
    return x.narrow(axis, 0, half), x.narrow(axis, side - half, half)


def _padded(x: Tensor) -> Tensor:
    missing = [max(LEAST - side, 0) for side in x.shape[2:]]
    return F.pad(x, [each for room in reversed(missing) for each in (0, room)]) if any(missing) else x
