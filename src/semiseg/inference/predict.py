"""From a run and scans to label files in the scans' own geometry."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from semiseg.data.dataset import open_dataset
from semiseg.data.formats import ENDINGS
from semiseg.data.found import scan_paths, stem_of
from semiseg.data.geometry import restore, restore_label
from semiseg.data.plan import Plan
from semiseg.data.preprocess import preprocess
from semiseg.data.readers import read_header, read_image, write_label
from semiseg.engine import checkpoint
from semiseg.engine.precision import autocast, memory_format, resolve_precision, set_memory_format
from semiseg.engine.resolve import network_builder, patch_of
from semiseg.engine.run import Run
from semiseg.errors import InputError
from semiseg.inference.components import largest_component
from semiseg.inference.windows import sliding_labels, sliding_windows
from semiseg.methods.base import Method, Task, entry

_log = logging.getLogger(__name__)

Accelerator = Literal["auto", "cpu", "gpu"]
Spacing = tuple[float, float, float]
Image = np.ndarray[Any, np.dtype[Any]]
Label = np.ndarray[Any, np.dtype[np.uint8]]

MOST_PROBABILITIES = 3 << 29
"""Bytes that the probabilities of a whole scan may take."""


@dataclass(frozen=True)
class Predictor:
    """A trained method, ready to label scans.

    Attributes:
        overlap: share of the patch that neighbouring windows have in common.
        batch: windows per call of the network.
    """

    method: Method
    plan: Plan
    patch: tuple[int, ...]
    device: torch.device
    precision: str
    overlap: float = 0.5
    batch: int = 4

    def label(self, paths: Sequence[Path], spacing: Spacing | None = None) -> Label:
        """Class indices of one scan (one file per channel, or one with all) on the scan's own grid `[X, Y, Z]`.

        Where the scan was resampled, probabilities are interpolated back, as long as they take less than
        `MOST_PROBABILITIES`; otherwise, and where slices were brought to a fixed size, labels are. `spacing` (mm) is
        for formats that record none.
        """
        scan = read_image(paths, channels=len(self.plan.channels), spacing=spacing)
        image, geometry = preprocess(scan, self.plan)
        resampled = geometry.stored != geometry.cropped and not geometry.zoomed
        if resampled and 4 * self.plan.classes * math.prod(geometry.stored) <= MOST_PROBABILITIES:
            return restore(self._over_windows(sliding_windows, image), geometry)
        return restore_label(self._over_windows(sliding_labels, image), geometry)

    def label_stored(self, image: Image) -> Label:
        """Class indices `[X, Y, Z]` of a preprocessed image `[C, X, Y, Z]`, on its own grid."""
        return self._over_windows(sliding_labels, image)

    @property
    def stride(self) -> tuple[int, ...]:
        """Steps between windows per axis, in voxels."""
        return tuple(max(round(side * (1 - self.overlap)), 1) for side in self.patch)

    def _over_windows(self, slide: Callable[..., Tensor], image: Image) -> Image:
        scan = torch.from_numpy(image).to(self.device)
        with torch.inference_mode():
            found = slide(self._forward, scan, self.patch, self.stride, batch=self.batch, weights="gaussian")
        array: Image = found.cpu().numpy()
        return array

    def _forward(self, windows: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            return self.method.predict(windows).float()


def load_predictor(run: Run, *, accelerator: Accelerator = "auto", overlap: float = 0.5) -> Predictor:
    """The method of a finished run with its selected weights, in eval mode.

    Raises:
        InputError: no run folder, training has not ended, or the weights are damaged.
    """
    config, plan = run.config(), run.plan()
    name = config.select if config.select == "best" else "final"
    if not run.finished:
        raise InputError(
            f"{run.path}: the training has not ended yet: continue it with semiseg train --config "
            f"{run.path / 'config.yaml'} --output {run.path}"
        )
    found = checkpoint.load(run.checkpoints, name)
    build = network_builder(config, plan, pretrained=False)
    method = entry(config.method).build(config.options, Task(**found.state["task"]), build)
    checkpoint.unpack(found.tensors, method, {})
    method.load_extra_state(found.state["extra"])
    use_gpu = accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if use_gpu else "cpu")
    with torch.device("meta"):
        patch = patch_of(config, plan, build())
    precision = resolve_precision(config.precision, accelerator)
    set_memory_format(method, memory_format(device, plan.spatial_dims))
    return Predictor(method.to(device).eval(), plan, patch, device, precision, overlap)


def predict_scans(
    predictor: Predictor,
    scans: Mapping[str, Sequence[Path]],
    output: Path,
    *,
    largest: bool = False,
    spacing: Spacing | None = None,
    done: Callable[[str], None] = lambda case: None,
) -> dict[str, Path]:
    """Label every scan and write `output/CASE.nii.gz` on the scan's grid; returns the written file of each case.

    `spacing` (mm) is for formats that record none.
    """
    written = {}
    for case, paths in scans.items():
        label = predictor.label(paths, spacing)
        if largest:
            label = largest_component(label)
        written[case] = output / f"{case}.nii.gz"
        write_label(written[case], label, reference=paths[0], spacing=spacing)
        done(case)
    return written


def find_scans(source: Path, channels: int) -> dict[str, tuple[Path, ...]]:
    """Scans in a folder (or one file): `CASE_0000.nii.gz`, one per channel, or `CASE.nii.gz` with all channels.

    Any readable format will do; a DICOM series is a folder, or a folder in the given one.

    Raises:
        InputError: nothing is there, or a scan has another number of channels than the run was trained on.
    """
    files = scan_paths(source)
    if not files:
        raise InputError(f"{source}: no scans ({', '.join(ENDINGS)}, DICOM): give a folder of scans or one scan")
    scans: dict[str, list[Path]] = {}
    for file in files:
        stem = stem_of(file)
        head, _, tail = stem.rpartition("_")
        scans.setdefault(head if head and len(tail) == 4 and tail.isdigit() else stem, []).append(file)
    counts = {case: len(paths) if len(paths) > 1 else read_header(paths[0]).channels for case, paths in scans.items()}
    wrong = [f"{case}: {count}" for case, count in counts.items() if count != channels]
    if wrong:
        raise InputError(
            f"{source}: the run was trained on {channels} channel(s) per scan (CASE_0000.nii.gz, CASE_0001.nii.gz, "
            f"...); other numbers came for {', '.join(wrong)}"
        )
    return {case: tuple(paths) for case, paths in scans.items()}


def test_scans(run: Run) -> tuple[dict[str, tuple[Path, ...]], Spacing | None]:
    """Scans of the run's test cases, and the spacing that the dataset gives to files that record none.

    Raises:
        InputError: the run's split has no test cases.
    """
    cases = run.split().test
    if not cases:
        raise InputError(
            f"{run.path}: its split has no test cases: name the scans, as in semiseg predict {run.path} SCANS -o OUT"
        )
    dataset = open_dataset(run.config().data)
    return {case: dataset.cases[case].images for case in cases}, dataset.cases[cases[0]].spacing
