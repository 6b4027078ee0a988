"""From a run and scans to label files in the scans' own geometry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg.config import Accelerator, WindowConfig
from semiseg.data.crop import LabelCrop
from semiseg.data.dataset import open_dataset
from semiseg.data.description import is_file_name
from semiseg.data.formats import ENDINGS
from semiseg.data.found import scan_paths, stem_of
from semiseg.data.geometry import Geometry, restore, restore_label
from semiseg.data.plan import Plan
from semiseg.data.preprocess import preprocess
from semiseg.data.readers import read_header, read_image, read_label, write_label
from semiseg.engine import checkpoint
from semiseg.engine.device import choose_device, set_up_device
from semiseg.engine.precision import autocast, memory_format, resolve_precision, set_memory_format
from semiseg.engine.resolve import network_builder, patch_of
from semiseg.engine.run import INFERENCE, Run
from semiseg.errors import InputError, raise_all, shown
from semiseg.files import write_json
from semiseg.inference.batching import WindowBatch, with_room
from semiseg.inference.components import largest_component
from semiseg.inference.fit import check_finite, checked_task
from semiseg.inference.pipeline import overlapped
from semiseg.inference.windows import sliding_labels, sliding_windows
from semiseg.locks import locked
from semiseg.methods.base import Method, entry
from semiseg.networks.folding import fold_batch_norms
from semiseg.oom import memory_told
from semiseg.shards import Shard

Spacing = tuple[float, float, float]
Image = np.ndarray[Any, np.dtype[Any]]
Label = np.ndarray[Any, np.dtype[np.uint8]]

MOST_PROBABILITIES = 3 << 29
"""Bytes that the probabilities of a whole scan may take."""
LESS = (
    "end what else uses this memory, predict on the CPU with --accelerator cpu where a GPU's ran out, "
    "or take a machine with more"
)
"""What helps where it runs out."""
MOST_AHEAD = 1 << 27
"""Voxels, all channels together, of a scan that is read while the one before it is predicted."""


@dataclass(frozen=True)
class Scans:
    """What is to be labelled.

    Attributes:
        images: files by case, one per channel or one with all.
        spacing: mm along X, Y, Z of scans in formats that record none.
        truths: label files by case, for plans that crop around them.
    """

    images: Mapping[str, tuple[Path, ...]]
    spacing: Spacing | None = None
    truths: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Predictor:
    """A trained method, ready to label scans.

    Attributes:
        window: stride and weights of the windows.
        batch: windows per call of the network, until memory runs out.
    """

    method: Method
    plan: Plan
    patch: tuple[int, ...]
    device: torch.device
    precision: str
    window: WindowConfig
    batch: WindowBatch = field(default_factory=lambda: WindowBatch(4))

    def label(self, paths: Sequence[Path], spacing: Spacing | None = None, truth: Path | None = None) -> Label:
        """Class indices of one scan (one file per channel, or one with all) on the scan's own grid `[X, Y, Z]`.

        Reads, predicts and restores; arguments are those of `read`.
        """
        image, geometry = self.read(paths, spacing, truth)
        return restored(self.predicted(image, geometry), geometry)

    def read(
        self, paths: Sequence[Path], spacing: Spacing | None = None, truth: Path | None = None
    ) -> tuple[Image, Geometry]:
        """One scan as the network sees it, `[C, X, Y, Z]` float32, and what undoes that.

        A plan that crops around the label takes it from `truth`, and keeps a scan without it whole. `spacing` (mm) is
        for formats that record none.
        """
        scan = read_image(paths, channels=len(self.plan.channels), spacing=spacing)
        around = read_label(truth).array if truth is not None and isinstance(self.plan.crop, LabelCrop) else None
        return preprocess(scan, self.plan, label=around)

    def predicted(self, image: Image, geometry: Geometry) -> Image:
        """Class probabilities `[C, X, Y, Z]` of a scan that was resampled, otherwise class indices `[X, Y, Z]`.

        Probabilities are interpolated back, as long as they take less than `MOST_PROBABILITIES`; otherwise, and where
        slices were brought to a fixed size, labels are.
        """
        resampled = geometry.stored != geometry.cropped and not geometry.zoomed
        if resampled and 4 * self.plan.classes * math.prod(geometry.stored) <= MOST_PROBABILITIES:
            return self._over_windows(sliding_windows, image)
        return self._over_windows(sliding_labels, image)

    def label_stored(self, image: Image) -> Label:
        """Class indices `[X, Y, Z]` of a preprocessed image `[C, X, Y, Z]`, on its own grid."""
        return self._over_windows(sliding_labels, image)

    @property
    def stride(self) -> tuple[int, ...]:
        """Voxels between windows, per axis."""
        if self.window.stride is not None:
            return self.window.stride
        return tuple(max(round(side * (1 - self.window.overlap)), 1) for side in self.patch)

    def _over_windows(self, slide: Callable[..., Tensor], image: Image) -> Image:
        scan = with_room(torch.from_numpy(image).to, self.device)
        with torch.inference_mode():
            found = slide(self._forward, scan, self.patch, self.stride, batch=self.batch, weights=self.window.weights)
        array: Image = found.cpu().numpy()
        return array

    def _forward(self, windows: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            return self.method.predict(windows.to(self.device)).float()


def restored(found: Image, geometry: Geometry) -> Label:
    """Class indices on the scan's own grid of what `Predictor.predicted` gave."""
    return restore(found, geometry) if found.ndim == 4 else restore_label(found, geometry)


