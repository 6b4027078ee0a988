"""What a method is: a module whose `step` is a generator of losses.

The engine does backward and the optimiser step at every `yield`; the code after a `yield` (teacher updates, memory
writes) runs next. Reading order is execution order, and no method sees a trainer, a file, a device or a logger.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from string import ascii_lowercase
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from semiseg.batches.batch import Batch
from semiseg.errors import find
from semiseg.ingredients.ensemble import ensemble_probabilities
from semiseg.networks.base import Network, Tap
from semiseg.validation import parse

StageStart = Literal["last", "best", "anew"]
RefreshAt = Literal["never", "epoch", "stage"]
MethodPrecision = Literal["any", "fp32"]


@dataclass(frozen=True)
class Clock:
    """Where the training stands: `step` of `steps` (from 0), `epoch` of `epochs`, and the name of the stage.

    An epoch is one pass over the unlabelled cases (over the labelled ones when there are no others), unless the run
    says how many steps it has.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    stage: str = "main"


@dataclass(frozen=True)
class Task:
    """What is segmented: everything that a method may know of the data before the first batch.

    Attributes:
        classes: number of classes, background included.
        channels: number of image channels.
        spatial_dims: 2 or 3.
        class_voxels: voxels per class over all full labelled scans, background first.
        unlabelled: number of unlabelled cases.
        steps: training steps of the run, from which windows of averages follow; 0: unknown.
        one_piece: per class, background first, whether it is a single component in the labelled scans; empty where the
            method does not ask (`MethodConfig.asks_for_pieces`).
    """

    classes: int
    channels: int
    spatial_dims: int
    class_voxels: tuple[int, ...]
    unlabelled: int = 0
    steps: int = 0
    one_piece: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Loss:
    """Named scalar terms, their weights, and the parameter group that they train.

    A term without an entry in `weights` has weight 1; a term whose weight is the number 0 is logged alone. Without
    `update` the gradients are kept and those of the next loss of the step are added, so that a sum of losses needs the
    memory of the largest of them; the optimiser steps at the first loss with `update`, which is of the same group.
    """

    terms: Mapping[str, Tensor]
    weights: Mapping[str, float | Tensor] = field(default_factory=dict)
    group: str = "main"
    update: bool = True

    @property
    def weightless(self) -> tuple[str, ...]:
        """Names of the terms whose weight is the number 0; to look at one that is a tensor would make the host wait."""
        weights = {name: self.weights.get(name, 1.0) for name in self.terms}
        return tuple(name for name, weight in weights.items() if not isinstance(weight, Tensor) and weight == 0)

    @property
    def total(self) -> Tensor:
        """Weighted sum of the terms, a scalar with gradient; 0 where all weights are.

        Weightless terms are not in it: 0 times what is not finite is not finite, nor is its gradient.
        """
        kept = [name for name in self.terms if name not in self.weightless]
        parts = [self.weights.get(name, 1.0) * self.terms[name] for name in kept]
        return torch.stack(parts).sum() if parts else torch.zeros((), requires_grad=True)


@dataclass(frozen=True)
class OwnOptimiser:
    """Adam without weight decay, at a constant rate, for a parameter group that does not train as the run does."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass(frozen=True)
class Stage:
    """One stage of a method.

    Attributes:
        name: what `Clock.stage` says during it.
        share: its share of all training steps; a stage without steps is left out.
        at_least: steps that it takes of a short run, though never more than half of it.
        schedule: what the learning-rate schedule counts: the steps of the whole `run`, or those of the `stage`;
            `constant` keeps the base rate.
        start: weights, state and optimisers that it starts with: those at the end of the stage before it (`last`), or
            that stage's `best` ones by validation, in runs that select by validation; `anew` is `last` with optimisers
            that have forgotten their moments. Which weights a run keeps as its best is decided in the last stage alone.
    """

    name: str
    share: float
    schedule: Literal["run", "stage", "constant"] = "run"
    start: StageStart = "last"
    at_least: int = 0


@dataclass(frozen=True)
class Tiles:
    """Windows of an unlabelled scan as it is, without augmentation, that together show all of it.

    Attributes:
        images: `[B, channels, *S]`.
        counted: `[B, *S]`, True at voxels of the scan that no window before has shown; False in the padding.
    """

    images: Tensor
    counted: Tensor


class NetworkBuilder(Protocol):
    """Makes a network of the run's architecture.

    Keywords override single options (`init="xavier"`), and `network="lefed"` asks for a form made of the architecture,
    see `semiseg.networks.build_network`.
    """

    def __call__(self, **overrides: Any) -> Network: ...


class Predicting(Protocol):
    """A network that predicts, or something that answers like one: a teacher, or past students."""

    @property
    def taps(self) -> Mapping[str, Tap]: ...
    def __call__(self, images: Tensor, /) -> Tensor: ...
    def tapped(self, images: Tensor, taps: tuple[str, ...], /) -> tuple[Tensor, dict[str, Tensor]]: ...


class MethodConfig(BaseModel):
    """Options of a method: typed, bounded, documented fields whose defaults are the sheet's recommendations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def smallest_batch(self) -> tuple[int, int]:
        """Labelled and unlabelled patches that one process needs for a step; methods that mix images need partners."""
        return 1, 0

    def asks_for_pieces(self) -> bool:
        """Whether the method wants `Task.one_piece`, for which the labelled scans are walked through once."""
        return False


