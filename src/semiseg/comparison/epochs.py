"""One length of an epoch for everything that is compared: a pass over all training cases, labelled or not.

A method counts passes over the unlabelled cases, one that uses none over the labelled ones: two of 216 are an epoch of
one step for a control where a method's has a hundred, and all 216 are five times as many for the bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semiseg.comparison.cells import Cell, with_config
from semiseg.comparison.opened import Opened
from semiseg.preparing.plan import Plan
from semiseg.settings import presets
from semiseg.settings.run import RunConfig


def with_epochs(
    cells: Sequence[Cell], plans: Mapping[str, Plan] | None = None, opened: Opened | None = None
) -> list[Cell]:
    """The cells with `epoch_steps`, where something counts epochs and their protocol is not `paper`.

    Args:
        cells: with a split each; a number of cases that is not known yet is taken from the preset, if that tells it.
        plans: by `place_of`; without one, numbers of patches that settings leave to it, and so the epochs, stay open.
        opened: what is open already.
    """
    pools = _Pools(cells, opened or Opened())
    return [_with_epoch(cell, pools.size(cell), (plans or {}).get(place_of(cell))) for cell in cells]


def place_of(cell: Cell) -> str:
    """What decides the prepared data of a cell."""
    return str((cell.config.data, cell.config.prepared, cell.preset))


def counts_epochs(config: RunConfig) -> bool:
    """Whether the length, the schedule of the rate or the validation of a run counts epochs."""
    validates = config.select == "best" and config.validate_unit == "epoch"
    return config.epochs is not None or config.optimiser.unit == "epoch" or validates


def _with_epoch(cell: Cell, pool: int | None, plan: Plan | None) -> Cell:
    config = cell.config
    if config.protocol == "paper" or config.epoch_steps is not None or pool is None or not counts_epochs(config):
        return cell
    labelled, unlabelled = config.batch.labelled, config.batch.unlabelled
    if plan is not None:
        labelled = labelled or plan.labelled_per_batch
        unlabelled = plan.unlabelled_per_batch if unlabelled is None else unlabelled
    if labelled is None or unlabelled is None:
        return cell
    return with_config(cell, epoch_steps=-(-pool // (unlabelled or labelled)))


class _Pools:
    """Numbers of training cases, labelled or not."""

    def __init__(self, cells: Sequence[Cell], opened: Opened) -> None:
        self._of_bound = {(cell.preset, cell.bound): cell for cell in reversed(cells) if cell.role != "bound"}
        self._opened = opened

    def size(self, cell: Cell) -> int | None:
        """Of the split of a cell; a bound, which has all labels, belongs to the cases of the budgets beside it."""
        beside = self._of_bound.get((cell.preset, cell.budget), cell) if cell.role == "bound" else cell
        config = beside.config
        if config.data.is_dir() and config.split is not None and config.split.is_file():
            found = self._opened.split(config)
            return len(found.labelled) + len(found.unlabelled)
        total = presets.preset(cell.preset).budgets.get("all") if cell.preset else None
        return total.cases if total else None
