"""The part of a report that says what was run, under which rules, and how to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from semiseg.evaluation.scores import patients_in
from semiseg.reports.markup import Markup, join, tag
from semiseg.reports.records import Record
from semiseg.reports.tables import facts


def setup(records: Sequence[Record]) -> Markup:
    """Protocol, label budget, provenance and commands of every run."""
    return join(
        tag("article", tag("h3", tag("b", record.key), " ", record.name), *_parts(record)) for record in records
    )


def _parts(record: Record) -> list[Markup]:
    config = tag("details", tag("summary", "Complete settings (config.yaml)"), tag("pre", record.config.to_yaml()))
    return [facts(_rules(record)), facts(_provenance(record.facts)), _deviations(record), _again(record), config]


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


def _deviations(record: Record) -> Markup:
    found = record.facts.get("deviations") or []
    if not found:
        return Markup()
    return join([tag("p", "Deviations from the paper:"), tag("ul", *(tag("li", line) for line in found))])


def _again(record: Record) -> Markup:
    run = str(record.run.path.absolute())
    again = f"{run}-again"
    commands = [
        ["semiseg", "train", "--config", f"{run}/config.yaml", "--output", again],
        ["semiseg", "predict", again],
        ["semiseg", "evaluate", again],
        ["semiseg", "report", run, again, "--output", "both.html"],
    ]
    asked = record.facts.get("command")
    first = tag("p", "Started as ", tag("code", shlex.join(map(str, asked)))) if isinstance(asked, list) else Markup()
    return join(
        [first, tag("p", "To run it again:"), tag("pre", "\n".join(shlex.join(command) for command in commands))]
    )
