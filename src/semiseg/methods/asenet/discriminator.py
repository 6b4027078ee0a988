"""The discriminators of ASE-Net."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.networks.blocks import CONVOLUTION, drop_channels
from semiseg.networks.dynamic import GatedDynamicConv

SLOPE, DROPOUT = 0.2, 0.5


class DynamicDiscriminator(nn.Module):
    """Two logits per sample of probabilities `[B, C, *S]` and their images `[B, channels, *S]`.

    A convolution of each, summed, then three gated dynamic ones, all of stride 2, then the mean over voxels. In 2D
    nothing follows the sum, and the classifier has two layers. Source: SUST-reynole/ASE-Net.

    Args:
        classes, channels: of what is judged, and of the image.
        width: channels of the first features.
    """

    def __init__(self, classes: int, channels: int, spatial_dims: int, width: int) -> None:
        super().__init__()
        conv, dims = CONVOLUTION[spatial_dims], spatial_dims
        self.first_active = dims == 3
        self.conv0 = conv(classes, width, 3, stride=2, padding=1)
        self.conv1 = conv(channels, width, 3, stride=2, padding=1)
        kernel = (3,) * dims
        self.layers = nn.ModuleList(GatedDynamicConv(k * width, 2 * k * width, kernel, stride=2) for k in (1, 2, 4))
        last = 8 * width
        self.classifier = (
            nn.Linear(last, 2) if dims == 3 else nn.Sequential(nn.Linear(last, width), nn.Linear(width, 2))
        )

    def forward(self, p: Tensor, images: Tensor) -> Tensor:
        x = self.conv0(p) + self.conv1(images)
        if self.first_active:
            x = drop_channels(F.leaky_relu(x, SLOPE), DROPOUT, self.training)
        for number, layer in enumerate(self.layers):
            x = F.leaky_relu(layer(x), SLOPE)
            x = drop_channels(x, DROPOUT, self.training and number < 2)
        verdict: Tensor = self.classifier(x.flatten(2).mean(2))
        return verdict
