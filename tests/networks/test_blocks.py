"""Normalisation, up-sampling and dropout against slow references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from semiseg.networks import build_network
from semiseg.networks.blocks import (
    CONVOLUTION,
    TRANSPOSED,
    InstanceNorm,
    LinearUpsample,
    NearestUpsample,
    drop_channels,
)

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def reference_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    axes = tuple(range(2, x.ndim))
    y = (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
    if weight is None or bias is None:
        return y
    shape = (1, -1) + (1,) * len(axes)
    return y * weight.view(shape) + bias.view(shape)


@pytest.mark.parametrize("shape", [(3, 4, 6, 5), (2, 3, 4, 6, 5), (1, 2, 4, 4, 4)])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "strided"])
@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm(shape: tuple[int, ...], layout: str, affine: bool) -> None:
    torch.manual_seed(0)
    norm = InstanceNorm(shape[1], affine=affine).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    data = 3 + 2 * torch.randn(shape, dtype=torch.float64)
    if layout == "channels last":
        data = data.contiguous(memory_format=FORMATS[len(shape)])
    elif layout == "strided":
        data = data.transpose(-1, -2)
    x, again = data.requires_grad_(), data.detach().clone().requires_grad_()
    ours, slow = norm(x), reference_norm(again, norm.weight, norm.bias)
    torch.testing.assert_close(ours, slow)
    factor = torch.randn_like(slow)
    inputs = list(norm.parameters())
    gradients = torch.autograd.grad((ours * factor).sum(), [x, *inputs])
    expected = torch.autograd.grad((slow * factor).sum(), [again, *inputs])
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("channels_last", [True, False])
def test_instance_norm_of_bright_features_in_single_precision(channels_last: bool) -> None:
    x = 1000 + torch.randn(2, 3, 8, 8, 8)
    laid_out = x.contiguous(memory_format=torch.channels_last_3d) if channels_last else x
    expected = reference_norm(x.double(), None, None)
    assert (InstanceNorm(3, affine=False)(laid_out) - expected).abs().max() < 1e-3


def test_instance_norm_refuses_a_single_voxel() -> None:
    with pytest.raises(ValueError, match="spatial"):
        InstanceNorm(2, affine=True)(torch.zeros(2, 2, 1, 1, 1))


@pytest.mark.parametrize("dims", [2, 3])
def test_linear_upsampling_keeps_linear_ramps(dims: int) -> None:
    ramp = torch.linspace(0, 7, 8).view(1, 1, 8, *(1,) * (dims - 1)).expand(1, 1, 8, *(4,) * (dims - 1))
    up = LinearUpsample(dims)(ramp)
    assert up.shape[2:] == (16, *(8,) * (dims - 1))
    np.testing.assert_allclose(up[(0, 0, slice(None), *(0,) * (dims - 1))], np.linspace(0, 7, 16), rtol=1e-5)


def test_nearest_upsampling_repeats_voxels() -> None:
    x = torch.randn(1, 2, 3, 2, 2)
    expected = x.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    assert torch.equal(NearestUpsample()(x), expected)


def test_drop_channels() -> None:
    x = torch.ones(50, 40, 2, 2, 2)
    dropped = drop_channels(x, 0.25, True)
    whole = dropped.flatten(2)
    assert torch.equal(whole.amin(2), whole.amax(2)), "a channel is dropped as a whole"
    kept = whole[..., 0].gt(0)
    assert abs(kept.float().mean() - 0.75) < 0.05
    torch.testing.assert_close(whole[..., 0][kept], torch.full((int(kept.sum()),), 1 / 0.75))
    assert drop_channels(x, 0.25, False) is x
    assert drop_channels(x, 0.0, True) is x


def test_residual_adds_the_input_of_a_stage() -> None:
    net = build_network("vnet", channels=1, classes=2, spatial_dims=2, filters=2, residual=True, normalisation="none")
    stage = net.encoder[1]  # type: ignore[index]
    x = torch.randn(1, 4, 6, 6)
    last = stage[1].conv(torch.relu(stage[0].conv(x)))
    torch.testing.assert_close(stage(x), torch.relu(last + x))


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 4, 4), (4, 2, 4), (1, 2, 2)])
def test_small_features_in_bf16_have_sound_gradients(shape):
    """Without its guard, the convolution gives gradients of up to 1e37 at depth 2 on CPUs with bf16 instructions."""
    torch.manual_seed(0)
    conv = CONVOLUTION[3](32, 32, 3, padding=1)
    images, upstream = torch.randn(2, 32, *shape), torch.randn(2, 32, *shape)
    gradients = []
    for reduced in (False, True):
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            out = conv(images)
        out.backward(upstream.to(out.dtype))
        gradients.append(conv.weight.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.05, atol=0.05 * float(gradients[0].abs().max()))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_kernel_one_is_the_same_in_both_layouts(precision: torch.dtype) -> None:
    """Values and all gradients, though channels-last features take another way."""
    torch.manual_seed(0)
    conv = CONVOLUTION[3](5, 3, 1)
    x = torch.randn(2, 5, 4, 6, 3)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        conv.zero_grad()
        image = x.clone(memory_format=layout).requires_grad_()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            out = conv(image)
        assert out.dtype == precision
        out.float().square().sum().backward()
        found.append([out.float(), image.grad, conv.weight.grad, conv.bias.grad])
    assert found[1][0].is_contiguous(memory_format=torch.channels_last_3d)
    tolerance = {} if precision == torch.float32 else {"rtol": 0.02, "atol": 0.05}
    for plain, last in zip(*found, strict=True):
        torch.testing.assert_close(last, plain, **tolerance)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("dims", "plain"), [(2, torch.nn.ConvTranspose2d), (3, torch.nn.ConvTranspose3d)])
def test_transposed_convolutions_are_those_of_pytorch(
    dims: int, plain: type[torch.nn.Module], precision: torch.dtype
) -> None:
    torch.manual_seed(0)
    ours, theirs = TRANSPOSED[dims](6, 4, 2, stride=2), plain(6, 4, 2, stride=2)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, *(5, 4, 3)[:dims]).contiguous(memory_format=FORMATS[dims + 2]).requires_grad_()
    found = []
    for net in (ours, theirs):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            y = net(x)
        factor = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
        found.append((y, *torch.autograd.grad((y * factor).sum(), [x, *net.parameters()])))
    for mine, expected in zip(*found, strict=True):
        assert mine.dtype == expected.dtype
        torch.testing.assert_close(mine, expected)
