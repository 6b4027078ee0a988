"""Losses of the official training loops."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def supervised(logits: Tensor, labels: Tensor) -> Tensor:
    """HiLab-git/SSL4MIS: half of cross-entropy + Dice with squares, over all classes."""
    p, classes = torch.softmax(logits, 1), logits.shape[1]
    dice = torch.zeros(())
    for c in range(classes):
        target = (labels == c).float()
        overlap = torch.sum(p[:, c] * target)
        dice = dice + 1 - (2 * overlap + 1e-5) / (torch.sum(p[:, c] ** 2) + torch.sum(target * target) + 1e-5)
    return 0.5 * (F.cross_entropy(logits, labels) + dice / classes)


def sample_supervised(logits: Tensor, labels: Tensor) -> Tensor:
    """SongwuJob/CML: half of cross-entropy + Dice of every sample and class."""
    p, classes = torch.softmax(logits, 1), logits.shape[1]
    ratios = []
    for n in range(len(logits)):
        for c in range(classes):
            target = (labels[n] == c).float()
            ratios.append((2 * torch.sum(p[n, c] * target) + 1e-5) / (torch.sum(p[n, c]) + torch.sum(target) + 1e-5))
    return 0.5 * (F.cross_entropy(logits, labels) + 1 - torch.stack(ratios).mean())


def foreground_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """UA-MT and LeFeD: Dice with squares of class 1."""
    q, y = torch.softmax(logits, 1)[:, 1], (labels == 1).float()
    return 1 - (2 * torch.sum(q * y) + 1e-5) / (torch.sum(q * q) + torch.sum(y * y) + 1e-5)


def batch_dice(p: Tensor, y: Tensor) -> Tensor:
    """DuCiSC: Dice of two maps."""
    return 1 - (2 * torch.sum(p * y) + 1e-8) / (torch.sum(p) + torch.sum(y) + 1e-8)


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """CML: 1 + mean cosine of channel vectors, no gradient to the second."""
    return 1 + F.cosine_similarity(F.normalize(a, dim=1), F.normalize(b.detach(), dim=1), dim=1, eps=1e-6).mean()
