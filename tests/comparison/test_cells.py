"""Which trainings a grid means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from semiseg.comparison.cells import cells_of
from semiseg.comparison.grid import load_grid
from semiseg.comparison.splits import with_splits, write_splits
from semiseg.datasets.splits import Split
from semiseg.errors import InputError
from semiseg.validation import read_mapping
from tiny import tiny_dataset
from toy_grid import toy_grid


def roles(path: Path) -> Split:
    values = read_mapping(path)
    return Split(*(tuple(values[role]) for role in ("labelled", "unlabelled", "validation", "test")))


def test_the_grid_is_complete_with_control_and_bound(tmp_path: Path) -> None:
    grid = toy_grid(tmp_path, methods=["micd", "cps"], labelled=[2, 4], seeds=2, subsets=3)
    cells = cells_of(grid)
    assert len({cell.name for cell in cells}) == len(cells) == 2 * (2 * 3 * 4 + 1)
    for seed in range(2):
        for subset in range(3):
            for budget in ("l2", "l4"):
                here = [c for c in cells if (c.budget, c.subset, c.seed) == (budget, subset, seed)]
                assert [(c.label, c.role) for c in here] == [
                    ("supervised", "control"),
                    ("supervised_pair", "control"),  # both predict with two networks
                    ("micd", "method"),
                    ("cps", "method"),
                ]
                assert {(c.control, c.kin) for c in here[2:]} == {("supervised", "supervised_pair")}
        bounds = [c for c in cells if c.role == "bound" and c.seed == seed]
        assert [(c.config.method, c.config.labelled) for c in bounds] == [("supervised", None)]


def test_the_control_is_matched(tmp_path: Path) -> None:
    """Nothing but the method differs between a method's cell, its control and its bound."""
    same = {"method", "labelled"}
    first, *others = cells_of(toy_grid(tmp_path))
    for other in others:
        assert first.config.model_dump(exclude=same) == other.config.model_dump(exclude=same)


def test_control_and_bound_are_left_out_only_on_request(tmp_path: Path) -> None:
    assert [cell.role for cell in cells_of(toy_grid(tmp_path, control=False, bound=False))] == ["method"]


def test_supervised_among_the_methods_is_the_control(tmp_path: Path) -> None:
    cells = cells_of(toy_grid(tmp_path, methods=["supervised", "micd"]))
    assert [(cell.label, cell.role) for cell in cells] == [
        ("supervised", "control"),
        ("supervised_pair", "control"),
        ("micd", "method"),
        ("supervised", "bound"),
    ]


