"""Controls that had as many updates, labelled patches and networks as the methods beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semiseg.comparison.cells import Cell, cells_of
from semiseg.comparison.epochs import place_of, with_epochs
from semiseg.comparison.grid import Grid, load_grid
from semiseg.comparison.opened import Opened
from semiseg.comparison.operations import Kind, kind_of, steps_of
from semiseg.comparison.splits import with_splits, write_splits
from semiseg.methods.base import entry, registry
from semiseg.runs.build import Build, choose_split
from semiseg.settings.load import load_config
from semiseg.training.optim import learning_rate
from tiny import tiny_dataset
from toy_grid import toy_grid


def of_preset(name: str, methods: list[Any], labelled: list[Any], **settings: Any) -> list[Cell]:
    grid = {"presets": [name], "methods": methods, "labelled": labelled, "seeds": 1, "settings": settings}
    return with_epochs(cells_of(load_grid(None, grid)))


def named(cells: list[Cell], label: str) -> Cell:
    return next(cell for cell in cells if cell.label == label and cell.role != "bound")


def trained_as(cell: Cell) -> tuple[int | None, int | None]:
    """Steps, and labelled patches of each."""
    return steps_of(cell.config, cell.preset), cell.config.batch.labelled


def test_epochs_are_as_long_for_control_bound_and_methods_at_every_budget() -> None:
    """AMOS, 2 and 10 % of 216 scans: a pass over all of them, by two patches of the unlabelled ones."""
    cells = of_preset("amos", ["cps", "dhc"], [4, 21])
    assert {cell.role for cell in cells} == {"control", "method", "bound"}
    assert {trained_as(cell) for cell in cells} == {(201 * 108, 2)}


def test_a_control_stands_beside_every_length_that_there_is() -> None:
    cells = of_preset("la", ["cml", "ducisc", "lefed", "cps"], [8])
    for cell in cells:
        if cell.role == "method":
            assert trained_as(named(cells, cell.control)) == trained_as(cell)
    lengths = {trained_as(cell) for cell in cells if cell.role == "method"}
    assert lengths == {(17000, 4), (15000, 2), (6000, 2)}
    assert {trained_as(cell) for cell in cells if cell.role == "bound"} == lengths
    assert {cell.config.options["loss"] for cell in cells if cell.config.method.startswith("supervised")} == {"la"}


def test_the_schedule_of_the_rate_belongs_to_the_length() -> None:
    cells = of_preset("amos", ["cps"], [4])
    control, method = (named(cells, name).config.optimiser for name in ("supervised-201epochsx2", "cps"))
    assert (
        (control.length, control.unit, control.lag) == (method.length, method.unit, method.lag) == (200, "epoch", True)
    )
    assert control.lr == 0.01  # its own, as the preset has it for training on labels


def test_names_of_controls_do_not_depend_on_the_order_of_the_methods() -> None:
    one, other = (of_preset("la", methods, [8]) for methods in (["cml", "lefed"], ["lefed", "cml"]))
    assert {cell.name: cell.config for cell in one} == {cell.name: cell.config for cell in other}


def test_a_method_of_several_updates_has_a_control_of_as_many() -> None:
    cells = of_preset("la", ["lefed"], [8])
    lefed = named(cells, "lefed")
    assert (lefed.control, lefed.kin) == ("supervised-15000x2", "supervised-15000x2-3x-updates")
    control = named(cells, lefed.kin)
    assert trained_as(control) == (45000, 2)
    for step in (0, 2499, 2500, 14999):  # the rate of an update is that of the method's batch at that share of the run
        rate = learning_rate(lefed.config.optimiser, step, 15000)
        assert learning_rate(control.config.optimiser, 3 * step, 45000) == pytest.approx(rate)
    once = of_preset("la", [{"method": "lefed", "settings": {"options": {"passes": 1}}}], [8])
    assert named(once, "lefed").kin == ""


def test_a_method_of_two_networks_has_a_pair_for_a_control() -> None:
    cells = of_preset("la", ["cml", "mean_teacher"], [8])
    assert named(cells, "mean_teacher").kin == ""
    pair = named(cells, named(cells, "cml").kin)
    assert pair.config.method == "supervised_pair"
    assert trained_as(pair) == (17000, 4)
    alone = of_preset("la", [{"method": "cml", "settings": {"options": {"predict_with": "a"}}}], [8])
    assert named(alone, "cml").kin == ""  # two are trained, one predicts


def test_both_at_once() -> None:
    """No method here is so; the name says what the control would be."""
    from semiseg.comparison import controls

    grid = load_grid(None, {"methods": ["cps"], "labelled": [4]})
    config = load_config(None, {"data": "x", "method": "cps"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "kind_of", lambda config: Kind(2, 2))
        (_, other) = controls.controls_of(
            grid, load_config(None, {"data": "x", "method": "supervised"}), [config]
        ).found
    assert (other.label, other.config.method, other.config.steps) == (
        "supervised_pair-2x-updates",
        "supervised_pair",
        4000,
    )


def test_plain_controls_alone_on_request(tmp_path: Path) -> None:
    cells = cells_of(toy_grid(tmp_path, methods=["lefed", "cps"], controls="plain"))
    assert [cell.label for cell in cells] == ["supervised", "lefed", "cps", "supervised"]
    assert {cell.kin for cell in cells} == {""}


def test_methods_without_unlabelled_scans_ask_for_no_control_of_their_own(tmp_path: Path) -> None:
    long = {"method": "supervised", "name": "long", "settings": {"steps": 40}}
    cells = cells_of(toy_grid(tmp_path, methods=["mean_teacher", long, "supervised_pair"], bound=False, steps=None))
    assert [(cell.label, cell.role) for cell in cells] == [
        ("supervised", "control"),
        ("mean_teacher", "method"),
        ("long", "method"),
        ("supervised_pair", "method"),
    ]
    assert [cell.control for cell in cells[1:]] == ["supervised"] * 3
    cells = cells_of(toy_grid(tmp_path, methods=["cps", "supervised_pair"], bound=False))
    assert [(cell.label, cell.role) for cell in cells][:2] == [
        ("supervised", "control"),
        ("supervised_pair", "control"),
    ]
    assert len(cells) == 3


def test_settings_of_a_single_method_change_its_control_alone(tmp_path: Path) -> None:
    more = {"method": "mean_teacher", "name": "more", "settings": {"batch": {"labelled": 4}, "steps": 8}}
    cells = cells_of(toy_grid(tmp_path, methods=["mean_teacher", more], steps=None))
    assert [cell.label for cell in cells if cell.role == "control"] == ["supervised", "supervised-8x4"]
    assert (named(cells, "mean_teacher").control, named(cells, "more").control) == ("supervised", "supervised-8x4")
    assert [cell.label for cell in cells if cell.role == "bound"] == ["supervised", "supervised-8x4"]


def test_a_paper_s_lengths_stay_as_they_are_printed() -> None:
    cells = of_preset("amos", ["cps"], [4], protocol="paper", validation=1)
    assert [cell.label for cell in cells] == ["supervised", "cps", "supervised"]
    assert [cell.config.epochs for cell in cells] == [1001, 201, 1001]
    assert {cell.config.epoch_steps for cell in cells} == {None}
    assert named(cells, "supervised").config.batch.labelled == 4


def resolved(data: Path, output: Path, grid: Grid) -> dict[tuple[str, str], tuple[int, int]]:
    """Steps and labelled patches of each, as training takes them, by name and role."""
    drafts = cells_of(grid)
    cells = with_splits(drafts, output)
    opened = Opened()
    dataset, store = opened.dataset_of(cells[0].config), opened.store(cells[0].config)
    write_splits(cells, drafts, output)
    plans = {place_of(cell): store.plan for cell in cells}
    found = {}
    for cell in with_epochs(cells, plans):
        split = choose_split(cell.config, dataset, store)
        build = Build(cell.config, store.plan).with_length(split)
        found[cell.label, cell.role] = build.config.steps, build.batch_plan(split).labelled
    return found


@pytest.mark.parametrize("batch", [{}, {"labelled": 1, "unlabelled": 3}])
def test_epochs_on_data_of_which_most_have_no_label(tmp_path: Path, batch: dict[str, int]) -> None:
    """Sixteen cases, eight of them labelled, two kept for scoring: fourteen are an epoch, for the bound as well."""
    data = tiny_dataset(tmp_path / "data", cases=16, labelled=8, shape=(16, 16, 16))
    settings = {"network": {"options": {"filters": [4, 8]}}, "batch": {"patch": [16, 16, 16], **batch}, "epochs": 5}
    grid = load_grid(
        None, {"data": data, "methods": ["mean_teacher"], "labelled": [2], "test": 2, "seeds": 1, "settings": settings}
    )
    found = resolved(data, tmp_path / "out", grid)
    assert len(found) == 3
    assert len(set(found.values())) == 1
    ((steps, labelled),) = set(found.values())
    assert (steps, labelled) == ((5 * 5, 1) if batch else (5 * 7, 2))


def test_an_epoch_of_so_many_steps_is_one_for_schedules_and_clocks(tmp_path: Path) -> None:
    import semiseg
    from semiseg.runs.folder import Run
    from semiseg.training.session import open_session

    data = tiny_dataset(tmp_path / "data", cases=4, labelled=4, shape=(16, 16, 16))
    settings = {
        "network": {"options": {"filters": [4, 8]}},
        "batch": {"patch": [16, 16, 16]},
        "accelerator": "cpu",
        "precision": "fp32",
        "epochs": 2,
        "epoch_steps": 3,
        "optimiser": {"unit": "epoch", "schedule": "step", "every": 1},
    }
    run = semiseg.train(data, tmp_path / "run", method="supervised", labelled=2, test=1, **settings)
    assert run.config().steps == 6
    with open_session(run.config(), Run(run.path)) as session:
        assert [session.clock(step).epoch for step in range(6)] == [0, 0, 0, 1, 1, 1]
        assert session.rate(2) == pytest.approx(10 * session.rate(3))


KINDS = {
    "lefed": (3, 1),
    "lefed-official": (3, 1),
    "mean_teacher": (1, 1),
    "cps": (1, 2),
    "cml": (1, 2),
    "micd": (1, 2),
}


@pytest.mark.parametrize("name", sorted(registry()))
def test_updates_and_networks_are_counted_on_a_step_of_every_method(name: str) -> None:
    found = kind_of(load_config(None, {"data": "x", "method": name}))
    assert found.updates >= 1
    assert found.networks >= 1
    if name in KINDS:
        assert found == Kind(*KINDS[name])


def test_the_pair_has_the_options_of_the_single_network() -> None:
    """A control of two networks takes over the loss that a preset gives to the control of one."""
    single, pair = (entry(name).cls.Config for name in ("supervised", "supervised_pair"))
    assert {name: field.default for name, field in single.model_fields.items()} == {
        name: field.default for name, field in pair.model_fields.items()
    }


def test_the_grid_file_keeps_controls_and_test(tmp_path: Path) -> None:
    grid = toy_grid(tmp_path, controls="plain", paired_test="t-one-sided")
    again = load_grid(None, json.loads(grid.model_dump_json()))
    assert (again.controls, again.paired_test) == ("plain", "t-one-sided")


def test_batches_of_other_proportions_have_controls_of_their_own(tmp_path: Path) -> None:
    """Two labelled patches both, but passes by two or by four unlabelled ones: other numbers of steps."""
    wide = {"method": "mean_teacher", "name": "wide", "settings": {"batch": {"unlabelled": 4}}}
    settings = {"epochs": 5, "batch": {"labelled": 2, "unlabelled": 2}}
    cells = cells_of(toy_grid(tmp_path, methods=["mean_teacher", wide], steps=None, settings=settings))
    assert [cell.label for cell in cells if cell.role == "control"] == ["supervised", "supervised-5epochsx2of6"]
    assert named(cells, "wide").control == "supervised-5epochsx2of6"
    assert named(cells, "supervised-5epochsx2of6").config.batch == named(cells, "wide").config.batch
