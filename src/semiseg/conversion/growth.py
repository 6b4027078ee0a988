"""A dataset folder that grows: what was brought in before, and what another call adds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from semiseg.conversion.sources import InitOptions, Sources
from semiseg.datasets.dataset import IMAGES, LABELS
from semiseg.errors import InputError, some
from semiseg.system.documents import read_json
from semiseg.system.files import write_json

STATE = "init.json"
_FIXED = ("channels", "spacing")
"""Options that all cases of a dataset share."""


@dataclass(frozen=True)
class State:
    """What a dataset folder was made of.

    Attributes:
        images, labels: source files by case.
        options: fields of `InitOptions`.
        values: label values found in the sources; empty in folders of versions that did not note them.
    """

    images: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, str]
    options: Mapping[str, Any]
    values: tuple[int, ...] = ()

    def save(self, root: Path) -> None:
        """Write it into the dataset folder."""
        write_json(root / STATE, asdict(self))


@dataclass(frozen=True)
class Growth:
    """Sources of the whole dataset, and what this call does to it.

    Attributes:
        added: cases that were not there.
        labelled: cases that were there and get their first label.
        changed: cases of which image or label come from another file than before.
        left: cases that were there and that this call does not mention.
        options: those of this call, with what an earlier one said of classes, channels and spacing.
    """

    sources: Sources
    options: InitOptions
    added: tuple[str, ...]
    labelled: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What was added, changed and left, for people."""
        told = {"added": self.added, "labels added": self.labelled, "changed": self.changed}
        lines = [f"{what}: {len(cases)} ({some(cases)})" for what, cases in told.items() if cases]
        return [*lines, f"left as they are: {len(self.left)}"] if self.left else lines


def state_of(root: Path) -> State | None:
    """What the dataset in `root` was made of; None where there is none.

    Raises:
        InputError: a dataset lies there that `init` did not make.
    """
    if (root / STATE).is_file():
        found = read_json(root / STATE, "the record of what the dataset was made of")
        try:
            images = {case: tuple(paths) for case, paths in found["images"].items()}
            return State(images, dict(found["labels"]), dict(found["options"]), tuple(found.get("values", ())))
        except (KeyError, TypeError, AttributeError):
            raise InputError(f"{root / STATE}: expected images, labels and options: make the dataset anew") from None
    if any((root / name).exists() for name in ("dataset.json", IMAGES, LABELS)):
        raise InputError(
            f"{root}: expected a new folder, or one that semiseg init made, came a dataset of another origin: choose "
            "another folder, or add its files by hand"
        )
    return None


def grown(before: State | None, sources: Sources, options: InitOptions, root: Path) -> Growth:
    """`sources` put to those that the dataset in `root` has already.

    A case is known by its source file, so it keeps its name; another file under its name replaces it.

    Raises:
        InputError: channels or spacing are said to be others than before.
    """
    if before is None:
        return Growth(sources, options, tuple(sources.images))
    options = _options(before, options, root)
    named = {paths: case for case, paths in before.images.items()}
    names = {case: named.get(_absolute(paths), case) for case, paths in sources.images.items()}
    images = {names[case]: paths for case, paths in sources.images.items()}
    labels = {names[case]: path for case, path in sources.labels.items()}
    _check_channels(before, images, root)
    known = [case for case in images if case in before.images]
    changed = [
        case
        for case in known
        if before.images[case] != _absolute(images[case])
        or (case in labels and case in before.labels and before.labels[case] != str(labels[case].resolve()))
    ]
    earlier = {case: tuple(map(Path, paths)) for case, paths in before.images.items()}
    whole = replace(
        sources,
        images=dict(sorted((earlier | images).items())),
        labels=dict(sorted(({case: Path(path) for case, path in before.labels.items()} | labels).items())),
    )
    return Growth(
        whole,
        options,
        added=tuple(case for case in images if case not in before.images),
        labelled=tuple(case for case in known if case in labels and case not in before.labels),
        changed=tuple(changed),
        left=tuple(case for case in before.images if case not in images),
    )


def state_after(growth: Growth, values: tuple[int, ...]) -> State:
    """The record of a grown dataset, in which label files hold `values`."""
    return State(
        {case: _absolute(paths) for case, paths in growth.sources.images.items()},
        {case: str(path.resolve()) for case, path in growth.sources.labels.items()},
        json.loads(json.dumps(asdict(growth.options))),
        values,
    )


def _absolute(paths: tuple[Path, ...]) -> tuple[str, ...]:
    return tuple(str(path.resolve()) for path in paths)


def _options(before: State, options: InitOptions, root: Path) -> InitOptions:
    """`options` with the earlier ones where nothing is said now."""
    now = json.loads(json.dumps(asdict(options)))
    problems = [
        f"{root}: --{name} was {before.options.get(name) or 'not given'}, now {now[name]}: all cases of a dataset have "
        "the same: choose another folder, or leave it out"
        for name in _FIXED
        if now[name] and now[name] != before.options.get(name)
    ]
    if problems:
        raise InputError(*problems)
    spacing = before.options.get("spacing")
    return replace(
        options,
        classes=options.classes or tuple(before.options.get("classes", ())),
        channels=tuple(before.options.get("channels", ())),
        patients=options.patients or before.options.get("patients"),
        spacing=tuple(spacing) if spacing else None,
    )


def _check_channels(before: State, images: Mapping[str, tuple[Path, ...]], root: Path) -> None:
    counts = {len(paths) for paths in before.images.values()}
    odd = [case for case, paths in images.items() if len(paths) not in counts]
    if odd:
        raise InputError(
            f"{root}: expected {' or '.join(map(str, sorted(counts)))} file(s) per case as before, came "
            f"{len(images[odd[0]])} for {some(odd)}: name the channels as the first call did"
        )
