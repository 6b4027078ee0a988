"""What commands leave on the disk: equal or not, whole or not.

Left out of every comparison, by name: times (`started`, `seconds`, `patches_per_second` ...), memory, the command's
words, how often test labels were opened (a killed evaluation has opened them), TensorBoard events, what processes of a
comparison printed, locks, and what cells cost (a cell that is killed before it has noted that does not know it).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.errors import InputError
from semiseg.evaluation.score_files import load_scores
from semiseg.prediction.predict import load_predictor
from semiseg.preparing.store import CaseFiles, open_store
from semiseg.runs import checkpoint
from semiseg.runs.folder import Run
from semiseg.scans.readers import read_label

VARYING = frozenset(
    {
        "started",
        "command",
        "git",
        "times",
        "test_opened",
        "seconds",
        "seconds_per_step",
        "patches_per_second",
        "peak_memory",
    }
)
"""Keys of JSON files that hold times, memory, words of the command, state of the sources, number of openings."""
SKIPPED = (".lock", ".log", ".speed.json", ".cost.json", ".said", "log.txt")
COSTS = ("costs.csv", "costs.md", "costs.tex")

Digests = dict[str, set[str]]


def artefacts(root: Path) -> Iterator[tuple[str, Path]]:
    """Files below `root` that are compared, by their path in it."""
    for path in sorted(root.rglob("*")):
        skipped = path.name.endswith(SKIPPED) or path.name in COSTS or "tensorboard" in path.parts
        if path.is_file() and not skipped:
            yield path.relative_to(root).as_posix(), path


def digest(path: Path, name: str) -> str:
    """Hash of what the file `path` holds under the name `name`, but for what varies."""
    content = path.read_bytes()
    if name.endswith(".json"):
        content = json.dumps(_steady(json.loads(content)), sort_keys=True).encode()
    elif name.endswith(".jsonl"):
        content = "\n".join(_lines(content)).encode()
    return hashlib.sha256(content).hexdigest()


def contents(root: Path) -> dict[str, str]:
    """Digest of every artefact below `root`."""
    return {name: digest(path, name) for name, path in artefacts(root)}


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(item) for key, item in value.items() if key not in VARYING}
    return [_steady(item) for item in value] if isinstance(value, list) else value


def _lines(content: bytes) -> list[str]:
    """The whole records of a log; the last line may be cut."""
    found = []
    for line in content.decode().splitlines():
        with suppress(ValueError):
            found.append(json.dumps(_steady(json.loads(line)), sort_keys=True))
    return found


def problems(root: Path, known: Mapping[str, set[str]], whole: Path) -> Iterator[str]:
    """What a reader would take for whole in the folder `root` of a killed command, and is not.

    Args:
        root: what the kill left.
        known: digests of all that an undisturbed command ever renames into place, by name.
        whole: what an undisturbed command leaves.
    """
    for name, path in artefacts(root):
        if path.name.endswith(".part"):
            continue
        if name.endswith(".jsonl"):
            if not set(_lines(path.read_bytes())) <= set(_lines((whole / name).read_bytes())):
                yield f"{name}: records that an undisturbed run does not write"
            continue
        try:
            found = digest(path, name)
        except ValueError as error:
            yield f"{name}: no JSON ({error})"
            continue
        if found not in known.get(name, ()):
            yield f"{name}: content that an undisturbed command never puts there"
    for folder in sorted({path.parent for _, path in artefacts(root)} | {root}):
        yield from _read(folder, whole / folder.relative_to(root))


def _read(folder: Path, whole: Path) -> Iterator[str]:
    """Whatever the product's own readers accept in `folder` must be as in the undisturbed `whole`."""
    if folder.name == "store":
        yield from _read_store(folder)
    elif folder.name == "checkpoints":
        yield from _read_checkpoints(folder)
    elif folder.name == "predictions":
        for path in sorted(folder.glob("*.nii.gz")):
            if not np.array_equal(read_label(path).array, read_label(whole / path.name).array):
                yield f"{path}: another label"
    elif (folder / "scores.json").is_file():
        with suppress(InputError):
            if repr(load_scores(folder).rows) != repr(load_scores(whole).rows):
                yield f"{folder}: other scores"


def _read_store(folder: Path) -> Iterator[str]:
    with suppress(InputError):
        open_store(folder.parent)
    for path in sorted(folder.glob("*.json")):
        files = CaseFiles(folder, path.stem)
        meta = files.read_meta()
        if meta is None:
            continue
        pairs = [(files.image, meta.content), (files.label, meta.label_content)]
        for file, wanted in pairs:
            if wanted is not None and hashlib.sha256(np.load(file).tobytes()).hexdigest() != wanted:
                yield f"{file}: not what its JSON says"


def _read_checkpoints(folder: Path) -> Iterator[str]:
    for record in sorted(folder.glob("*.json")):
        with suppress(InputError):
            found = checkpoint.load(folder, record.stem)
            if not all(bool(tensor.isfinite().all()) for tensor in found.tensors.values()):
                yield f"{record}: tensors that are not finite"
    run = Run(folder.parent)
    if run.finished:
        try:
            load_predictor(run, accelerator="cpu")
        except InputError as error:
            yield f"{run.path}: counts as finished, and cannot predict: {error}"
