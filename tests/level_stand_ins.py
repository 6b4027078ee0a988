"""Networks that give prescribed logits and features at all decoder levels, one set per call."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from semiseg.methods.base import Method, Task, entry
from semiseg.methods.ducisc.mixing import Mixup
from semiseg.networks.base import Network, Tap
from stand_ins import leaf, tensor

Given = tuple[list[Tensor], list[Tensor]]


class LevelStandIn(Network):
    """Answers its calls in turn with logits and features per level, coarse to fine; the last logits are the head's."""

    def __init__(self, *answers: Given) -> None:
        super().__init__()
        self.answers, self.seen = list(answers), []
        logits, features = answers[0]
        self.taps = {f"dec{k}": Tap(f.shape[1], (1,) * (f.ndim - 2)) for k, f in enumerate(features, 1)}
        self.taps |= {f"head{k}": Tap(z.shape[1], (1,) * (z.ndim - 2)) for k, z in enumerate(logits[:-1], 1)}
        self.divisor = (1,) * (logits[-1].ndim - 2)
        self.dummy = nn.Parameter(torch.zeros(1))

    def forward(self, x, taps=(), *, dropout=None):
        logits, features = self.answers[len(self.seen) % len(self.answers)]
        self.seen.append(x)
        named = {f"head{k}": z for k, z in enumerate(logits, 1)} | {f"dec{k}": f for k, f in enumerate(features, 1)}
        return (logits[-1], {name: named[name] for name in taps}) if taps else logits[-1]


def levels_of(file: dict[str, np.ndarray], key: str) -> list[str]:
    """Keys `key/0 ...` in order."""
    count = len({name for name in file if name.startswith(f"{key}/")})
    return [f"{key}/{level}" for level in range(count)]


def logits_of(file: dict[str, np.ndarray], key: str) -> list[Tensor]:
    return [leaf(file[name]) for name in levels_of(file, key)]


def features_of(file: dict[str, np.ndarray], key: str) -> list[Tensor]:
    """Coarse to fine, though the file has them the other way round."""
    return [leaf(file[name]) for name in levels_of(file, key)][::-1]


class DuciscCase:
    """One case of the files through the method's own step."""

    PASSES = ("lab", "unl", "mix")

    def __init__(self, file: dict[str, np.ndarray], case: str, **options: object) -> None:
        self.file, self.case = file, case
        self.logits = {name: logits_of(file, f"{case}/logits_{name}") for name in (*self.PASSES, "teacher")}
        self.features = {name: features_of(file, f"{case}/feat_{name}") for name in self.PASSES}
        self.classes = self.logits["lab"][0].shape[1]
        self.method = self._method(options).double()
        self.sigma = tensor(file[f"{case}/sigma"])
        self.method.mixer = GivenShare(self.sigma)

    def _method(self, options: dict[str, object]) -> Method:
        passes = [(self.logits[name], self.features[name]) for name in self.PASSES]
        nets = iter([LevelStandIn(*passes), LevelStandIn((self.logits["teacher"], self.features["unl"]))])
        dims = self.logits["lab"][0].ndim - 2
        task = Task(self.classes, 1, dims, (1,) * self.classes)
        return entry("ducisc-official").build(options, task, lambda **_: next(nets))

    def array(self, key: str) -> np.ndarray:
        return self.file[f"{self.case}/{key}"]


class GivenShare(Mixup):
    """Mixup with the ratios of the file."""

    def __init__(self, share: Tensor) -> None:
        self.share = share

    def draw(self, labels: Tensor) -> Tensor:
        return self.share.view(-1, *(1,) * labels.ndim)
