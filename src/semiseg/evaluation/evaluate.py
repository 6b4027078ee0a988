"""Score folders of predicted label files against reference label files."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from semiseg.errors import InputError, raise_all
from semiseg.evaluation.pairs import Files, Pair, label_files, pair_up
from semiseg.evaluation.parts import CaseScores, Parts
from semiseg.evaluation.scores import Row, Scores
from semiseg.metrics.base import columns
from semiseg.metrics.empty import EmptyRule, check_empty_rule
from semiseg.metrics.mask_scores import MaskScores, empty_scores, score_masks
from semiseg.scans.components import largest_component as keep_largest
from semiseg.scans.grids import Grid, grid_problems
from semiseg.scans.readers import read_header, read_label
from semiseg.system.files import sha256
from semiseg.system.parallel import processes, worker_count
from semiseg.system.shards import Shard

Box = tuple[slice, ...]

_MANY = 1 << 28
"""Voxels in all, some seconds' work: threads hold each other up an eighth of the time, processes start for a second."""


def evaluate(
    predictions: Files,
    labels: Files,
    *,
    class_names: Sequence[str] | None = None,
    output: Path | None = None,
    empty: EmptyRule = "diagonal",
    largest_component: bool = False,
    cases: Collection[str] | None = None,
    pattern: str | None = None,
    workers: int = 0,
    parts: Path | None = None,
) -> Scores:
    """Every metric per case and class.

    Every label file needs a prediction on the same grid, of the same name or of one that belongs to it (`pair_up`).
    Predictions without a label file cannot be scored; their number is kept in the provenance. A class that is in
    neither mask of a case is skipped and counted, unless the rule is `official`. A volume of one slice is scored as a
    2D image.

    Args:
        predictions: folder of predicted label files `CASE.nii.gz`, one such file, or files by case id.
        labels: reference label files, likewise.
        class_names: index is the label value, background first; default: `class 1` ... up to the largest label found.
        output: folder for `scores.csv` and `scores.json`; nothing is written when it is not given.
        empty: what an empty mask scores, see `EMPTY_RULES`.
        largest_component: score only the largest connected component of each predicted class.
        cases: score only these; default: all cases with a label file.
        pattern: regular expression whose first group is the case in the names of predictions and labels.
        workers: cases at a time; 0 takes as many as there are cores. Few cases are scored in threads, many in
            processes.
        parts: folder that was given to `evaluate_shard`; what is found there is not computed again, and then removed.

    Raises:
        InputError: files are missing, unreadable or not on one grid, or labels are unknown; all problems are named.
    """
    check_empty_rule(empty)
    pairs, without_label = pair_up(predictions, labels, cases=cases, pattern=pattern)
    kept = None if parts is None else _parts(parts, largest_component, empty)
    found = _all(pairs, largest_component, empty, workers, kept)
    names = _names(found, class_names)
    scores = Scores(
        tuple(_rows(found, len(names), empty)), names, empty, largest_component, _provenance(found, without_label)
    )
    if output is not None:
        scores.save(output)
    if kept is not None:
        kept.remove()
    return scores


def evaluate_shard(
    predictions: Files,
    labels: Files,
    parts: Path,
    shard: Shard,
    *,
    empty: EmptyRule = "diagonal",
    largest_component: bool = False,
    cases: Collection[str] | None = None,
    pattern: str | None = None,
    workers: int = 0,
) -> int:
    """Score the cases of `shard` and leave their scores in `parts` for `evaluate`; returns their number.

    Arguments and errors are those of `evaluate`.
    """
    check_empty_rule(empty)
    references = label_files(labels)
    mine = shard.of(references if cases is None else set(cases))
    if not mine:
        return 0
    pairs, _ = pair_up(predictions, references, cases=mine, pattern=pattern)
    kept = _parts(parts, largest_component, empty)
    for case in _all(pairs, largest_component, empty, workers, kept):
        raise_all(case.problems)
        assert case.scores is not None, "a case without problems has scores"
        kept.save(case.pair.case, CaseScores(case.shape, case.spacing, case.scores, case.digests))
    return len(mine)


def _parts(folder: Path, largest: bool, empty: EmptyRule) -> Parts:
    rules = f"semiseg {version('semiseg')}, empty {empty}, largest component {largest}, {', '.join(columns())}"
    return Parts(folder, rules)


def _all(pairs: Sequence[Pair], largest: bool, empty: EmptyRule, workers: int, parts: Parts | None) -> list[_Found]:
    """Every case, scored side by side."""
    voxels = _check_grids(pairs)
    count = worker_count(workers, len(pairs), 16 * voxels)
    score = partial(_score, largest=largest, empty=empty, parts=parts)
    if count == 1 or voxels * len(pairs) < _MANY:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(score, pairs))
    with processes(count) as run:
        found = {case.pair.case: case for case in run(score, pairs)}
    return [found[pair.case] for pair in pairs]