def test_yaml_with_settings_of_single_methods(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    weak = {"method": "micd", "name": "micd-weak", "settings": {"options": {"weight": 0.5}}}
    values = {"data": "none", "methods": ["micd", weak], "labelled": [4], "settings": {"optimiser": {"lr": 0.5}}}
    file.write_text(yaml.safe_dump(values))
    cells = cells_of(load_grid(file, {"seeds": 1, "bound": False}), ["steps=7"])
    assert [(c.label, c.config.options.get("weight")) for c in cells] == [
        ("supervised", None),
        ("supervised_pair", None),
        ("micd", None),
        ("micd-weak", 0.5),
    ]
    assert {(c.config.optimiser.lr, c.config.steps) for c in cells} == {(0.5, 7)}


def test_all_methods(tmp_path: Path) -> None:
    from semiseg.methods.base import registry

    cells = cells_of(toy_grid(tmp_path, methods=["all"], bound=False))
    assert {cell.label for cell in cells} == {*registry(), "supervised-3x-updates"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labelled": []}, "label budget"),
        ({"methods": ["micd", "micd"]}, "micd twice"),
        ({"labelled": ["ten"]}, "ten"),
        ({"labelled": [0]}, "0"),
        ({"sseds": 3}, "did you mean 'seeds'?"),
        ({"labelled": [], "splits": ["l8"], "subsets": 2}, "name several files"),
    ],
)
def test_wrong_grids(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        toy_grid(tmp_path, **changes)
    assert any(words in problem for problem in caught.value.problems)


def test_all_problems_of_all_cells_at_once_and_each_once(tmp_path: Path) -> None:
    grid = toy_grid(tmp_path, methods=["mcid", {"method": "cps", "settings": {"batch": {"patc": 1}}}], seeds=3)
    with pytest.raises(InputError) as caught:
        cells_of(grid)
    first, second = caught.value.problems
    assert "did you mean 'micd'?" in first
    assert "did you mean 'patch'?" in second
    with pytest.raises(InputError, match=r"splits/l8\.json"):
        cells_of(toy_grid(tmp_path, labelled=[], splits=["l8"], test=None))


def test_shares_are_of_the_training_cases(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", cases=12, labelled=12, shape=(8, 8, 8))
    grid = toy_grid(data, labelled=["50%"], test=None, bound=False)
    assert {(c.config.labelled, c.config.test) for c in cells_of(grid)} == {(5, 2)}
    with pytest.raises(InputError, match="give the dataset folder"):
        cells_of(toy_grid(tmp_path / "none", labelled=["50%"]))


def test_drawn_splits_share_their_test_cases(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", cases=12, labelled=10, shape=(8, 8, 8))
    drafts = cells_of(toy_grid(data, labelled=[2, 3], subsets=2, test=4))
    cells = with_splits(drafts, tmp_path / "out")
    write_splits(cells, drafts, tmp_path / "out")
    splits = {cell.name: roles(cell.config.split) for cell in cells if cell.config.split}
    assert len({split.test for split in splits.values()}) == 1
    assert {len(splits[cell.name].labelled) for cell in cells if cell.role != "bound"} == {2, 3}
    assert len({splits[cell.name].labelled for cell in cells if cell.budget == "l3"}) == 2
    for split in splits.values():
        assert not set(split.test) & {*split.labelled, *split.unlabelled}
    (bound,) = (splits[cell.name] for cell in cells if cell.role == "bound")
    assert len(bound.labelled) == 10 - 4
    assert not bound.unlabelled
    write_splits(cells, drafts, tmp_path / "out")
    (tmp_path / "out" / "splits" / "l2.json").write_text(json.dumps({"labelled": ["case_000"]}))
    with pytest.raises(InputError, match="holds another split"):
        write_splits(cells, drafts, tmp_path / "out")


def test_the_bound_of_split_files_has_their_labels_and_test_cases(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", cases=8, labelled=7, shape=(8, 8, 8))
    (data / "splits").mkdir()
    for name, labelled, test in (("a", 1, 6), ("b", 2, 6), ("c", 1, 5)):
        values = {"labelled": [f"case_{i:03d}" for i in range(labelled)], "test": [f"case_{test:03d}"]}
        (data / "splits" / f"{name}.json").write_text(json.dumps(values))
    drafts = cells_of(toy_grid(data, labelled=[], splits=["a", "b", "c"], test=None))
    cells = with_splits(drafts, tmp_path / "out")
    write_splits(cells, drafts, tmp_path / "out")
    assert {cell.budget: cell.bound for cell in cells if cell.role != "bound"} == {"a": "all", "b": "all", "c": "all-2"}
    bounds = {cell.budget: roles(cell.config.split) for cell in cells if cell.role == "bound" and cell.config.split}
    assert {name: split.test for name, split in bounds.items()} == {"all": ("case_006",), "all-2": ("case_005",)}
    assert bounds["all"].labelled == tuple(f"case_{i:03d}" for i in range(6))  # case_007 has no label


def test_what_a_method_says_of_itself_goes_before_what_the_grid_says(tmp_path: Path) -> None:
    longer = {"method": "supervised", "name": "longer", "settings": {"steps": 60}}
    cells = cells_of(toy_grid(tmp_path, methods=[longer], steps=30, seeds=1), ())
    assert {cell.label: cell.config.steps for cell in cells if cell.role == "method"} == {"longer": 60}
