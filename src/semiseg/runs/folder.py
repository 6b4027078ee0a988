"""The run folder: what was asked, on what data, by which software."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from semiseg.datasets.splits import Split, read_roles, save_split
from semiseg.errors import InputError, some
from semiseg.preparing.plan import Plan
from semiseg.settings.run import RunConfig
from semiseg.system.documents import read_json
from semiseg.system.files import refuse_links, write_json, write_text
from semiseg.validation import parse, read_mapping

_WRITTEN = ("log.jsonl", "log.txt", "checkpoints", "tensorboard", "predictions")
"""What a run writes to without replacing it."""

_PLACES = ("data", "prepared", "split")
"""Settings that say where something lies; what it is, plan, split and hashes of the cases tell."""

_PACKAGES = ("semiseg", "torch", "lightning-fabric", "numpy", "scipy", "nibabel")


INFERENCE = "inference.json"
"""File beside predictions that says how they were made."""


@dataclass(frozen=True)
class Run:
    """A run folder, `Run("runs/first")`, and the files in it."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def predictions(self) -> Path:
        """Folder of the predicted label files."""
        return self.path / "predictions"

    @property
    def log(self) -> Path:
        """One JSON object per logged step."""
        return self.path / "log.jsonl"

    def config(self) -> RunConfig:
        """The configuration that the run was started with."""
        if not (self.path / "config.yaml").is_file():
            raise InputError(f"{self.path}: no run folder (config.yaml is missing): give the folder that train wrote")
        return parse(RunConfig, read_mapping(self.path / "config.yaml"), str(self.path / "config.yaml"))

    def plan(self) -> Plan:
        """The plan that the run was trained with."""
        return Plan.load(self.path / "plan.json")

    def split(self) -> Split:
        """The roles of the cases."""
        roles, note = read_roles(self.path / "split.json")
        return Split(**{role: tuple(cases) for role, cases in roles.items()}, note=note)

    @property
    def begun(self) -> bool:
        """Whether it has weights that would be lost with it: a checkpoint, or the final ones."""
        return any(self.checkpoints.glob("*.json"))

    @property
    def finished(self) -> bool:
        """Whether the final weights have been written."""
        return (self.checkpoints / "final.json").is_file()


def start(
    run: Run,
    config: RunConfig,
    plan: Plan,
    split: Split,
    facts: dict[str, Any],
    changed: Callable[[], str] = lambda: "",
) -> None:
    """Write the documents of a new run, or check that the folder belongs to the same one.

    A run without any checkpoint is replaced. The same dataset may lie in another place than before.

    Args:
        run, config, plan, split: the run as it is asked for.
        facts: what its provenance tells besides software and machine.
        changed: tells which cases have other images or labels than the run in the folder was trained on.

    Raises:
        InputError: the folder holds a run with other settings, plan, split or data; every difference is named.
    """
    refuse_links(run.path, *_WRITTEN, remedy="remove the link, or choose another folder with --output")
    if (run.path / "config.yaml").exists() and run.begun:
        _check_same(run, config, plan, split, changed)
        if run.config() != config:  # the same data in another place
            write_text(run.path / "config.yaml", config.to_yaml())
        return
    write_json(run.path / "provenance.json", provenance(facts))
    plan.save(run.path / "plan.json")
    save_split(split, run.path / "split.json")
    write_text(run.path / "config.yaml", config.to_yaml())


def _check_same(run: Run, config: RunConfig, plan: Plan, split: Split, other_data: Callable[[], str]) -> None:
    was, now = run.config().model_dump(mode="json"), config.model_dump(mode="json")
    hashed = "used" in read_json(run.path / "provenance.json", "how the run came about")
    differing = [name for name in now if was[name] != now[name] and not (hashed and name in _PLACES)]
    changed = [f"{name}: was {was[name]!r}, now {now[name]!r}" for name in differing]
    if run.plan().digest != plan.digest:
        changed.append("plan.json differs: the dataset was prepared anew")
    elif found := other_data():
        changed.append(found)
    if run.split().digest != split.digest:
        changed.append(f"the split differs: {_split_difference(run.split(), split)}")
    if changed:
        raise InputError(
            f"{run.path}: holds a run with other settings or data: choose another --output, restore these, or delete "
            "the folder to begin anew",
            *(f"  {change}" for change in changed),
        )


def _split_difference(was: Split, now: Split) -> str:
    before, after = ({case: role for role, cases in each.roles.items() for case in cases} for each in (was, now))
    kinds = {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "in another role": sorted(case for case in before if after.get(case, before[case]) != before[case]),
    }
    return "; ".join(f"{kind}: {some(cases)}" for kind, cases in kinds.items() if cases)


def provenance(facts: dict[str, Any]) -> dict[str, Any]:
    """Software, machine, time and source state, together with `facts`."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [_program(), *sys.argv[1:]],
        "packages": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": _git_state(),
        **facts,
    }


def _program() -> str:
    """`semiseg`, however the command line was started, or the name of a person's script."""
    started = Path(sys.argv[0])
    own = started.resolve().is_relative_to(Path(__file__).parents[1])
    return "semiseg" if own else started.name


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_state() -> str | None:
    """Commit of the package's own checkout, marked `+changes` when it has uncommitted ones."""
    folder = Path(__file__).parent
    try:  # every word is ours, and git is where the user has it
        answer = subprocess.run(  # nosec B603 B607
            ["git", "-C", str(folder), "describe", "--always", "--dirty=+changes", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
