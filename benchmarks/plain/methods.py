"""Training steps: each class has its networks and optimiser, and `step(images, labels)`, labelled patches first.

Sources: HiLab-git/SSL4MIS (mean teacher, CPS), arXiv:2503.14013 (MICD), ShanghaiTech-IMPACT/DuCiSC, SongwuJob/CML,
maxwell0027/LeFeD. Ramps and warm-ups are at their end, where a run spends most of its time.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from plain.losses import batch_dice, foreground_dice, sample_supervised, similarity, supervised
from plain.networks import LeFeDNet, VNet


def sgd(*nets: nn.Module) -> torch.optim.SGD:
    """The papers' optimiser."""
    parameters = [p for net in nets for p in net.parameters()]
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-4)


def follow(teacher: nn.Module, student: nn.Module, step: int, decay: float = 0.99) -> None:
    """Moving average of the parameters."""
    alpha = min(1 - 1 / (step + 1), decay)
    for of_teacher, of_student in zip(teacher.parameters(), student.parameters(), strict=True):
        of_teacher.data.mul_(alpha).add_(of_student.data, alpha=1 - alpha)


def frozen(net: nn.Module) -> nn.Module:
    """Without gradient."""
    for parameter in net.parameters():
        parameter.detach_()
    return net


class Plain:
    """What the loops have in common."""

    nets: list[nn.Module]
    optimiser: torch.optim.Optimizer

    def __init__(self) -> None:
        self.count = 0

    def update(self, loss: Tensor) -> float:
        """Backward and optimiser step; the loss as a number, for the log."""
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()


class Supervised(Plain):
    """Labelled patches alone."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.net = VNet(dropout=dropout)
        self.nets, self.optimiser = [self.net], sgd(self.net)

    def step(self, images: Tensor, labels: Tensor) -> float:
        n = len(labels)
        return self.update(supervised(self.net(images[:n]).logits, labels))


class MeanTeacher(Plain):
    """SSL4MIS, 3D."""

    def __init__(self, dropout: float = 0.5, noise: float = 0.1) -> None:
        super().__init__()
        self.noise = noise
        self.student, self.teacher = VNet(dropout=dropout), frozen(VNet(dropout=dropout))
        self.nets, self.optimiser = [self.student, self.teacher], sgd(self.student)

    def step(self, images: Tensor, labels: Tensor) -> float:
        n = len(labels)
        unlabelled = images[n:]
        noise = torch.clamp(torch.randn_like(unlabelled) * self.noise, -0.2, 0.2)
        logits = self.student(images).logits
        with torch.no_grad():
            target = torch.softmax(self.teacher(unlabelled + noise).logits, 1)
        loss_supervised = supervised(logits[:n], labels)
        consistency = torch.mean((torch.softmax(logits[n:], 1) - target) ** 2)
        value = self.update(loss_supervised + 0.1 * consistency)
        follow(self.teacher, self.student, self.count)
        self.count += 1
        return value


class CPS(Plain):
    """SSL4MIS, 3D."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.a, self.b = VNet(dropout=dropout), VNet(dropout=dropout)
        self.nets, self.optimiser = [self.a, self.b], sgd(self.a, self.b)

    def step(self, images: Tensor, labels: Tensor) -> float:
        n = len(labels)
        a, b = self.a(images).logits, self.b(images).logits
        by_a = torch.argmax(torch.softmax(a[n:], 1).detach(), dim=1)
        by_b = torch.argmax(torch.softmax(b[n:], 1).detach(), dim=1)
        loss = supervised(a[:n], labels) + supervised(b[:n], labels)
        return self.update(loss + 0.1 * (F.cross_entropy(a[n:], by_b) + F.cross_entropy(b[n:], by_a)))


