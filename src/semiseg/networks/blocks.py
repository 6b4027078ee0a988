"""What networks are built from, in 2D and 3D alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from semiseg.networks.base import Init

Normalisation = Literal["batch", "instance", "group", "none"]
Upsampling = Literal["transposed", "linear", "nearest"]

GROUPS = 16
"""Groups of group normalisation."""

SLOPE = 0.01
"""Of the leaky ReLU below zero."""

Maker = Callable[..., nn.Module]


class TwoDecoderOptions(BaseModel):
    """How two decoders are made unlike; options of a method or of a network may include these."""

    upsampling_a: Upsampling = Field("transposed", description="how the first decoder enlarges")
    upsampling_b: Upsampling = Field("linear", description="how the second decoder does")


class Conv3d(nn.Conv3d):
    """A 3D convolution that avoids a fault and a slow path of PyTorch on CPUs.

    With bf16 features of depth 2, the weight gradient of a 3x3x3 convolution there is noise up to infinity (PyTorch
    2.13, AVX-512); such small features cost nothing, so they are convolved in float32. A convolution with kernel 1
    copies channels-last features to another layout and back; as a matrix product it does not.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        if self._pointwise and x.is_contiguous(memory_format=torch.channels_last_3d):
            return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)
        if x.shape[2] == 2 and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)

    @property
    def _pointwise(self) -> bool:
        return {*self.kernel_size, *self.stride, self.groups} == {1} and {*self.padding} == {0}


class _BiasGradient(Function):
    """`y`, to which the bias was added before, with the gradient of that bias."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, gradient.sum((0, *range(2, gradient.ndim)))


def _transposed(layer: nn.ConvTranspose2d | nn.ConvTranspose3d, convolve: Callable[..., Tensor], x: Tensor) -> Tensor:
    """A transposed convolution whose bias gradient, for bf16 features on a CPU, is a sum.

    It is the same number, but PyTorch (2.13, oneDNN) takes four times as long for it as for the gradients of features
    and weights together.
    """
    if layer.bias is None or x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return convolve(x, layer.weight, layer.bias, layer.stride)
    y: Tensor = _BiasGradient.apply(  # type: ignore[no-untyped-call]
        convolve(x, layer.weight, layer.bias.detach(), layer.stride), layer.bias
    )
    return y


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed 2D convolution without padding that is fast in bf16 on CPUs."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # without padding only one size is possible
        return _transposed(self, F.conv_transpose2d, x)


class ConvTranspose3d(nn.ConvTranspose3d):
    """The same in 3D."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return _transposed(self, F.conv_transpose3d, x)


CONVOLUTION: dict[int, Maker] = {2: nn.Conv2d, 3: Conv3d}
TRANSPOSED: dict[int, Maker] = {2: ConvTranspose2d, 3: ConvTranspose3d}
_BATCH: dict[int, Maker] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}


class InstanceNorm(nn.Module):
    """Every channel of every sample brought to mean 0 and variance 1 by its own statistics, in train and eval mode."""

    def __init__(self, channels: int, *, affine: bool, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.shape[2:].numel() == 1:
            return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        # The same map by CPU kernels that are 1.5 to 3 times as fast, forward and backward together: group
        # normalisation for contiguous features, batch normalisation of single samples for channels-last ones.
        if x.is_contiguous():
            return F.group_norm(x, x.shape[1], self.weight, self.bias, self.eps)
        samples = [
            F.batch_norm(sample, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for sample in torch.split(x, 1)
        ]
        return torch.cat(samples)


def normalisation(kind: Normalisation, channels: int, dims: int, *, affine_instance: bool) -> nn.Module:
    """A normalisation layer; the identity for `none`."""
    match kind:
        case "batch":
            return _BATCH[dims](channels)
        case "instance":
            return InstanceNorm(channels, affine=affine_instance)
        case "group":
            return nn.GroupNorm(GROUPS, channels)
        case "none":
            return nn.Identity()


class ConvUnit(nn.Module):
    """Resampling (if any), convolution, normalisation, activation."""

    def __init__(
        self, conv: nn.Module, norm: nn.Module, activation: nn.Module, resample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.resample = resample
        self.conv = conv
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        if self.resample is not None:
            x = self.resample(x)
        y: Tensor = self.activation(self.norm(self.conv(x)))
        return y


class LinearUpsample(nn.Module):
    """Each side times its `factor` (default 2) by linear interpolation that keeps the corner voxels where they are."""

    def __init__(self, dims: int, factor: Sequence[int] | None = None) -> None:
        super().__init__()
        self.mode = _LINEAR[dims]
        self.factor = _factors(factor)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.factor, mode=self.mode, align_corners=True)


class NearestUpsample(nn.Module):
    """Each side times its `factor` (default 2) by repeating voxels."""

    def __init__(self, factor: Sequence[int] | None = None) -> None:
        super().__init__()
        self.factor = _factors(factor)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.factor, mode="nearest")


def upsample(kind: Upsampling, inputs: int, channels: int, stride: Sequence[int]) -> nn.Module:
    """Up-sampling of a U-Net: a transposed convolution, or one with kernel 1 *before* the interpolation."""
    dims, sides = len(stride), tuple(stride)
    if kind == "transposed":
        return TRANSPOSED[dims](inputs, channels, sides, stride=sides)
    resample = LinearUpsample(dims, stride) if kind == "linear" else NearestUpsample(stride)
    return nn.Sequential(CONVOLUTION[dims](inputs, channels, 1), resample)


def side_heads(widths: Sequence[int], classes: int, dims: int, kernel: int = 1) -> nn.ModuleList:
    """Heads of deep supervision on all decoder stages but the last; `widths` are those of all stages."""
    conv = CONVOLUTION[dims]
    return nn.ModuleList(conv(width, classes, kernel, padding=kernel // 2) for width in widths[-2:0:-1])


def leaky() -> nn.LeakyReLU:
    """The activation of the U-Nets."""
    return nn.LeakyReLU(SLOPE, inplace=True)


def _factors(factor: Sequence[int] | None) -> float | list[float]:
    return 2.0 if factor is None else [float(side) for side in factor]


def drop_channels(x: Tensor, p: float, active: bool) -> Tensor:
    """Whole channels of single samples set to zero with probability `p`, the others scaled by 1/(1 - p)."""
    if not active or p == 0:
        return x
    return torch.feature_dropout(x, p, True)


def scale_gradient(x: Tensor, factor: Tensor) -> Tensor:
    """`x` itself, whose gradient is multiplied by the number `factor`; a negative one reverses it (arXiv:1409.7495)."""
    scaled: Tensor = _ScaledGradient.apply(x, factor)  # type: ignore[no-untyped-call]
    return scaled


class _ScaledGradient(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return factor * gradient, None


def same_padding(kernel: Sequence[int]) -> tuple[int, ...]:
    """Padding that keeps the sides, for odd kernels."""
    return tuple(side // 2 for side in kernel)


def initialise(network: nn.Module, init: Init) -> None:
    """Redraw the weights of convolutions and set normalisations to scale 1 and shift 0, in place.

    `kaiming`: normal, standard deviation sqrt(2 / fan_in); `xavier`: normal, sqrt(2 / (fan_in + fan_out)); `default`
    changes nothing. Biases and transposed convolutions keep what they have, as in the official co-training code.
    """
    if init == "default":
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            if init == "kaiming":
                nn.init.kaiming_normal_(module.weight)
            else:
                nn.init.xavier_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d | nn.GroupNorm | InstanceNorm):
            for parameter, value in ((module.weight, 1.0), (module.bias, 0.0)):
                if parameter is not None:
                    nn.init.constant_(parameter, value)
