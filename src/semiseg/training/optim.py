"""Optimisers, the learning rate as a pure function of the step, and the guarded update."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from semiseg.ingredients.ramps import cosine_rampdown, lagged, polynomial_decay
from semiseg.ingredients.reduce import batch_sum
from semiseg.methods.base import Method
from semiseg.settings.run import OptimiserConfig


def learning_rate(config: OptimiserConfig, step: int, steps: int, steps_per_epoch: int = 1) -> float:
    """Learning rate of `step` (from 0) of `steps`; what is counted, and up to where, is in the configuration."""
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    unit = steps_per_epoch if config.unit == "epoch" else 1
    position = lagged(step // unit) if config.lag else step // unit
    length = config.length or math.ceil(steps / unit)
    reached = min(position, length)
    factors: dict[str, float] = {
        "constant": 1.0,
        "poly": polynomial_decay(reached, length, config.power),
        "cosine": cosine_rampdown(reached, length),
        "step": config.factor ** (position // config.every),
    }
    return config.base_lr * warm * factors[config.schedule]


def make_optimiser(config: OptimiserConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The configured optimiser in its fused form, which can skip an update without asking the host.

    Where biases and normalisations do not decay, they are a parameter group of their own.
    """
    groups = _decay_groups(config, list(parameters))
    if config.name == "adamw":
        return AdamW(groups, lr=config.base_lr, fused=True)
    nesterov = config.nesterov and config.momentum > 0
    return SGD(groups, lr=config.base_lr, momentum=config.momentum, nesterov=nesterov, fused=True)


def make_optimisers(config: OptimiserConfig, method: Method) -> dict[str, Optimizer]:
    """The optimiser of every group of `method`: its own, where it has one, or the configured one."""
    own = method.optimisers()
    return {
        name: AdamW(group, lr=own[name].lr, betas=own[name].betas, weight_decay=0.0, fused=True)
        if name in own
        else make_optimiser(config, group)
        for name, group in method.groups().items()
    }


def _decay_groups(config: OptimiserConfig, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Kernels and matrices decay; parameters with one axis, biases and normalisations, where that is asked for."""
    if config.decays_all:
        return [{"params": parameters, "weight_decay": config.decay}]
    kernels, vectors = ([p for p in parameters if (p.ndim > 1) == several] for several in (True, False))
    pairs = ((kernels, config.decay), (vectors, 0.0))
    return [{"params": chosen, "weight_decay": decay} for chosen, decay in pairs if chosen]


def guarded_step(optimiser: Optimizer, loss: Tensor, clip: float | None) -> Tensor:
    """Clip the gradients, then update unless loss or gradients are non-finite; returns 1.0 if skipped, else 0.0.

    The decision stays on the device: fused optimisers leave parameters and momentum alone where `found_inf` is 1.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, clip if clip is not None else math.inf)
    # Processes share the gradients, but each has a loss of its own: all of them must decide alike.
    finite = torch.isfinite(norm) & torch.isfinite(batch_sum(loss.detach()))
    skipped = 1.0 - finite.float()
    if isinstance(optimiser, SGD):
        _begin_momentum(optimiser, parameters)
    optimiser.found_inf = skipped  # type: ignore[attr-defined]
    optimiser.step()
    return skipped


def _begin_momentum(optimiser: SGD, parameters: Iterable[nn.Parameter]) -> None:
    """Zeros for momenta that are not there yet, with which a first update is what it is without.

    Left to itself, the fused form takes memory as it comes, which a skipped first update leaves as it is; and it cannot
    begin with some parameters when others have begun.
    """
    if not optimiser.defaults["momentum"]:
        return
    for parameter in parameters:
        state = optimiser.state[parameter]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)
