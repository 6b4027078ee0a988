"""From a run and scans to label files in the scans' own geometry."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg.errors import InputError, raise_all
from semiseg.methods.base import Method
from semiseg.networks.folding import fold_batch_norms
from semiseg.prediction.batching import WindowBatch, with_room
from semiseg.prediction.fit import check_finite, checked_task
from semiseg.prediction.pipeline import overlapped
from semiseg.prediction.records import Records
from semiseg.prediction.scans import Scans, Spacing
from semiseg.prediction.windows import sliding_labels
from semiseg.preparing.plan import Plan
from semiseg.preparing.preprocess import preprocess
from semiseg.runs import checkpoint
from semiseg.runs.build import Build
from semiseg.runs.device import choose_device, set_up_device
from semiseg.runs.folder import INFERENCE, Run
from semiseg.runs.precision import autocast, memory_format, resolve_precision, set_memory_format
from semiseg.scans.components import largest_component
from semiseg.scans.crop import LabelCrop
from semiseg.scans.geometry import Geometry, restore_label
from semiseg.scans.ranges import Kept, look
from semiseg.scans.readers import Header, Volume, read_header, read_image, read_label, write_label
from semiseg.settings.run import Accelerator, WindowConfig
from semiseg.system.files import write_json
from semiseg.system.locks import locked
from semiseg.system.memory import memory_told
from semiseg.system.shards import Shard

Image = np.ndarray[Any, np.dtype[Any]]
Label = np.ndarray[Any, np.dtype[np.uint8]]

LESS = (
    "end what else uses this memory, predict on the CPU with --accelerator cpu where a GPU's ran out, "
    "or take a machine with more"
)
"""What helps where it runs out."""
MOST_AHEAD = 1 << 27
"""Voxels, all channels together, of a scan that is read while the one before it is predicted."""


@dataclass(frozen=True)
class Predictor:
    """A trained method, ready to label scans.

    Attributes:
        window: stride and weights of the windows.
        batch: windows per call of the network, until memory runs out.
        weights: digest of the checkpoint.
    """

    method: Method
    plan: Plan
    patch: tuple[int, ...]
    device: torch.device
    precision: str
    window: WindowConfig
    batch: WindowBatch = field(default_factory=lambda: WindowBatch(4))
    weights: str = ""

    def label(self, paths: Sequence[Path], spacing: Spacing | None = None, truth: Path | None = None) -> Label:
        """Class indices of one scan (one file per channel, or one with all) on the scan's own grid `[X, Y, Z]`.

        Reads, predicts and restores; arguments are those of `read`.
        """
        image, geometry = self.read(paths, spacing, truth)
        return restore_label(self.predicted(image, geometry), geometry)

    def read(
        self,
        paths: Sequence[Path],
        spacing: Spacing | None = None,
        truth: Path | None = None,
        note: Callable[[str], None] = lambda line: None,
    ) -> tuple[Image, Geometry]:
        """One scan as the network sees it, `[C, X, Y, Z]` float32, and what undoes that.

        A plan that crops around the label takes it from `truth`, and keeps a scan without it whole. `spacing` (mm) is
        for formats that record none. `note` is called with what is unlike the scans of the training.
        """
        return self.prepared(read_image(paths, channels=len(self.plan.channels), spacing=spacing), truth, note)

    def prepared(
        self, scan: Volume, truth: Path | None = None, note: Callable[[str], None] = lambda line: None
    ) -> tuple[Image, Geometry]:
        """A scan `[C, X, Y, Z]` as the network sees it, and what undoes that; see `read`."""
        for line in _unlike(scan.array, self.plan):
            note(line)
        around = read_label(truth).array if truth is not None and isinstance(self.plan.crop, LabelCrop) else None
        image, geometry = preprocess(scan, self.plan, label=around)
        for line in _cut(geometry, scan, self.plan):
            note(line)
        return image, geometry

    def predicted(self, image: Image, geometry: Geometry) -> Label:
        """Class indices of a preprocessed scan on the grid that `restore_label` expects.

        Where the scan was resampled, its probabilities are interpolated back, whatever its size; where slices were
        brought to a fixed size, labels are.
        """
        return self._labels(image, None if geometry.zoomed else geometry.cropped)

    def label_stored(self, image: Image) -> Label:
        """Class indices `[X, Y, Z]` of a preprocessed image `[C, X, Y, Z]`, on its own grid."""
        return self._labels(image, None)

    @property
    def stride(self) -> tuple[int, ...]:
        """Voxels between windows, per axis."""
        if self.window.stride is not None:
            return self.window.stride
        return tuple(max(round(side * (1 - self.window.overlap)), 1) for side in self.patch)

    def _labels(self, image: Image, shape: Sequence[int] | None) -> Label:
        scan = with_room(torch.from_numpy(image).to, self.device)
        slide = partial(sliding_labels, batch=self.batch, weights=self.window.weights, shape=shape)
        with torch.inference_mode():
            found = slide(self._forward, scan, self.patch, self.stride)
        array: Label = found.cpu().numpy()
        return array

    def _forward(self, windows: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            return self.method.predict(windows.to(self.device)).float()


def load_predictor(
    run: Run,
    *,
    accelerator: Accelerator = "auto",
    window: WindowConfig | None = None,
    build: Build | None = None,
) -> Predictor:
    """The method of a finished run with its selected weights, in eval mode; `window` goes before that of the run.

    `build` is what settings and plan of the run make, where they are read already.

    Raises:
        InputError: no run folder, training has not ended, the weights are damaged, or there is no such device.
    """
    build = build or Build(run.config(), run.plan())
    config, plan = build.config, build.plan
    name = config.select if config.select == "best" else "final"
    if not run.finished:
        raise InputError(
            f"{run.path}: the training has not ended yet: continue it with semiseg train --config "
            f"{run.path / 'config.yaml'} --output {run.path}"
        )
    found = checkpoint.load(run.checkpoints, name)
    method = build.method(checked_task(found, plan, build.network), pretrained=False)
    checkpoint.restore(found, config.method, method, {})
    check_finite(found, method)
    device = choose_device(accelerator)
    precision = resolve_precision(config.precision, accelerator)
    set_up_device(device, precision, deterministic=config.deterministic)
    fold_batch_norms(method.eval())
    set_memory_format(method, memory_format(device, plan.spatial_dims))
    weights = str(found.state["state_sha256"])
    return Predictor(method.to(device), plan, build.patch, device, precision, window or config.window, weights=weights)


def predict_scans(
    predictor: Predictor,
    scans: Scans,
    output: Path,
    *,
    largest: bool = False,
    shard: Shard | None = None,
    overwrite: bool = False,
    done: Callable[[str], None] = lambda case: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Path]:
    """Label every scan and write `output/CASE.nii.gz` on the scan's grid; returns the written file of each case.

    With a `shard` only its scans.

    `output/inference.json` says how. Files that this model wrote of the same scans are kept; what else was in the place
    of the files is removed first, so that a killed prediction never leaves those of two kinds side by side. A scan that
    cannot be read is passed over, and told when the others are labelled.

    Args:
        predictor: labels them.
        scans: what is to be labelled.
        output: folder to write.
        largest: keep only the largest component of each class.
        shard: part of the scans.
        overwrite: label also what is labelled already.
        done: called with the case after each written scan.
        say: called with each line that should be read.

    Raises:
        InputError: a scan cannot be read or would itself be overwritten; `output` cannot be written, or another process
            works there.
    """
    if shard is not None:
        scans = replace(scans, images={case: scans.images[case] for case in shard.of(scans.images)})
    targets = {case: output / f"{case}.nii.gz" for case in scans.images}
    _check_targets(targets, scans)
    how = {
        "patch": predictor.patch,
        "stride": predictor.stride,
        "weights": predictor.window.weights,
        "largest_component": largest,
    }
    records = Records(output, _made_by(predictor, how, scans.spacing))
    with locked(output, part="" if shard is None else shard.name):
        records.check()
        kept = [case for case, path in targets.items() if not overwrite and records.hold(case, path, scans.files(case))]
        for case in targets.keys() - kept:
            targets[case].unlink(missing_ok=True)
            records.remove(case)
        names = {name: value for value, name in enumerate(predictor.plan.class_names)}
        write_json(output / INFERENCE, {**how, "labels": names})
        if kept:
            say(f"{len(kept)} scan(s) are labelled by this model already: kept (--overwrite labels them again)")
        rest = replace(scans, images={case: paths for case, paths in scans.images.items() if case not in kept})
        failed = _label_all(predictor, rest, targets, largest, records, done, say)
    if failed:
        raise InputError(
            *(problem for error in failed.values() for problem in error.problems),
            f"{len(failed)} of {len(targets)} scan(s) could not be read, {len(targets) - len(failed)} are labelled in "
            f"{output}: mend or remove these, and run the same command again, which keeps what is done",
        )
    return targets


def _made_by(predictor: Predictor, how: Mapping[str, Any], spacing: Spacing | None) -> str:
    """Digest of everything that a prediction depends on but the scan."""
    facts: dict[str, Any] = {
        "weights": predictor.weights,
        "plan": predictor.plan.digest,
        "precision": predictor.precision,
    }
    facts |= {"how": how, "spacing": spacing, "semiseg": version("semiseg")}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _label_all(
    predictor: Predictor,
    scans: Scans,
    targets: Mapping[str, Path],
    largest: bool,
    records: Records,
    done: Callable[[str], None],
    say: Callable[[str], None],
) -> dict[str, InputError]:
    """Read, predict and write the scans, several of them in flight; errors of those that cannot be read."""
    failed: dict[str, InputError] = {}
    made: dict[str, str] = {}
    notes: dict[str, list[str]] = {case: [] for case in scans.images}
    guessed: list[str] = []
    headers = dict(scans.headers)

    def header(case: str) -> Header:
        if case not in headers:
            headers[case] = read_header(scans.images[case][0], spacing=scans.spacing)
        return headers[case]

    def read(case: str) -> tuple[Image, Geometry] | None:
        with memory_told(case, LESS):
            try:
                made[case] = records.made(scans.files(case))
                scan = read_image(scans.images[case], channels=len(predictor.plan.channels), spacing=scans.spacing)
                guessed.extend([] if scan.oriented else [case])
                return predictor.prepared(scan, scans.truths.get(case), notes[case].append)
            except InputError as error:
                failed[case] = error
                return None

    def compute(scan: tuple[Image, Geometry] | None) -> tuple[Label, Geometry] | None:
        if scan is None:
            return None
        with memory_told(f"a scan of {' x '.join(map(str, scan[0].shape[1:]))} voxels", LESS):
            return predictor.predicted(*scan), scan[1]

    def write(case: str, found: tuple[Label, Geometry] | None) -> None:
        if found is None:
            return
        with memory_told(case, LESS):
            label = restore_label(*found)
            if largest:
                label = largest_component(label)
            write_label(targets[case], label, reference=header(case))
        records.add(case, targets[case], made.pop(case))

    def small(case: str) -> bool:
        """Whether the scan may be read while another one is predicted."""
        try:
            voxels = math.prod(header(case).shape)
        except InputError:  # told when it is read
            return True
        return voxels * max(header(case).channels, len(scans.images[case])) <= MOST_AHEAD

    for case in overlapped(list(scans.images), read, compute, write, ahead=small):
        for line in notes.pop(case):
            say(f"warning: {case}: {line}")
        if case not in failed:
            done(case)
    if guessed:
        say(
            f"warning: {len(guessed)} scan(s), such as {guessed[0]!r}, record no orientation (NIfTI with neither sform "
            "nor qform code): left and right are a guess"
        )
    return failed


def _unlike(image: Image, plan: Plan) -> Iterator[str]:
    """Channels of a scan `[C, X, Y, Z]` with intensities unlike those of training, which no scaling makes alike."""
    for number, (name, channel) in enumerate(zip(plan.channels, image, strict=True)):
        if channel.min() == channel.max():
            yield f"{name}: expected an image, came the constant {channel.flat[0]:g}: the label means nothing"
        elif words := plan.odd(number, look(channel)):
            yield (
                f"{name}: {words}: the intensities are not on the scale of the training scans (Hounsfield units in "
                "CT): bring the scan there, or do not trust its label"
            )


def _cut(geometry: Geometry, scan: Volume, plan: Plan) -> Iterator[str]:
    """That far less of a scan is kept than of those of the training: perhaps what is to be labelled is not."""
    spacing = [scan.spacing[axis] for axis in geometry.axes]
    seen = Kept.of(geometry.cropped, geometry.shape, spacing)
    if plan.kept is not None and plan.cropped_far(seen):
        yield (
            f"expected a foreground of at least {plan.kept.share:.0%} of the scan ({plan.kept.volume:.3g} ml), as in "
            f"training, came {seen.share:.0%} ({seen.volume:.3g} ml): the rest is cropped away as air and labelled "
            "background; look at the scan for signal at its border or padding of many values"
        )


def _check_targets(targets: Mapping[str, Path], scans: Scans) -> None:
    used = {path.resolve() for paths in (*scans.images.values(), scans.truths.values()) for path in paths}
    raise_all(
        f"{path}: is one of the scans to be labelled, which its labels would overwrite: choose another folder with -o"
        for path in targets.values()
        if path.resolve() in used
    )
