"""One split file per budget and subset, all with the same test cases, and one for each bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from semiseg.comparison.budgets import ALL
from semiseg.comparison.cells import Cell, with_config
from semiseg.comparison.opened import Opened
from semiseg.datasets.splits import Split, draw_split, patient_groups, save_split
from semiseg.errors import InputError
from semiseg.validation import read_mapping

_DRAWN = {"labelled": None, "test": 0, "validation": 0}
"""Settings that a split file replaces."""


def with_splits(cells: Sequence[Cell], output: Path, opened: Opened | None = None) -> list[Cell]:
    """The cells with a split file each, and as many bounds as there are sets of training and test cases.

    Files that a cell lacks are named, in the folder `splits` of `output`, but not written.
    """
    named = [_named(cell, output) if cell.config.split is None else cell for cell in cells]
    pools = _pools([cell for cell in named if cell.role != "bound"], output, opened or Opened())
    return [*_belonging(named, pools), *_bounds(named, pools, output)]


def write_splits(cells: Sequence[Cell], drafts: Sequence[Cell], output: Path, opened: Opened | None = None) -> None:
    """Write the split files that `with_splits` named, once every dataset is prepared.

    Args:
        cells: the cells with splits.
        drafts: the same before, as the numbers to draw stand there.
        output: folder of the comparison.
        opened: what is open already.

    Raises:
        InputError: the numbers cannot be drawn, or a file is there with another content.
    """
    opened = opened or Opened()
    done: set[Path | None] = set()
    for draft in drafts:
        path = _named(draft, output).config.split
        if draft.config.split is None and draft.role != "bound" and path is not None and path not in done:
            _write(path, _draw(draft, drafts, opened))
            done.add(path)
    for cell in cells:
        path = cell.config.split
        if cell.role == "bound" and path is not None and path not in done:
            source = next(other for other in cells if other.role != "bound" and other.bound == cell.budget)
            _write(path, _all_labels(source, opened))
            done.add(path)


@dataclass(frozen=True)
class _Pool:
    """Cases that training may use, and those that are scored; None where they are yet to be drawn."""

    training: tuple[str, ...] | None
    test: tuple[str, ...] | None


def _named(cell: Cell, output: Path) -> Cell:
    draw = f"_d{cell.subset}" if cell.subset else ""
    return with_config(cell, split=output / "splits" / f"{cell.budget}{draw}.json", **_DRAWN)


def _is_ours(cell: Cell, output: Path) -> bool:
    return cell.config.split is not None and cell.config.split.parent == output / "splits"


def _pools(cells: Sequence[Cell], output: Path, opened: Opened) -> dict[Path | None, _Pool]:
    """The pool of every split file."""
    found: dict[Path | None, _Pool] = {}
    for cell in cells:
        path = cell.config.split
        if path is None or path in found:
            continue
        if _is_ours(cell, output):
            found[path] = _Pool(None, None)
        else:
            split = opened.split(cell.config)
            found[path] = _Pool(tuple(sorted((*split.labelled, *split.unlabelled))), split.test)
    return found


def _belonging(cells: Sequence[Cell], pools: Mapping[Path | None, _Pool]) -> Iterator[Cell]:
    names = _bound_names(pools)
    for cell in cells:
        if cell.role != "bound":
            yield replace(cell, bound=names[pools[cell.config.split]])


def _bound_names(pools: Mapping[Path | None, _Pool]) -> dict[_Pool, str]:
    """`all`, `all-2` ...: one name per set of training and test cases."""
    distinct = dict.fromkeys(pools.values())
    return {pool: f"{ALL.name}-{number}" if number > 1 else ALL.name for number, pool in enumerate(distinct, start=1)}


def _bounds(cells: Sequence[Cell], pools: Mapping[Path | None, _Pool], output: Path) -> Iterator[Cell]:
    for cell in cells:
        if cell.role == "bound":
            for name in _bound_names(pools).values():
                here = output / "splits" / f"{name}.json"
                yield with_config(replace(cell, budget=name, bound=name), split=here, **_DRAWN)


def _draw(cell: Cell, drafts: Sequence[Cell], opened: Opened) -> Split:
    """The cases of a budget and subset: test cases once for all, labelled and validation cases from the rest."""
    config = cell.config
    dataset, store = opened.dataset_of(config), opened.store(config)
    content = {case: store.meta(case).content for case in store.cases}
    voxels = {case: counts for case in store.cases if (counts := store.meta(case).voxels) is not None}
    smallest = min(other.config.labelled or len(voxels) for other in drafts if other.config.split is None)
    kept = draw_split(dataset, voxels, smallest, config.split_seed, test=config.test, content=content).test
    rest = {case: counts for case, counts in voxels.items() if case not in kept}
    seed = config.split_seed + cell.subset
    labelled = config.labelled or len(rest) - config.validation
    drawn = draw_split(dataset, rest, labelled, seed, validation=config.validation, content=content)
    group = patient_groups(dataset, content)
    away = {group[case] for case in kept}
    unlabelled = tuple(case for case in drawn.unlabelled if case not in kept and group[case] not in away)
    note = f"drawn with seed {seed}: {labelled} labelled, {config.validation} validation; test cases common to all"
    return replace(drawn, unlabelled=unlabelled, test=kept, note=note)


def _all_labels(cell: Cell, opened: Opened) -> Split:
    """The split of a cell with all labels that its training cases have."""
    split, dataset = opened.split(cell.config), opened.dataset_of(cell.config)
    training = (*split.labelled, *split.unlabelled)
    labelled = tuple(case for case in training if dataset.cases[case].label is not None)
    return replace(split, labelled=labelled, unlabelled=(), note=f"all labels of {Path(str(cell.config.split)).stem}")


def _write(path: Path, split: Split) -> None:
    if path.is_file():
        _check_same(path, split)
    else:
        save_split(split, path)


def _check_same(path: Path, split: Split) -> None:
    values = read_mapping(path)
    if {role: tuple(values.get(role, ())) for role in split.roles} != split.roles:
        raise InputError(
            f"{path}: holds another split than these settings and data give: choose another --output, or restore them"
        )
