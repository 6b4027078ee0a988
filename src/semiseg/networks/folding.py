"""Networks that only predict: normalisations by fixed statistics become part of the convolutions before them."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from semiseg.networks.blocks import CONVOLUTION, TRANSPOSED, ConvUnit

_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (*CONVOLUTION.values(), *TRANSPOSED.values())


def fold_batch_norms(module: nn.Module) -> int:
    """Put the batch normalisations of `module`, which is in eval mode, into their convolutions; returns how many.

    Weights and biases are scaled and shifted in place of the features, so that a pass over every feature map is saved
    and outputs agree up to rounding. The module can no longer be trained. Normalisations by the statistics of the
    batch or of the sample stay as they are.
    """
    folded = 0
    for unit in [part for part in module.modules() if isinstance(part, ConvUnit)]:
        norm: Any = unit.norm
        conv: Any = unit.conv
        if type(norm) in _NORMS and type(conv) in _CONVOLUTIONS and not norm.training and norm.track_running_stats:
            unit.conv = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, _TRANSPOSED))
            unit.norm = nn.Identity()
            folded += 1
    return folded