def load_predictor(run: Run, *, accelerator: Accelerator = "auto", window: WindowConfig | None = None) -> Predictor:
    """The method of a finished run with its selected weights, in eval mode; `window` goes before that of the run.

    Raises:
        InputError: no run folder, training has not ended, the weights are damaged, or there is no such device.
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
    with torch.device("meta"):
        network = build()
    method = entry(config.method).build(config.options, checked_task(found, plan, network), build)
    checkpoint.restore(found, config.method, method, {})
    check_finite(found, method)
    device = choose_device(accelerator)
    patch = patch_of(config, plan, network)
    precision = resolve_precision(config.precision, accelerator)
    set_up_device(device, precision, deterministic=config.deterministic)
    fold_batch_norms(method.eval())
    set_memory_format(method, memory_format(device, plan.spatial_dims))
    return Predictor(method.to(device), plan, patch, device, precision, window or config.window)


def predict_scans(
    predictor: Predictor,
    scans: Scans,
    output: Path,
    *,
    largest: bool = False,
    shard: Shard | None = None,
    done: Callable[[str], None] = lambda case: None,
) -> dict[str, Path]:
    """Label every scan and write `output/CASE.nii.gz` on the scan's grid; returns the written file of each case.

    With a `shard` only its scans.

    `output/inference.json` says how. What was in the place of these files is removed first, so that a killed prediction
    never leaves those of two kinds side by side.

    Raises:
        InputError: a scan cannot be read or would itself be overwritten; `output` cannot be written, or another process
            works there.
    """
    if shard is not None:
        scans = replace(scans, images={case: scans.images[case] for case in shard.of(scans.images)})
    targets = {case: output / f"{case}.nii.gz" for case in scans.images}
    _check_targets(targets, scans)
    with locked(output, part="" if shard is None else shard.name):
        for path in targets.values():
            path.unlink(missing_ok=True)
        write_json(
            output / INFERENCE,
            {
                "patch": predictor.patch,
                "stride": predictor.stride,
                "weights": predictor.window.weights,
                "largest_component": largest,
            },
        )
        _label_all(predictor, scans, targets, largest, done)
    return targets


def _label_all(
    predictor: Predictor, scans: Scans, targets: Mapping[str, Path], largest: bool, done: Callable[[str], None]
) -> None:
    """Read, predict and write the scans, several of them in flight."""

    def read(case: str) -> tuple[Image, Geometry]:
        with memory_told(case, LESS):
            return predictor.read(scans.images[case], scans.spacing, scans.truths.get(case))

    def compute(scan: tuple[Image, Geometry]) -> tuple[Image, Geometry]:
        with memory_told(f"a scan of {' x '.join(map(str, scan[0].shape[1:]))} voxels", LESS):
            return predictor.predicted(*scan), scan[1]

    def write(case: str, found: tuple[Image, Geometry]) -> None:
        with memory_told(case, LESS):
            label = restored(*found)
            if largest:
                label = largest_component(label)
            write_label(targets[case], label, reference=scans.images[case][0], spacing=scans.spacing)

    for case in overlapped(list(scans.images), read, compute, write, ahead=lambda case: _small(scans.images[case])):
        done(case)


def _check_targets(targets: Mapping[str, Path], scans: Scans) -> None:
    used = {path.resolve() for paths in (*scans.images.values(), scans.truths.values()) for path in paths}
    raise_all(
        f"{path}: is one of the scans to be labelled, which its labels would overwrite: choose another folder with -o"
        for path in targets.values()
        if path.resolve() in used
    )


def _small(paths: Sequence[Path]) -> bool:
    """Whether a scan may be read while another one is predicted."""
    header = read_header(paths[0])
    return math.prod(header.shape) * max(header.channels, len(paths)) <= MOST_AHEAD


def find_scans(source: Path, channels: int, spacing: Spacing | None = None) -> Scans:
    """Scans in a folder (or one file): `CASE_0000.nii.gz`, one per channel, or `CASE.nii.gz` with all channels.

    Any readable format will do; a DICOM series is a folder, or a folder in the given one.

    Raises:
        InputError: nothing is there, or a scan has another number of channels than the run was trained on.
    """
    if not source.exists():
        raise InputError(f"{source}: expected a folder of scans or one scan, found nothing there: check the path")
    files = scan_paths(source)
    if not files:
        raise InputError(f"{source}: no scans ({', '.join(ENDINGS)}, DICOM): give a folder of scans or one scan")
    scans: dict[str, list[Path]] = {}
    for file in files:
        stem = stem_of(file)
        head, _, tail = stem.rpartition("_")
        scans.setdefault(head if head and len(tail) == 4 and tail.isdigit() else stem, []).append(file)
    odd = [case for case in scans if not is_file_name(case)]
    if odd:
        raise InputError(f"{source}: expected scans with printable names, came {shown(odd[0])}: rename the file")
    counts = {case: len(paths) if len(paths) > 1 else read_header(paths[0]).channels for case, paths in scans.items()}
    wrong = [f"{case}: {count}" for case, count in counts.items() if count != channels]
    if wrong:
        raise InputError(
            f"{source}: the run was trained on {channels} channel(s) per scan (CASE_0000.nii.gz, CASE_0001.nii.gz, "
            f"...); other numbers came for {', '.join(wrong)}"
        )
    return Scans({case: tuple(paths) for case, paths in scans.items()}, spacing)


def test_scans(run: Run) -> Scans:
    """Scans of the run's test cases, and their label files where the run's plan crops around labels.

    Raises:
        InputError: the run's split has no test cases.
    """
    cases = run.split().test
    if not cases:
        raise InputError(
            f"{run.path}: its split has no test cases: name the scans, as in semiseg predict {run.path} SCANS -o OUT"
        )
    dataset = open_dataset(run.config().data)
    raise_all(
        f"{run.path / 'split.json'}: {dataset.root} has no case {shown(case)} any more: restore it, or name the scans"
        for case in cases
        if case not in dataset.cases
    )
    images = {case: dataset.cases[case].images for case in cases}
    spacing = dataset.cases[cases[0]].spacing
    if not isinstance(run.plan().crop, LabelCrop):
        return Scans(images, spacing)
    return Scans(images, spacing, {case: label for case in cases if (label := dataset.cases[case].label) is not None})
