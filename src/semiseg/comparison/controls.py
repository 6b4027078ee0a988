"""Controls that had what the methods had: as many updates on as many labelled patches, and networks of their kind.

A gain over a control that was trained for fewer updates, or on fewer labels per update, is no gain by unlabelled scans.
So the plain control takes the length, the batch and the schedule of the rate of the methods beside it, one control for
each length that there is; and a method that updates several times per batch, or predicts with several networks, has a
control that does so too. Under `protocol: paper` the control is trained as printed, and the tables tell the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semiseg.comparison.grid import PAIR, Grid
from semiseg.methods.base import entry
from semiseg.settings.run import RunConfig
from semiseg.speed.operations import kind_of

_SCHEDULE = ("schedule", "power", "every", "factor", "unit", "lag", "length", "warmup")
"""Settings of the optimiser that belong to the length of a run."""


@dataclass(frozen=True)
class Control:
    """A control by its name in tables; `plain` is one network with one update per batch."""

    label: str
    config: RunConfig
    plain: bool = True


@dataclass(frozen=True)
class Controls:
    """The controls of a place in the grid.

    Attributes:
        found: each once, plain ones first.
        plain: name of the plain control of each method, in the methods' order.
        kin: name of the control of its kind, "" where that is the plain one.
    """

    found: tuple[Control, ...]
    plain: tuple[str, ...]
    kin: tuple[str, ...]


def controls_of(grid: Grid, own: RunConfig, methods: Sequence[RunConfig]) -> Controls:
    """The controls of `methods`; `own` are the settings of the control where nothing stands beside it.

    Methods that use no unlabelled scans are controls themselves and ask for none of their own.

    Raises:
        InputError: a method and its network do not fit together.
    """
    plain: dict[str, Control] = {}
    kin: dict[str, Control] = {}
    named: list[tuple[str, str]] = []
    learners = [config for config in methods if _uses_unlabelled(config)]
    for config in learners or [own]:
        control = matched(grid, own, config)
        plain.setdefault(control.label, control)
    for config in methods:
        label = matched(grid, own, config).label
        control = plain.get(label) or next(iter(plain.values()))
        wanted = grid.control and grid.controls == "all" and _uses_unlabelled(config)
        other = _of_kind(grid, control, config) if wanted else None
        if other is not None:
            kin.setdefault(other.label, other)
        named.append((control.label, other.label if other else ""))
    return Controls((*plain.values(), *kin.values()), *_parted(named))


def _parted(named: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(plain for plain, _ in named), tuple(kin for _, kin in named)


def _uses_unlabelled(config: RunConfig) -> bool:
    return entry(config.method).cls.uses_unlabelled


def matched(grid: Grid, own: RunConfig, beside: RunConfig) -> Control:
    """`own` with the updates, labelled patches and schedule of `beside`, named by them where they are not its own."""
    name = grid.control_entry.label
    if _length(own) == _length(beside) or "paper" in (own.protocol, beside.protocol):
        return Control(name, own)
    schedule = {setting: getattr(beside.optimiser, setting) for setting in _SCHEDULE}
    patches = {setting: getattr(beside.batch, setting) for setting in ("labelled", "unlabelled")}
    changes = {
        "steps": beside.steps,
        "epochs": beside.epochs,
        "batch": own.batch.model_copy(update=patches),
        "optimiser": own.optimiser.model_copy(update=schedule),
    }
    return Control(f"{name}-{_words(beside)}", own.model_copy(update=changes))


def _length(config: RunConfig) -> tuple[int | None, ...]:
    """Steps, or epochs and what decides their steps, and labelled patches per step."""
    batch = config.batch
    return (batch.labelled, config.epochs, batch.unlabelled) if config.epochs else (batch.labelled, config.steps)


def _words(config: RunConfig) -> str:
    """`15000x2`, `201epochsx2`: the length, and labelled patches per step where they are set; `5epochsx2of6` where a
    pass over the cases takes other patches.
    """
    labelled, unlabelled = config.batch.labelled, config.batch.unlabelled
    patches = f"x{labelled}" if labelled else ""
    if not config.epochs:
        return f"{config.steps}{patches}"
    other = unlabelled is not None and unlabelled not in (0, labelled)
    return f"{config.epochs}epochs{patches}" + (f"of{(labelled or 0) + (unlabelled or 0)}" if other else "")


def _of_kind(grid: Grid, plain: Control, method: RunConfig) -> Control | None:
    """The control of the method's kind; None where that is the plain one, or the protocol prints its own."""
    if "paper" in (plain.config.protocol, method.protocol):
        return None
    kind = kind_of(method)
    label, config = plain.label, plain.config
    if kind.networks > 1:
        label = grid.free_name(PAIR) + label.removeprefix(grid.control_entry.label)
        config = config.model_copy(update={"method": PAIR})
    if kind.updates > 1:
        label += f"-{kind.updates}x-updates"
        config = _stretched(config, kind.updates)
    return Control(label, config, plain=False) if label != plain.label else None


def _stretched(config: RunConfig, times: int) -> RunConfig:
    """A run of `times` as many updates, its schedule stretched likewise."""
    old = config.optimiser
    schedule = {"every": old.every * times, "length": old.length and old.length * times, "warmup": old.warmup * times}
    return config.model_copy(
        update={
            "steps": config.steps * times,
            "epochs": config.epochs and config.epochs * times,
            "optimiser": old.model_copy(update=schedule),
        }
    )
