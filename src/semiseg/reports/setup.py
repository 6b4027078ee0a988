"""The part of a report that says how a run was made, under which rules, and how to make it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from semiseg.evaluation.scores import patients_in
from semiseg.reports.records import Record


@dataclass(frozen=True)
class Setup:
    """Protocol, label budget, provenance and commands of a run; `facts` are groups of names and values."""

    record: Record
    facts: tuple[tuple[tuple[str, object], ...], ...]
    deviations: tuple[str, ...]
    started: str
    again: str


def setup(record: Record) -> Setup:
    """The setup of a run."""
    groups = _rules(record), _provenance(record.facts)
    facts = tuple(tuple(pair for pair in group if pair[1] not in (None, "", (), [])) for group in groups)
    asked = record.facts.get("command")
    started = shlex.join(map(str, asked)) if isinstance(asked, list) else ""
    deviations = tuple(map(str, record.facts.get("deviations") or ()))
    return Setup(record, facts, deviations, started, _again(record))


def _rules(record: Record) -> list[tuple[str, object]]:
    split, budget = record.split, record.facts.get("label_budget", {})
    opened = record.scores.provenance.get("test_opened") if record.scores else None
    selected = "the last step's" if record.config.select == "last" else f"best on {record.config.selects_on} scans"
    return [
        ("protocol", record.facts.get("protocol", record.config.protocol)),
        ("stamps", ", ".join(record.stamps) or "none"),
        (
            "label budget",
            f"{budget.get('training', '?')} labelled scans for training + {budget.get('selection', '?')} for selection",
        ),
        ("labelled cases", ", ".join(split.labelled)),
        ("unlabelled cases", len(split.unlabelled)),
        ("validation cases", ", ".join(split.validation)),
        ("test cases", len(split.test)),
        ("test patients", _patients(record.facts)),
        ("test labels opened", f"{opened} time(s) by semiseg evaluate" if opened else None),
        ("weights taken", selected),
        ("based on preset", record.config.based_on),
        ("note of the split", split.note),
    ]


def _patients(facts: Mapping[str, Any]) -> str:
    count = len(set(patients_in(facts).values()))
    return str(count) if count else "not in the run: each case counts as a patient of its own"


def _provenance(found: Mapping[str, Any]) -> list[tuple[str, object]]:
    packages = found.get("packages")
    versions = ", ".join(f"{name} {value}" for name, value in packages.items() if value) if packages else None
    cases = found.get("cases")
    return [
        ("started", found.get("started")),
        ("device", found.get("device")),
        ("processes", found.get("processes")),
        ("precision", found.get("precision")),
        ("software", versions),
        ("Python, platform", f"{found.get('python', '?')}, {found.get('platform', '?')}"),
        ("source state (git)", found.get("git")),
        ("hash of the split", found.get("split")),
        (
            "prepared cases",
            f"{len(cases)}, the hash of each is in provenance.json" if isinstance(cases, dict) else None,
        ),
    ]


def _again(record: Record) -> str:
    """Commands that run it again, a line each."""
    run = str(record.run.path.absolute())
    again = f"{run}-again"
    commands = [
        ["semiseg", "train", "--config", f"{run}/config.yaml", "--output", again],
        ["semiseg", "predict", again],
        ["semiseg", "evaluate", again],
        ["semiseg", "report", run, again, "--output", "both.html"],
    ]
    return "\n".join(shlex.join(command) for command in commands)
