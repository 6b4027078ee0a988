"""A run as a report knows it: the documents of its folder, read once; nothing is computed anew or guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.datasets.splits import Split
from semiseg.errors import InputError, raise_all
from semiseg.evaluation.score_files import load_scores
from semiseg.evaluation.scores import Scores
from semiseg.methods.base import entry
from semiseg.preparing.plan import Plan
from semiseg.runs.folder import Run
from semiseg.runs.logging import read_log
from semiseg.settings.run import RunConfig
from semiseg.system.documents import read_json

_MOST = 1e300


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        index: position in the report.
        name: the folder's name, with as many parents as it takes to tell runs apart.
        facts: provenance.json.
        log: records of log.jsonl.
        scores: None before `semiseg evaluate`.
    """

    index: int
    name: str
    run: Run
    config: RunConfig
    plan: Plan
    split: Split
    facts: dict[str, Any]
    log: tuple[dict[str, Any], ...]
    scores: Scores | None

    @property
    def key(self) -> str:
        """`A`, `B`, ...: what the run is called in charts, so that no colour has to be recognised."""
        return key_of(self.index)

    @property
    def stamps(self) -> tuple[str, ...]:
        """Words for what the results owe to labels that a user would not have."""
        return tuple(map(str, self.facts.get("stamps") or ()))

    @property
    def unlabelled(self) -> int:
        """Unlabelled scans that the method was given; supervised ones get none."""
        return len(self.split.unlabelled) if entry(self.config.method).cls.uses_unlabelled else 0

    @property
    def steps(self) -> int:
        """Steps that the log has."""
        return max((int(line["step"]) for line in self.log), default=0)

    def names(self, group: str) -> list[str]:
        """Names of the numbers that the log has in `group` (`loss`, `observed`, `validation`), in order."""
        found: dict[str, None] = {}
        for line in self.log:
            if isinstance(line.get(group), dict):
                found |= dict.fromkeys(line[group])
        return list(found)

    def curve(self, group: str, name: str | None = None) -> list[tuple[int, float]]:
        """Steps and values of a number of the log."""
        found = self.values(group, name)
        return [(step, float(value)) for step, value in found if isinstance(value, int | float) and abs(value) < _MOST]

    def values(self, group: str, name: str | None = None) -> Iterator[tuple[int, Any]]:
        """Steps and whatever the log holds under a name."""
        for line in self.log:
            found = line.get(group)
            value = found if name is None else found.get(name) if isinstance(found, dict) else None
            if value is not None:
                yield int(line["step"]), value


def read_records(paths: Sequence[Path]) -> list[Record]:
    """The runs in these folders, in this order.

    Raises:
        InputError: a folder is no run or a document of it cannot be read (all are named), or one is given twice.
    """
    if not paths:
        raise InputError("expected at least one run folder, came none")
    places = [path.absolute() for path in paths]
    real = [path.resolve() for path in paths]
    problems = [f"{path}: given twice: name every run once" for path in sorted(set(real)) if real.count(path) > 1]
    records = []
    for index, (path, name) in enumerate(zip(paths, _names(places), strict=True)):
        try:
            records.append(_read(path, index, name))
        except InputError as error:
            problems += error.problems
    raise_all(problems)
    return records


def key_of(index: int) -> str:
    """`A` ... `Z`, `AA` ... for 0, 1, ..."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _read(path: Path, index: int, name: str) -> Record:
    run = Run(path)
    config = run.config()
    scores = load_scores(path) if (path / "scores.csv").is_file() else None
    log = tuple(read_log(run.log))
    facts = read_json(path / "provenance.json", "the provenance that train wrote")
    return Record(index, name, run, config, run.plan(), run.split(), facts, log, scores)


def _names(places: Sequence[Path]) -> list[str]:
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(set(places)):
            break
    return names