class Method(nn.Module, ABC):
    """A way to train on labelled and unlabelled patches. Abstract; each paper is one final class.

    State that must survive a restart is a parameter, a buffer, or in `extra_state`; nothing else is state.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    config: MethodConfig
    """The options; a class with options of its own says `config: Config`."""
    uses_unlabelled: ClassVar[bool] = True
    precision: ClassVar[MethodPrecision] = "any"
    """What its arithmetic needs: `fp32`, where small terms added to large ones would be rounded away in bf16."""

    def __init__(self, config: MethodConfig, task: Task, build: NetworkBuilder) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        """Losses of one batch, in the order in which the optimisers shall step."""

    def predictors(self) -> Sequence[Predicting]:
        """The networks that predict, of which others may ask features; every method names at least one."""
        return ()

    def networks(self) -> dict[str, Predicting]:
        """Every network that could predict, by name (`net`, `student`, `teacher`, `subnet_a`); validation scores each.

        By default those that the method holds, one letter for each of a list of them.
        """
        found: dict[str, Any] = {}
        for name, module in self.named_children():
            if isinstance(module, nn.ModuleList):
                one = name.removesuffix("s")
                found |= {f"{one}_{letter}": each for letter, each in zip(ascii_lowercase, module, strict=False)}
            else:
                found[name] = module
        return {name: module for name, module in found.items() if hasattr(module, "tapped")}

    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities `[B, C, *S]` of `images` `[B, channels, *S]`; called in eval mode, no gradient.

        Softmax of the mean logits of the `predictors`, unless a method says otherwise.
        """
        return ensemble_probabilities(self.predictors(), images)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Trained parameters by optimiser group; `main` holds all of them unless a method says otherwise."""
        return {"main": [p for p in self.parameters() if p.requires_grad]}

    def optimisers(self) -> Mapping[str, OwnOptimiser]:
        """Optimisers of groups that have one of their own, such as discriminators; the others have the run's."""
        return {}

    def stages(self) -> tuple[Stage, ...]:
        """Stages in order; their shares sum to one."""
        return (Stage("main", 1.0),)

    def refresh_at(self) -> RefreshAt:
        """When `refresh` is called: never, or before the first step of every epoch or of every stage."""
        return "never"

    def refresh(self, pool: Iterable[Tiles], clock: Clock) -> None:
        """Learn something of all unlabelled scans; called in eval mode, without gradient, before the step of `clock`.

        Every process walks through its own share of the scans, so sums over them are sums over processes. Random
        numbers are the same on all processes. A pool that is not walked through costs nothing.
        """

    def observations(self) -> dict[str, Tensor]:
        """Small tensors worth logging besides the loss terms (class weights, thresholds), read every few steps."""
        return {}

    def extra_state(self) -> dict[str, Any]:
        """State that is neither parameter nor buffer, as JSON values."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""


@dataclass(frozen=True)
class Entry:
    """A registered method: its class, where it comes from, and option values that differ from the class's defaults.

    Attributes:
        paper: `arXiv:...` or `doi:...`; the venue and year of a paper that has neither.
        title: of the paper.
    """

    name: str
    cls: type[Method]
    paper: str
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def link(self) -> str:
        """Address of the paper; empty where it has none that lasts."""
        kind, _, number = self.paper.partition(":")
        return f"{_PAPERS[kind]}{number}" if kind in _PAPERS else ""

    def configure(self, options: Mapping[str, Any]) -> MethodConfig:
        """The method's configuration with `options` set.

        Raises:
            InputError: an option is unknown or out of bounds; all are named.
        """
        return parse(self.cls.Config, {**self.options, **options}, f"options of {self.name}")

    def build(self, options: Mapping[str, Any], task: Task, build: NetworkBuilder) -> Method:
        """The method with `options` set; raises as `configure` does."""
        return self.cls(self.configure(options), task, build)

    def too_few(self, options: Mapping[str, Any], labelled: int, unlabelled: int, processes: int) -> list[str]:
        """What is wrong with a step of so many patches, and what to set: a process would have too few of a kind.

        Patches of a kind that there are none of (or that are not known yet), 0, are not asked for.
        """
        kinds = ("labelled", "unlabelled")
        each = zip(kinds, (labelled, unlabelled), self.configure(options).smallest_batch(), strict=True)
        return [
            f"batch.{kind}: {self.name} mixes images with each other and needs {least} {kind} patches or more "
            f"{'in each process' if processes > 1 else 'per step'}, came {count}: set "
            f"batch.{kind}={least * processes}, or take another method"
            for kind, count, least in each
            if 0 < count < least * processes
        ]


_REGISTRY: dict[str, Entry] = {}
_PAPERS = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
_IDENTIFIER = re.compile(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4,9}/\S+")
M = TypeVar("M", bound=Method)


def register(
    name: str, *, title: str, paper: str = "", citation: str = "", options: Mapping[str, Any] | None = None
) -> Callable[[type[M]], type[M]]:
    """Class decorator that makes a method known under `name`.

    A class may be registered again under another name with other `options`, as a variant.

    Args:
        title: of the paper.
        paper: `arXiv:2503.14013` or `doi:10.1007/978-3-031-43898-1_56`.
        citation: venue and year, for a paper that has neither.

    Raises:
        ValueError: `paper` is none of both forms, or neither or both of `paper` and `citation` are given.
    """
    if bool(paper) == bool(citation) or (paper and not _IDENTIFIER.fullmatch(paper)):
        raise ValueError(f"{name}: expected paper='arXiv:...' or 'doi:10...', or else a citation, came {paper!r}")

    def add(cls: type[M]) -> type[M]:
        if name in _REGISTRY:
            raise ValueError(f"two methods are called {name!r}")
        _REGISTRY[name] = Entry(name, cls, paper or citation, title, options or {})
        return cls

    return add


def registry() -> dict[str, Entry]:
    """All registered methods by name, in alphabetical order."""
    import_module("semiseg.methods")  # registers every method file
    return dict(sorted(_REGISTRY.items()))


def entry(name: str) -> Entry:
    """The method called `name`.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    return find("method", name, registry())
