"""Logits as a random variable: the uncertainty that lies in the labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semiseg.ingredients.class_sums import full_precision
from semiseg.networks.blocks import CONVOLUTION

LEAST = 1e-5
"""Added to the variance of every logit."""
LARGEST = 80.0
"""Of the logarithm of a variance; exp(89) is infinite in single precision, and NaN where it is masked."""


class AleatoricHead(nn.Module):
    """Cross-entropy of random logits whose mean and covariance follow from features.

    The covariance of all logits of a patch is F F^T + D, D diagonal, F of low rank; outside of the labelled foreground
    F is zero and D as small as can be. The loss is a plain mean over samples, which come in pairs about the mean.
    Sources: Monteiro et al., NeurIPS 2020 (there the mean is within the logarithm); grant-jpg/FUSSNet.

    Args:
        channels, classes: of the features, and of the logits.
        rank: columns of F.
    """

    def __init__(self, channels: int, classes: int, spatial_dims: int, rank: int) -> None:
        super().__init__()
        conv = CONVOLUTION[spatial_dims]
        self.classes, self.rank = classes, rank
        self.mean, self.log_diagonal = (conv(channels, classes, 1) for _ in range(2))
        self.factor = conv(channels, rank * classes, 1)

    def forward(self, features: Tensor, labels: Tensor, pairs: int) -> Tensor:
        """Loss of `pairs` pairs of samples.

        Args:
            features: `[B, channels, *S]`, of which the ReLU is taken.
            labels: `[B, *S]`.
        """
        mean, diagonal, factor = self.distribution(features, labels)
        common = torch.randn(pairs, len(mean), self.rank, dtype=mean.dtype, device=mean.device)
        single = torch.randn(pairs, *mean.shape, dtype=mean.dtype, device=mean.device)
        return sampled_cross_entropy(mean, diagonal, factor, labels, common, single)

    def distribution(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and D `[B, C, *S]`, and F `[B, rank, C, *S]`."""
        x = torch.relu(features)
        mean, log_diagonal, factor = (full_precision(layer(x)) for layer in (self.mean, self.log_diagonal, self.factor))
        inside = (labels > 0).unsqueeze(1)
        diagonal = (log_diagonal.clamp(max=LARGEST).exp() + LEAST) * inside + LEAST
        columns = factor.view(len(x), self.rank, self.classes, *x.shape[2:])
        return mean, diagonal, columns * inside.unsqueeze(2)


def sampled_cross_entropy(
    mean: Tensor, diagonal: Tensor, factor: Tensor, labels: Tensor, common: Tensor, single: Tensor
) -> Tensor:
    """Mean cross-entropy of mean + e and mean - e over all e = F w + sqrt(D) v.

    Args:
        mean, diagonal: `[B, C, *S]`.
        factor: F, `[B, rank, C, *S]`.
        labels: `[B, *S]`.
        common: w, `[pairs, B, rank]`, standard normal.
        single: v, `[pairs, B, C, *S]`, standard normal.
    """
    root, found = diagonal.sqrt(), []
    for w, v in zip(common, single, strict=True):
        e = (w.view(*w.shape, *(1,) * (factor.ndim - 2)) * factor).sum(1) + root * v
        found += [F.cross_entropy(mean + e, labels), F.cross_entropy(mean - e, labels)]
    return torch.stack(found).mean()
