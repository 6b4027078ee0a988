"""Modes of executing networks and losses: memory layout, compilation, CUDA graphs; and their seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from semiseg.ingredients.consistency import probability_mse
from semiseg.ingredients.features import channel_kl
from semiseg.ingredients.fusion import fused
from semiseg.ingredients.losses import dice_ce
from semiseg.networks.base import Network
from semiseg.runs.device import free_cache
from semiseg.runs.precision import autocast, channels_last, set_memory_format
from semiseg.training.timing import seconds

Layout = Literal["contiguous", "channels_last"]

ROUNDS = 3
"""Measured passes, of which the fastest counts."""

VARIANTS = 128
"""Ways of calling one piece of code that are compiled, over all networks of a method; PyTorch's 8 are used up early."""


@dataclass(frozen=True)
class ExecutionMode:
    """Execution of networks and losses, which changes the speed and nothing that is learnt.

    Attributes:
        layout: of weights and features.
        compile: whether networks are compiled.
        cuda_graphs: whether compiled networks are replayed as CUDA graphs.
        losses: whether the voxelwise parts of losses are compiled.
    """

    layout: Layout
    compile: bool = False
    cuda_graphs: bool = False
    losses: bool = False

    @classmethod
    def usual(cls, device: torch.device) -> Self:
        """The mode of a run that measures nothing: channels last is the faster layout on CPUs."""
        return cls("channels_last" if device.type == "cpu" else "contiguous")

    @property
    def words(self) -> str:
        """The mode in words, for log and report."""
        compiled = "compiled with CUDA graphs" if self.cuda_graphs else "compiled" if self.compile else "not compiled"
        return f"{self.layout.replace('_', ' ')}, {compiled}{', losses compiled' if self.losses else ''}"

    def memory_format(self, spatial_dims: int) -> torch.memory_format:
        """The layout in PyTorch's terms."""
        return torch.contiguous_format if self.layout == "contiguous" else channels_last(spatial_dims)


def execute(module: nn.Module, mode: ExecutionMode, spatial_dims: int) -> None:
    """Let all networks in `module` be executed so; names of weights stay as they are.

    A compiled network is compiled in train mode alone, where all batches have one shape; scans are looked at in windows
    of many shapes.
    """
    set_memory_format(module, mode.memory_format(spatial_dims))
    if mode.compile or mode.losses:
        torch._dynamo.reset()  # what earlier networks left counts against the limit, and keeps their memory
        torch._dynamo.utils.counters.clear()
        torch._dynamo.config.cache_size_limit = VARIANTS
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
    if not mode.compile:
        return
    inner: set[nn.Module] = set()
    for network in module.modules():
        if isinstance(network, Network) and network not in inner:
            inner |= set(network.modules())
            _compile(network, cuda_graphs=mode.cuda_graphs)


def _compile(network: Network, *, cuda_graphs: bool) -> None:
    network.compile(dynamic=False, mode="reduce-overhead" if cuda_graphs else None)
    compiled: Callable[..., Any] = network._compiled_call_impl  # type: ignore[assignment]

    def call(*args: Any, **kwargs: Any) -> Any:
        if not network.training:
            return network._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
        found = compiled(*args, **kwargs)
        # The next replay of a graph writes where this one did; what a method keeps has to be its own.
        return tree_map_only(Tensor, torch.clone, found) if cuda_graphs else found

    network._compiled_call_impl = call


def uncompiled() -> int:
    """Pieces of code that were to be compiled since the last `execute`, and run as they are; see `suppress_errors`."""
    frames = torch._dynamo.utils.counters["frames"]
    return int(frames["total"] - frames["ok"])


def forget_trials(device: torch.device) -> None:
    """Let go of what trials compiled and of the memory that they used."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    free_cache(device)


@contextmanager
def training_step(mode: ExecutionMode) -> Iterator[None]:
    """Around each training step, its losses and their backward passes."""
    if mode.cuda_graphs:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
    with fused(mode.losses):
        yield


def pass_seconds(network: Network, images: Tensor, precision: str, mode: ExecutionMode) -> float:
    """Seconds of a forward and a backward pass of `network`, which is changed for it."""
    device, dims = images.device, images.ndim - 2
    execute(network.to(device).train(), mode, dims)
    images = images.to(memory_format=mode.memory_format(dims))
    target = torch.zeros(images.shape[0], *images.shape[2:], dtype=torch.long, device=device)

    def step() -> None:
        with training_step(mode), autocast(device, precision):
            logits = network(images)
        F.cross_entropy(logits.float(), target).backward()  # type: ignore[no-untyped-call]
        network.zero_grad()

    return _fastest(step, mode, device, warm=ROUNDS if mode.compile else 1)  # the second pass records a graph


def losses_seconds(logits: Tensor, mode: ExecutionMode) -> float:
    """Seconds of losses as methods have them, forwards and backwards, of the predictions `[B, C, *S]` of two networks.

    They are compared with labels, with each other, and, as features are, by their divergence.
    """
    logits = logits.to(memory_format=mode.memory_format(logits.ndim - 2))
    one, other = (each.detach().requires_grad_() for each in (logits, logits.flip(0)))
    labels = logits.argmax(1)

    def step() -> None:
        with training_step(mode):
            loss = dice_ce(one, labels, "ssl4mis") + probability_mse(one, other, mutual=True) + channel_kl(one, other)
            loss.backward()  # type: ignore[no-untyped-call]
        one.grad = other.grad = None

    return _fastest(step, mode, logits.device, warm=ROUNDS)


def _fastest(step: Callable[[], None], mode: ExecutionMode, device: torch.device, warm: int) -> float:
    # Inside, what cannot be compiled fails, so that no trial measures something else than it says.
    strict: AbstractContextManager[None] = torch._dynamo.config.patch(suppress_errors=False)
    with strict if mode.compile or mode.losses else nullcontext():
        for _ in range(warm):
            step()
        return min(seconds(step, device) for _ in range(ROUNDS))