@dataclass(frozen=True)
class _Found:
    """What scoring a case gave: scores of the classes that occur, or the reason why there are none."""

    pair: Pair
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    scores: Mapping[int, MaskScores] | None = None
    digests: tuple[str, str] = ("", "")
    problems: tuple[str, ...] = ()


def _check_grids(pairs: Sequence[Pair]) -> int:
    """Refuse cases whose files are not on one grid; the number of voxels of the largest."""
    problems: list[str] = []
    largest = 0
    for pair in pairs:
        try:
            prediction, label = _grid(pair.prediction), _grid(pair.label)
        except InputError as error:
            problems += error.problems
            continue
        problems += grid_problems(pair.prediction, prediction, pair.label, label)
        largest = max(largest, math.prod(label.shape))
    raise_all(problems)
    return largest


def _grid(path: Path) -> Grid:
    return read_header(path, "label").grid


def _score(pair: Pair, *, largest: bool, empty: EmptyRule, parts: Parts | None) -> _Found:
    try:
        digests = sha256(pair.prediction), sha256(pair.label)
        done = None if parts is None else parts.load(pair.case, digests)
        if done is not None:
            return _Found(pair, done.shape, done.spacing, done.scores, digests)
        volume, predicted = read_label(pair.label), read_label(pair.prediction)
        prediction, truth = predicted.array, volume.array
    except InputError as error:
        return _Found(pair, problems=error.problems)
    spacing: tuple[float, ...] = volume.spacing if volume.recorded else predicted.spacing
    if truth.shape[-1] == 1:
        # As a volume, every voxel of a single slice would be surface.
        prediction, truth, spacing = prediction[..., 0], truth[..., 0], spacing[:2]
    if largest:
        prediction = keep_largest(prediction)
    scores = dict(_score_classes(prediction, truth, spacing, empty))
    return _Found(pair, truth.shape, spacing, scores, digests)


def _score_classes(
    prediction: NDArray[np.uint8], truth: NDArray[np.uint8], spacing: tuple[float, ...], empty: EmptyRule
) -> Iterator[tuple[int, MaskScores]]:
    """Scores of every label that occurs in one of the two, each computed in the box that holds it."""
    boxes = itertools.zip_longest(ndimage.find_objects(prediction), ndimage.find_objects(truth))
    for label, (predicted, true) in enumerate(boxes, start=1):
        if predicted and true:
            box = tuple(slice(min(p.start, t.start), max(p.stop, t.stop)) for p, t in zip(predicted, true, strict=True))
            yield label, score_masks(prediction[box] == label, truth[box] == label, spacing, empty=empty)
        elif predicted or true:
            sizes = _voxels(prediction, predicted, label), _voxels(truth, true, label)
            yield label, empty_scores(*sizes, truth.shape, spacing, empty)


def _voxels(array: NDArray[np.uint8], box: Box | None, label: int) -> int:
    return 0 if box is None else int(np.count_nonzero(array[box] == label))


def _names(found: Sequence[_Found], class_names: Sequence[str] | None) -> tuple[str, ...]:
    problems = [problem for case in found for problem in case.problems]
    highest = max((label for case in found for label in case.scores or ()), default=0)
    if class_names is None:
        raise_all(problems)
        if highest == 0:
            raise InputError("expected labels above 0 in some prediction or label file, came background only")
        return ("background", *(f"class {label}" for label in range(1, highest + 1)))
    for case in found:
        unknown = sorted(label for label in case.scores or () if label >= len(class_names))
        if unknown:
            problems.append(
                f"case {case.pair.case}: expected labels 0 to {len(class_names) - 1} ({', '.join(class_names)}), "
                f"came also {', '.join(map(str, unknown))} in {case.pair.prediction} or {case.pair.label}"
            )
    raise_all(problems)
    return tuple(class_names)


def _rows(found: Sequence[_Found], classes: int, empty: EmptyRule) -> Iterator[Row]:
    for case in found:
        absent = empty_scores(0, 0, case.shape, case.spacing, empty)
        for label in range(1, classes):
            yield Row(case.pair.case, label, (case.scores or {}).get(label, absent))


def _provenance(found: Sequence[_Found], without_label: int) -> dict[str, Any]:
    digests = [
        hashlib.sha256("\n".join(f"{case.pair.case} {case.digests[side]}" for case in found).encode()).hexdigest()
        for side in (0, 1)
    ]
    return {
        "predictions_sha256": digests[0],
        "labels_sha256": digests[1],
        "predictions_without_label": without_label,
        "matched": {case.pair.case: case.pair.prediction.name for case in found if case.pair.renamed},
        "packages": {name: version(name) for name in ("semiseg", "numpy", "scipy", "nibabel")},
    }
