"""Processes, device and precision of a run."""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from datetime import timedelta
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.strategy import Strategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.nn.parallel import DistributedDataParallel

from semiseg.errors import InputError
from semiseg.methods.base import Method, entry
from semiseg.runs.build import precision_of
from semiseg.runs.device import choose_device, set_up_device, tell_of_precision
from semiseg.runs.precision import fabric_precision
from semiseg.settings.run import RunConfig

PATIENCE = timedelta(days=7)
"""How long processes wait for the first one, which may prepare data, compile or validate; one that fails ends them all
at once."""


def launch(config: RunConfig) -> Fabric:
    """Processes, device and precision by Fabric; under `torchrun` its world is taken as it is.

    Raises:
        InputError: this machine has no such device, or not so many.
    """
    world = int(os.environ.get("LOCAL_WORLD_SIZE", config.devices))
    distributed = world > 1 or int(os.environ.get("WORLD_SIZE", 1)) > 1
    strategy: Strategy | str = "auto"
    if distributed:
        strategy = data_parallel(config)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric = Fabric(
            accelerator=_fabric_accelerator(config),
            devices=world,
            num_nodes=max(int(os.environ.get("GROUP_WORLD_SIZE", 1)), 1),
            strategy=strategy,
            precision=fabric_precision(precision_of(config)),
        )
    except (RuntimeError, MisconfigurationException) as error:
        raise InputError(
            f"accelerator {config.accelerator}, devices {world}: this machine has not what is asked for ({error}): "
            "set accelerator=cpu or auto, or fewer devices"
        ) from None
    if distributed:
        # Kernels of one voxel are in both layouts at once; their gradients come in either, which costs nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        fabric.launch()
    set_up_device(fabric.device, precision_of(config), deterministic=config.deterministic)
    if fabric.is_global_zero:
        tell_of_precision(config.precision, config.accelerator, config.method, entry(config.method).cls.precision)
    return fabric


def data_parallel(config: RunConfig) -> DDPStrategy:
    """Processes that share a batch: gradients are averaged; buffers, such as memories of features, are each one's own.

    What is a statistic of the whole batch is summed where it is made.
    """
    several_groups = entry(config.method).cls.groups is not Method.groups
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # before PyTorch 2.13
    settings: dict[str, Any] = {"find_unused_parameters": several_groups, name: False}
    return DDPStrategy(timeout=PATIENCE, **settings)


def _fabric_accelerator(config: RunConfig) -> str:
    """Fabric's own `auto` and `gpu` would take one of Apple's."""
    return "cuda" if config.accelerator == "gpu" else choose_device(config.accelerator).type
