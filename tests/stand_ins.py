"""Networks and class weights that answer with given values, so that a method's own step can be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_weights import ClassWeights
from semiseg.methods.base import Clock, Loss, Method, Task, entry
from semiseg.networks.base import Network, Tap


def tensor(array: np.ndarray, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.array(array)).to(dtype)


def leaf(array: np.ndarray, dtype: torch.dtype = torch.float64) -> Tensor:
    return tensor(array, dtype).requires_grad_()


def labels(array: np.ndarray, channel: bool = False) -> Tensor:
    """Class indices; `channel`: the file has a channel axis of size one after the batch axis."""
    found = tensor(array, torch.long)
    return found.squeeze(1) if channel else found


def counts(array: np.ndarray, classes: int) -> tuple[int, ...]:
    return tuple(np.bincount(np.asarray(array).ravel().astype(int), minlength=classes).tolist())


class StandIn(Network):
    """Gives `clean` logits, or `masked` ones for an image with hidden (zero) voxels; features are taps dec1 ..."""

    def __init__(self, clean: Tensor, masked: Tensor | None = None, features: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.clean, self.masked, self.features = clean, masked, features
        self.seen: list[Tensor] = []
        self.taps = {f"dec{k}": Tap(f.shape[1], (1,) * (f.ndim - 2)) for k, f in enumerate(features, 1)}
        self.divisor = (1,) * (clean.ndim - 2)
        self.dummy = nn.Parameter(torch.zeros(1))

    def forward(self, x, taps=(), *, dropout=None):
        self.seen.append(x)
        logits = self.masked if self.masked is not None and bool((x == 0).any()) else self.clean
        return (logits, {name: self.features[int(name[3:]) - 1] for name in taps}) if taps else logits


class GivenWeights(ClassWeights):
    """Class weights from a file."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def update(self, predicted: Tensor, labels: Tensor) -> Tensor:
        return self.weight


def make_method(name: str, shape: Sequence[int], class_voxels: Sequence[int] = (), **options: object) -> Method:
    """A method for logits of `shape` `[B, C, *S]`, whose networks are to be replaced by the caller."""
    classes = shape[1]
    task = Task(classes, 1, len(shape) - 2, tuple(class_voxels) or (1,) * classes)
    return entry(name).build(options, task, lambda **_: StandIn(torch.zeros(*shape)))


def clock(step: int = 0, steps: int = 100, epoch: int = 0, epochs: int = 10) -> Clock:
    return Clock(step, steps, epoch, epochs)


def loss_of(method: Method, batch, at: Clock | None = None) -> Loss:
    """The method's single loss for `batch`, before the code after its `yield`."""
    return next(method.step(batch, at or clock()))


def close(actual: object, expected: object, rtol: float, atol: float = 0.0, equal_nan: bool = False) -> None:
    actual, wanted = (
        (value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))).double()
        for value in (actual, expected)
    )
    torch.testing.assert_close(actual, wanted, rtol=rtol, atol=atol, equal_nan=equal_nan)


def lengths(values: dict[str, np.ndarray], pattern: str) -> dict[int, np.ndarray]:
    """Arrays whose key matches `pattern`, by the number in its group."""
    return {int(found[1]): values[key] for key in values if (found := re.fullmatch(pattern, key))}


def run_pair_step(
    method: Method, g: Mapping[str, np.ndarray], step: int, prefix: str = ""
) -> tuple[Loss, list[Tensor]]:
    """Loss of a method with two networks `nets` for step `step` of a golden file, and the gradients of their logits.

    The file holds `logits_a`, `logits_b` `[steps, B, C, *S]` and `labels` `[steps, n, 1, *S]`.
    """
    nets = [StandIn(leaf(g[f"{prefix}logits_{name}"][step], torch.float32)) for name in "ab"]
    for index, net in enumerate(nets):
        method.nets[index] = net  # type: ignore[index, operator]
    target = labels(g[f"{prefix}labels"][step], channel=True)
    assert len(target) == int(g["n_labelled"])
    shape = nets[0].clean.shape
    loss = loss_of(method, Batch(torch.ones(shape[0], 1, *shape[2:]), target), clock(step))
    loss.total.backward()
    return loss, [net.clean.grad for net in nets]


class InTurn(StandIn):
    """Gives its logits one after the other, one entry a call."""

    def __init__(self, *logits: Tensor) -> None:
        super().__init__(logits[0])
        self.logits = logits

    def forward(self, x, taps=(), *, dropout=None):
        self.clean = self.logits[len(self.seen) % len(self.logits)]
        return super().forward(x, taps, dropout=dropout)