class MICD(Plain):
    """Masked image consistency and discrepancy; clean labels teach the masked view."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.a, self.b = VNet(dropout=dropout), VNet(dropout=dropout)
        self.teacher_a, self.teacher_b = frozen(deepcopy(self.a)), frozen(deepcopy(self.b))
        for teacher in (self.teacher_a, self.teacher_b):
            teacher.dropout.p = 0.0
        self.nets = [self.a, self.b, self.teacher_a, self.teacher_b]
        self.optimiser = sgd(self.a, self.b)

    def step(self, images: Tensor, labels: Tensor) -> float:
        n = len(labels)
        masked = images * self.mask(images)
        a, b = self.a(images), self.b(images)
        with torch.no_grad():
            target_a = torch.argmax(self.teacher_a(images).logits, 1)
            target_b = torch.argmax(self.teacher_b(images).logits, 1)
        self.momentum(0.0)
        masked_a, masked_b = self.a(masked).logits, self.b(masked).logits
        self.momentum(0.1)
        by_a, by_b = torch.argmax(a.logits.detach(), 1), torch.argmax(b.logits.detach(), 1)
        loss = supervised(a.logits[:n], labels) + supervised(b.logits[:n], labels)
        cross = F.cross_entropy(masked_a, by_b) + F.cross_entropy(masked_b, by_a)
        discrepancy = F.cross_entropy(masked_a, target_a) + F.cross_entropy(masked_b, target_b)
        features = torch.zeros(())
        for k, (of_a, of_b) in enumerate(zip(a.stages, b.stages, strict=True), start=1):
            log_p, log_q = F.log_softmax(of_a, 1), F.log_softmax(of_b, 1)
            features = features + 0.2 * k * torch.sum(torch.exp(log_p) * (log_p - log_q), 1).mean()
        value = self.update(loss + cross + 0.01 * features + discrepancy)
        follow(self.teacher_a, self.a, self.count)
        follow(self.teacher_b, self.b, self.count)
        self.count += 1
        return value

    def mask(self, images: Tensor, ratio: float = 0.5, side: int = 3) -> Tensor:
        """Blocks that stay, one mask per sample."""
        shape = images.shape[2:]
        keep = (torch.rand(len(images), *[-(-s // side) for s in shape]) >= ratio).float()
        for axis in range(3):
            keep = keep.repeat_interleave(side, axis + 1)
        return keep[:, None, : shape[0], : shape[1], : shape[2]]

    def momentum(self, value: float) -> None:
        """Masked passes leave the running statistics alone."""
        for net in (self.a, self.b):
            for module in net.modules():
                if isinstance(module, nn.BatchNorm3d):
                    module.momentum = value


class DuCiSC(Plain):
    """ShanghaiTech-IMPACT/DuCiSC after its warm-up, two classes."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.student, self.teacher = VNet(dropout=dropout, deep=True), frozen(VNet(dropout=dropout, deep=True))
        self.nets, self.optimiser = [self.student, self.teacher], sgd(self.student)
        self.thresholds = torch.full((2, 4), 0.5)

    def step(self, images: Tensor, labels: Tensor) -> float:
        n = len(labels)
        labelled, unlabelled = images[:n], images[n:]
        of_labelled = self.student(labelled)
        logits_l = [*of_labelled.sides, of_labelled.logits]
        labels_l = [self.nearest(labels, z) for z in logits_l]
        with torch.no_grad():
            of_teacher = self.teacher(unlabelled)
            q = [torch.softmax(z, 1) for z in (*of_teacher.sides, of_teacher.logits)]
        pseudo = [torch.argmax(p, 1) for p in q]
        certain = [self.certain(p, level) for level, p in enumerate(q)]
        seen = self.student(unlabelled)
        logits_u = [*seen.sides, seen.logits]
        share = (0.25 + 0.5 * torch.rand(len(unlabelled), 4))[:, 0]
        x_share = share.view(-1, 1, 1, 1, 1)
        mixed = x_share * labelled + (1 - x_share) * unlabelled
        soft = x_share[:, 0] * labels.float() + (1 - x_share[:, 0]) * pseudo[3].float()
        of_mixed = self.student(mixed)
        logits_m = [*of_mixed.sides, of_mixed.logits]
        soft_m = [F.interpolate(soft[:, None], size=z.shape[2:], mode="trilinear")[:, 0] for z in logits_m]
        terms = [
            (1.0, self.mean([self.hard(z, y) for z, y in zip(logits_l, labels_l, strict=True)])),
            (0.3, self.mean([self.hard(z, y, m) for z, y, m in zip(logits_u, pseudo, certain, strict=True)])),
            (0.1, self.mean([self.soft(z, y, m) for z, y, m in zip(logits_m, soft_m, certain, strict=True)])),
            (0.1, self.prototypes(of_labelled.sums, labels_l, seen.sums, pseudo)),
            (0.1, self.prototypes(of_labelled.sums, labels_l, of_mixed.sums, soft_m)),
        ]
        total = torch.zeros(())
        for weight, term in terms:
            if not torch.isnan(term) and term.item() != 0:
                total = total + weight * term / term.detach()
        self.adapt(logits_u, pseudo)
        value = self.update(total)
        follow(self.teacher, self.student, self.count)
        self.count += 1
        return value

    def nearest(self, labels: Tensor, like: Tensor) -> Tensor:
        """Labels at the size of a level."""
        return F.interpolate(labels[:, None].float(), size=like.shape[2:], mode="nearest")[:, 0].long()

    def certain(self, q: Tensor, level: int) -> Tensor:
        """Voxels that are above the threshold of their class."""
        return torch.max(q, 1).values > self.thresholds[:, level][torch.argmax(q, 1)]

    def mean(self, losses: list[Tensor]) -> Tensor:
        """Over levels."""
        return torch.stack(losses).mean()

    def hard(self, z: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Half of cross-entropy + Dice on chosen voxels."""
        p = torch.softmax(z, 1)[:, 1]
        cross = F.cross_entropy(z, y, reduction="none")
        if mask is None:
            return (cross.mean() + batch_dice(p, y.float())) / 2
        return (cross[mask].mean() + batch_dice(p[mask], y[mask].float())) / 2

    def soft(self, z: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """The same for the share of the foreground, with the divergence per voxel and class."""
        target = torch.stack([1 - y, y], 1)
        kl = F.kl_div(F.log_softmax(z, 1), target, reduction="none").mean(1)
        return (kl[mask].mean() + batch_dice(torch.softmax(z, 1)[:, 1][mask], y[mask])) / 2

    def prototypes(self, a: list[Tensor], of_a: list[Tensor], b: list[Tensor], of_b: list[Tensor]) -> Tensor:
        """Squared distance of mean features, over levels without an absent class."""
        parts = []
        for fa, ya, fb, yb in zip(a, of_a, b, of_b, strict=True):
            gap = []
            for c in (0, 1):
                ma, mb = (y.float() if c else 1 - y.float() for y in (ya, yb))
                gap.append(self.prototype(fa, ma) - self.prototype(fb, mb))
            part = torch.stack(gap).pow(2).mean()
            if not torch.isnan(part):
                parts.append(part)
        return torch.stack(parts).mean() if parts else torch.zeros(())

    def prototype(self, features: Tensor, mask: Tensor) -> Tensor:
        """Masked mean per image, then over images."""
        mask = mask[:, None]
        return (torch.sum(features * mask, (2, 3, 4)) / torch.sum(mask, (2, 3, 4))).mean(0)

    @torch.no_grad()
    def adapt(self, logits: list[Tensor], pseudo: list[Tensor]) -> None:
        """Thresholds follow the student."""
        for level, (z, y) in enumerate(zip(logits, pseudo, strict=True)):
            p = torch.softmax(z, 1)
            for c in (0, 1):
                if (y == c).any():
                    average = p[:, c][y == c].mean().item()
                    old = self.thresholds[c, level].item()
                    self.thresholds[c, level] = min(0.95, max(0.5, 0.99 * old + 0.01 * average))


class CML(Plain):
    """SongwuJob/CML, self-training on the left atrium."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.a, self.b = VNet(dropout=dropout), VNet(dropout=dropout, upsampling="trilinear")
        self.nets, self.optimiser = [self.a, self.b], sgd(self.a, self.b)

    def step(self, images: Tensor, labels: Tensor) -> float:
        n = len(labels)
        half = n // 2
        unlabelled = images[n:]
        mask = self.box(images)
        mixed = images[:half] * mask + images[half:n] * (1 - mask)
        target = labels[:half] * mask.long() + labels[half:n] * (1 - mask.long())
        a, b = self.a(mixed), self.b(mixed)
        with torch.no_grad():
            by_a, by_b = self.labels(self.a(unlabelled).logits), self.labels(self.b(unlabelled).logits)
        mask = self.box(images)
        both = unlabelled[:half] * mask + unlabelled[half:] * (1 - mask)
        whole = mask.long()
        target_a = by_b[:half] * whole + by_a[half:] * (1 - whole)
        target_b = by_a[:half] * whole + by_b[half:] * (1 - whole)
        u_a, u_b = self.a(both), self.b(both)
        loss = sample_supervised(a.logits, target) + sample_supervised(b.logits, target)
        loss_u = sample_supervised(u_a.logits, target_a) + sample_supervised(u_b.logits, target_b)
        apart = torch.zeros(())
        for one, other in ((a, b), (b, a), (u_a, u_b), (u_b, u_a)):
            apart = apart + similarity(one.bottleneck, other.bottleneck)
        return self.update(loss + loss_u + 0.2 * apart)

    def box(self, images: Tensor) -> Tensor:
        """1 outside of a box of two thirds of the sides."""
        mask = torch.ones(images.shape[2:])
        slices = []
        for size in images.shape[2:]:
            side = int(size * 2 / 3)
            start = int(torch.randint(size - side, ()))
            slices.append(slice(start, start + side))
        mask[tuple(slices)] = 0
        return mask

    def labels(self, logits: Tensor) -> Tensor:
        """Largest component of the foreground."""
        found = (torch.softmax(logits, 1)[:, 1] >= 0.5).cpu().numpy()
        for n, volume in enumerate(found):
            components, count = ndimage.label(volume, np.ones((3, 3, 3)))
            if count:
                found[n] = components == np.bincount(components.ravel())[1:].argmax() + 1
        return torch.from_numpy(found).long().to(logits.device)


class LeFeD(Plain):
    """maxwell0027/LeFeD with the paper's losses; each batch is presented three times."""

    def __init__(self, dropout: tuple[float, float] = (0.3, 0.5)) -> None:
        super().__init__()
        self.net = LeFeDNet(dropout=dropout)
        self.nets, self.optimiser = [self.net], sgd(self.net)

    def step(self, images: Tensor, labels: Tensor) -> float:
        n = len(labels)
        feedback: list[Tensor] = []
        value = 0.0
        for _ in range(3):
            a, b, taps_a, taps_b, sides = self.net(images, feedback)
            feedback = [1e-3 * (x.detach() - y.detach()) for x, y in zip(taps_a, taps_b, strict=True)]
            loss = foreground_dice(a[:n], labels) + F.cross_entropy(b[:n], labels)
            for weight, side in zip((0.8, 0.6, 0.4, 0.2, 0.1), sides, strict=True):
                loss = loss + weight * foreground_dice(side[:n], labels)
            loss = loss + torch.mean((torch.softmax(a, 1) - torch.softmax(b, 1)) ** 2)
            value = self.update(loss)
        return value


METHODS = {
    "supervised": Supervised,
    "mean_teacher": MeanTeacher,
    "cps": CPS,
    "micd": MICD,
    "ducisc": DuCiSC,
    "cml": CML,
    "lefed": LeFeD,
}
