"""What a run was trained on, by content, and what has become of it since.

Of cases whose labels a run may not see, only the image counts here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from semiseg.datasets.dataset import Dataset, open_dataset
from semiseg.datasets.splits import Split, read_roles
from semiseg.errors import InputError, some
from semiseg.methods.base import entry
from semiseg.preparing.cases import source_files, within
from semiseg.preparing.store import Source, Store
from semiseg.runs.build import selection_cases
from semiseg.runs.folder import Run
from semiseg.settings.run import RunConfig
from semiseg.system.documents import read_json
from semiseg.system.files import sha256
from semiseg.validation import parse

_log = logging.getLogger(__name__)


class UsedCase(BaseModel):
    """A case as it was trained on.

    Attributes:
        image: sha256 of the prepared image.
        label: sha256 of the prepared label; None where it was not used.
        files: those that both were made from, by their path within the dataset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    label: str | None
    files: dict[str, Source]


class _Facts(BaseModel):
    """The part of `provenance.json` that is read here; runs from before it was written have neither."""

    model_config = ConfigDict(frozen=True)

    cases: dict[str, Any] = {}
    with_label: tuple[str, ...] = ()
    used: dict[str, UsedCase] | None = None


def used_cases(config: RunConfig, split: Split, store: Store, dataset: Dataset) -> dict[str, UsedCase]:
    """Every case that decides the weights of a run: its image, and its label where the run may see it."""
    seen = {*split.labelled, *selection_cases(config, split)}
    hidden = split.unlabelled if entry(config.method).cls.uses_unlabelled else ()
    return {case: _used(store, dataset, case, seen) for case in sorted({*seen, *hidden})}


def _used(store: Store, dataset: Dataset, case: str, seen: Iterable[str]) -> UsedCase:
    meta, shown = store.meta(case), case in seen
    files = within(dataset.root, source_files(dataset.cases[case], label=shown))
    sources = {name: source for name, source in meta.sources.items() if name in files}
    return UsedCase(image=meta.content, label=meta.label_content if shown else None, files=sources)


def changed_cases(run: Run, now: Mapping[str, UsedCase]) -> str:
    """Which cases of a run have another image or label now; empty if none has. A run without hashes is told of."""
    was = _recorded(run).used
    if was is None:
        _log.warning(
            "%s: is of a version that kept no hashes of labels: whether images or labels changed since is not checked",
            run.path,
        )
        return ""
    both = [case for case in was if case in now]
    changed = {
        "images": [case for case in both if was[case].image != now[case].image],
        "labels": [case for case in both if was[case].label != now[case].label],
    }
    return "; ".join(f"{what} changed since: {some(cases)}" for what, cases in changed.items() if cases)


def refuse_other_data(run: Run, config: RunConfig, dataset: Dataset | None = None) -> None:
    """Raise where a finished run would not be the same on the data as it is now.

    Judged by size and time of the files, and by content where these differ. A run whose data are gone stays finished.

    Raises:
        InputError: files changed or are gone, or cases were added or have other roles, in one line.
    """
    facts = _recorded(run)
    if facts.used is None:
        return
    files = {name: source for case in facts.used.values() for name, source in case.files.items()}
    gone = [name for name in files if not (config.data / name).exists()]
    if len(gone) == len(files):
        return
    changed = [name for name in files if name not in gone and _differs(config.data / name, files[name])]
    parts = [
        f"before {some(changed)} changed" if changed else "",
        f"with {some(gone)}, not there any more" if gone else "",
        *_other_cases(run, config, facts, dataset or open_dataset(config.data)),
    ]
    if any(parts):
        raise InputError(
            f"{run.path}: was trained {' and '.join(filter(None, parts))}: choose another --output to train on the "
            "data as they are now"
        )


def _other_cases(run: Run, config: RunConfig, facts: _Facts, dataset: Dataset) -> Iterator[str]:
    """What another split would be made of, or has."""
    named = frozenset[str]()
    if config.split is not None:
        if not config.split.is_file():
            return
        roles, was = read_roles(config.split)[0], run.split().roles
        if any(sorted(cases) != sorted(was[role]) for role, cases in roles.items()):
            yield f"before {config.split} changed"
        named = frozenset(roles)
    added = sorted(dataset.cases.keys() - facts.cases.keys())
    if added and "unlabelled" not in named:
        yield f"without {some(added)}"
    if not named:
        labels = {case.id for case in dataset.cases.values() if case.label is not None} - set(added)
        lost = set(facts.with_label) - labels - (facts.used or {}).keys()
        if labels - set(facts.with_label):
            yield f"without labels of {some(sorted(labels - set(facts.with_label)))}"
        if lost:
            yield f"with labels of {some(sorted(lost))}, not there any more"


def _recorded(run: Run) -> _Facts:
    path = run.path / "provenance.json"
    if not path.is_file():
        return _Facts()
    return parse(_Facts, read_json(path, "the provenance that train wrote"), str(path))


def _differs(path: Path, was: Source) -> bool:
    status = path.stat()
    return (status.st_size, status.st_mtime_ns) != (was.size, was.changed) and sha256(path) != was.sha256
