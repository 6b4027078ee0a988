"""Largest connected components of pseudo-labels, found on the host while the device goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from semiseg.scans.components import Neighbours, largest_component

Filtered = Literal["auto"] | bool
FILTERED_DOC = (
    "pseudo-labels: largest component of each class alone; `auto`, of classes that are one piece in the labelled scans"
)


def filtered_classes(option: Filtered, one_piece: Sequence[bool], classes: int) -> frozenset[int]:
    """Foreground classes whose pseudo-labels are reduced to their largest component."""
    chosen = one_piece if option == "auto" else [bool(option)] * classes
    return frozenset(label for label, wanted in enumerate(chosen) if label and wanted)


def keep_largest(
    labels: Tensor, classes: Collection[int] | None = None, neighbours: Neighbours = "all"
) -> Callable[[], Tensor]:
    """Start to keep only the largest component of every foreground class in every sample of `labels` `[B, *S]`.

    With `classes`, of these alone; `neighbours` as of `largest_component`. Of equal components the first in scan order
    stays; what is removed becomes background. Gives a function that waits for the result, int64 on the device of
    `labels`. Threads do the work, so a GPU can be given other work between the two calls; only the one copy of the
    labels is waited for.
    """
    if labels.numel() == 0 or (classes is not None and not classes):
        return lambda: labels.long()
    host, copied = _to_host(labels)
    samples = host.numpy()

    def filter_one(index: int) -> None:
        copied()
        sample: NDArray[Any] = samples[index]
        sample[...] = largest_component(sample, neighbours, classes)

    pool = ThreadPoolExecutor(min(len(samples), os.cpu_count() or 1))
    waiting = [pool.submit(filter_one, index) for index in range(len(samples))]
    pool.shutdown(wait=False)  # what was submitted is still done

    def result() -> Tensor:
        for each in waiting:
            each.result()
        return host.to(labels.device, non_blocking=True).long()

    return result


def _to_host(labels: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """The labels in host memory, and what waits until they are there."""
    if not labels.is_cuda:
        return labels.detach().to("cpu", torch.int16, copy=True).contiguous(), lambda: None
    # Page-locked memory lets both copies run beside the other work of the device.
    host = torch.empty(labels.shape, dtype=torch.int16, pin_memory=True)
    host.copy_(labels.detach().to(torch.int16), non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return host, event.synchronize
