"""The device of a benchmark, set up as the product does it before anything is measured."""

from __future__ import annotations

from argparse import ArgumentParser

import torch

from semiseg.errors import InputError
from semiseg.runs.device import choose_device, set_up_device
from semiseg.runs.precision import resolve_precision
from semiseg.settings.run import Accelerator


def chosen(parser: ArgumentParser, asked: Accelerator) -> torch.device:
    """The device that is asked for; ends the program with a message where this machine has none."""
    try:
        return choose_device(asked)
    except InputError as error:
        parser.error(str(error))


def set_up(device: torch.device, asked: str) -> str:
    """Set the device up for the precision that is asked for; returns the one of float32 operations: `tf32` or `fp32`.

    Both sides of a comparison, and the peaks, compute float32 alike.
    """
    precision = resolve_precision(asked, "cpu" if device.type == "cpu" else "gpu")
    float32 = "tf32" if precision == "tf32" else "fp32"
    set_up_device(device, float32)
    return float32
