"""Presets: every one resolves, says what its sources say, and lies below the user's own settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from semiseg.cli.pages import preset_overview as overview
from semiseg.cli.pages import preset_page as page
from semiseg.errors import InputError
from semiseg.methods.base import entry, registry
from semiseg.papers import comparisons, registered
from semiseg.settings.load import load_config
from semiseg.settings.presets import Preset, deviations, differences, names, preset, wishes
from semiseg.settings.run import RunConfig
from semiseg.validation import parse


def _run(name: str, **settings: Any) -> RunConfig:
    return load_config(None, {"data": "scans", "preset": name, **settings})


def _combinations() -> Iterator[tuple[str, str, str]]:
    for name in names():
        for method in preset(name).methods:
            for budget in preset(name).budgets:
                yield name, method, budget


@pytest.mark.parametrize(("name", "method", "budget"), list(_combinations()))
@pytest.mark.parametrize("protocol", ["honest", "paper"])
def test_every_combination_is_a_complete_run(name: str, method: str, budget: str, protocol: str) -> None:
    labelled = None if budget == "all" else int(budget)
    config = _run(name, method=method, labelled=labelled, protocol=protocol, validation=1)
    assert config.based_on == name
    assert config.labelled == (None if labelled is None else preset(name).budgets[budget].cases)
    assert config.window.weights == "uniform"
    assert config.metrics.unit == "voxel"
    assert config.select == "last" or protocol == "paper"
    told = " ".join(deviations(config))
    assert told.startswith("split: drawn")
    assert ("select: last" in told) == (preset(name).settings(method, None, "paper").get("select") == "best") * (
        protocol == "honest"
    )
    assert yaml.safe_load(config.to_yaml())["based_on"] == name


@pytest.mark.parametrize("setting", ["preset", "method", "split", "plan"])
@pytest.mark.parametrize("value", [[1], 1.5])
def test_settings_of_another_kind_are_named(setting: str, value: object) -> None:
    with pytest.raises(InputError, match=f"settings: {setting}: expected .*came: "):
        load_config(None, {"data": "scans", "preset": "la", setting: value})


def test_all_datasets_of_the_papers_have_one() -> None:
    assert set(names()) == {"la", "pancreas", "acdc", "brats2019", "amos", "synapse", "ian", "lung_tumor"}


@pytest.mark.parametrize("name", names())
def test_only_registered_methods_are_named(name: str) -> None:
    found = preset(name)
    assert set(found.methods) <= set(registry())
    assert found.run["method"] in found.methods
    assert {method for budget in found.budgets.values() for method in budget.methods} <= set(found.methods)
    assert found.sources


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'acdc'"):
        _run("acdcc")
    with pytest.raises(InputError, match="did you mean 'budgets'"):
        parse(Preset, {"name": "a", "title": "b", "sources": [], "budget": {}}, "preset a")
    with pytest.raises(InputError, match=r"unknown setting 'optimiser\.learning_rate'"):
        _run("la", optimiser={"learning_rate": 1})


# name, method, labelled, setting -> value, each as the dataset's or the method's source has it
CONSTANTS = [
    ("la", "supervised", 16, {"steps": 6000, "batch.labelled": 4, "batch.unlabelled": 0, "options.loss": "la"}),
    ("la", "supervised", 16, {"optimiser.every": 2500, "optimiser.factor": 0.1, "largest_component": False}),
    ("la", "cml", 8, {"steps": 17000, "batch.labelled": 4, "batch.unlabelled": 4, "largest_component": True}),
    ("la", "cml", 8, {"options.discrepancy_weight": 0.2, "options.mix_ratio": 2 / 3, "optimiser.schedule": "step"}),
    ("la", "cml", 8, {"network.name": "vnet", "network.options": {"filters": 16}, "batch.patch": (112, 112, 80)}),
    ("la", "cml", 8, {"window.stride": (18, 18, 4), "optimiser.nesterov": False, "optimiser.weight_decay": 1e-4}),
    ("la", "ducisc", 8, {"steps": 15000, "optimiser.schedule": "constant", "batch.labelled": 2}),
    ("la", "lefed", 8, {"steps": 15000, "optimiser.schedule": "step", "optimiser.clip": None, "seed": 1337}),
    ("pancreas", "ducisc", 6, {"batch.patch": (96, 96, 96), "window.stride": (16, 16, 16), "augment.rotflip": 0}),
    ("pancreas", "lefed", 6, {"window.stride": (16, 16, 4), "augment.rotflip": 1, "optimiser.schedule": "step"}),
    ("ian", "ducisc", 9, {"batch.patch": (160, 128, 112), "window.stride": (16, 16, 16), "steps": 15000}),
    ("acdc", "supervised", 7, {"steps": 30000, "batch.labelled": 24, "optimiser.schedule": "poly"}),
    ("acdc", "mean_teacher", 7, {"options.consistency_start": 1000, "options.ramp_length": 200, "optimiser.lag": True}),
    ("acdc", "cml", 7, {"steps": 40000, "options.pretraining": 0.25, "options.mix_ratio": 0.5}),
    ("acdc", "cml", 7, {"options.unlabelled_weight": 0.5, "options.discrepancy_weight": 0.1, "augment.spatial": 0.5}),
    ("acdc", "ducisc", 7, {"batch.labelled": 12, "batch.unlabelled": 12, "batch.patch": (256, 256)}),
    ("brats2019", "mean_teacher", 25, {"optimiser.lr": 0.1, "window.stride": (64, 64, 64), "steps": 30000}),
    ("brats2019", "cml", 25, {"optimiser.lr": 0.01, "optimiser.schedule": "constant", "steps": 40000}),
    ("amos", "dhc", 10, {"epochs": 201, "optimiser.length": 200, "optimiser.lr": 0.03, "optimiser.nesterov": True}),
    ("amos", "dhc", 10, {"optimiser.unit": "epoch", "optimiser.lag": True, "optimiser.weight_decay": 3e-5}),
    ("amos", "micd", 10, {"optimiser.lr": 0.01, "batch.labelled": 1, "batch.unlabelled": 1, "options.weight": 0.1}),
    ("amos", "micd", 10, {"options.ramp": "epochs", "options.weights_a": "diff", "options.weights_b": "dist"}),
    ("amos", "cps", 10, {"options.cross_on": "all", "options.loss": "dhc", "metrics.empty": "dhc"}),
    ("amos", "uamt", 10, {"options.loss": "dhc_half", "options.counts": "epochs", "options.entropy_max": "two"}),
    ("amos", "uamt", 10, {"options.passes": 8, "options.noise": 0.1, "options.init": "default", "options.decay": 0.99}),
    ("amos", "urpc", 10, {"network.name": "unet3d", "network.options": {"filters": [16, 32, 64, 128, 256]}}),
    ("amos", "urpc", 10, {"options.loss": "dhc_half", "options.scales": 4, "options.init": "kaiming"}),
    ("amos", "ssnet", 10, {"options.dice": "dhc", "options.magnitude": 10, "options.reach": 10, "options.memory": 32}),
    ("amos", "ssnet", 10, {"options.contrast_weight": 0.1, "options.selected": "lowest", "options.init": "default"}),
    ("amos", "dst", 10, {"options.variant": "dhc", "options.threshold": 0.95, "options.worst_weight": 1}),
    ("amos", "dst", 10, {"options.margin": 2, "options.reversal": 0.1, "options.reversal_steps": 500}),
    ("amos", "depl", 10, {"options.prior": "position", "options.tau": 1, "options.momentum": 0.99}),
    ("amos", "depl", 10, {"options.threshold": 0.9, "options.marginal": False, "options.cross_on": "all"}),
    ("amos", "adsh", 10, {"options.use": "logits", "options.update": "bank", "options.majority": 0.9}),
    ("amos", "adsh", 10, {"options.capacity": None, "options.exact": False}),
    ("amos", "crest", 10, {"options.alpha": 1 / 3, "options.momentum": 0.99}),
    ("amos", "simis", 10, {"options.momentum": 0.99, "options.loss": "dhc"}),
    ("amos", "basak", 10, {"options.update_iter": None, "options.pairs": True, "options.kept": 12}),
    ("amos", "basak", 10, {"options.rate_exponent": 2.5, "options.confidence_exponent": 1.5, "options.decay": 0.99}),
    ("amos", "basak", 10, {"options.momentum": 0.99, "options.counts": "epochs", "options.init": "kaiming"}),
    ("amos", "cld", 10, {"options.update_iter": 8, "options.momentum": 0.999, "options.rate_exponent": 0.5}),
    ("amos", "cld", 10, {"options.rate_exponent": 0.5, "options.loss": "dhc"}),
    ("amos", "supervised", 10, {"epochs": 1001, "optimiser.lr": 0.01, "batch.labelled": 4}),
    ("synapse", "micd", 4, {"epochs": 301, "window.stride": (16, 32, 32), "batch.patch": (64, 128, 128)}),
    ("synapse", "dhc", 2, {"epochs": 201, "optimiser.length": 200}),
    ("synapse", "supervised", 2, {"epochs": 1001, "optimiser.length": 1000}),
    ("la", "uamt", 8, {"steps": 6000, "batch.labelled": 2, "options.loss": "la", "options.weight": 0.1}),
    ("la", "uamt", 8, {"options.ramp": "units150", "options.ramp_length": 40, "options.counts": "steps"}),
    ("la", "urpc", 8, {"network.name": "vnet", "options.ramp_length": 40, "options.enlarge": "linear"}),
    ("la", "ssnet", 8, {"steps": 15000, "options.dice": "la", "options.weight": 1, "options.magnitude": 10}),
    ("la", "ssnet", 8, {"options.ramp": "units150", "options.ramp_length": 40, "largest_component": True}),
    ("acdc", "uamt", 7, {"options.ramp_length": 200, "options.loss": "ssl4mis", "batch.labelled": 12}),
    ("acdc", "urpc", 7, {"network.name": "unet2d", "network.options": {"side_kernel": 3, "perturb_sides": True}}),
    ("acdc", "urpc", 7, {"options.enlarge": "nearest", "options.ramp_length": 200, "steps": 30000}),
    ("acdc", "ssnet", 7, {"options.magnitude": 6, "optimiser.schedule": "constant", "options.dice": "acdc"}),
    ("acdc", "ssnet", 7, {"options.weight": 0.1, "options.ramp_length": 200, "options.selected": "lowest"}),
    ("brats2019", "uamt", 25, {"optimiser.lr": 0.1, "options.ramp_length": 200, "options.loss": "ssl4mis"}),
    ("brats2019", "urpc", 25, {"network.name": "unet3d", "options.ramp_length": 400, "options.init": "kaiming"}),
    ("pancreas", "uamt", 6, {"steps": 15000, "options.loss": "la", "options.ramp_length": 40}),
    ("pancreas", "ssnet", 6, {"options.dice": "la", "options.weight": 1}),
    ("ian", "uamt", 9, {"options.loss": "la", "options.passes": 8}),
    ("lung_tumor", "uamt", 10, {"optimiser.schedule": "step", "options.loss": "la"}),
    ("lung_tumor", "ssnet", 10, {"optimiser.schedule": "step", "options.contrast_weight": 0.1}),
    ("lung_tumor", "lefed", 10, {"batch.patch": (96, 96, 96), "window.stride": (16, 16, 4), "steps": 15000}),
]


@pytest.mark.parametrize(("name", "method", "labelled", "constants"), CONSTANTS)
def test_constants_of_the_sources(name: str, method: str, labelled: int, constants: dict[str, Any]) -> None:
    config = _run(name, method=method, labelled=labelled)
    options = entry(method).configure(config.options).model_dump()
    for setting, value in constants.items():
        found: Any = config.model_copy(update={"options": options})
        for part in setting.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        assert found == (pytest.approx(value) if isinstance(value, float) else value), setting


def _compared() -> dict[tuple[str, str], set[str]]:
    """Our methods that stand in a comparison of a paper, by preset and method, with the papers."""
    found: dict[tuple[str, str], set[str]] = {}
    for table in comparisons():
        for setup, printed in table.columns.items():
            for method in registered(printed)[0]:
                found.setdefault((setup.preset, method), set()).add(table.paper)
    return found


@pytest.mark.parametrize(("name", "method"), sorted(_compared()))
def test_every_method_of_a_comparison_has_settings_in_the_preset_of_its_data(name: str, method: str) -> None:
    assert method in preset(name).methods
    assert not any("no settings of" in line for line in deviations(_run(name, method=method)))


def test_the_comparisons_name_the_methods_that_they_print() -> None:
    found = _compared()
    assert found["la", "uamt"] == {"cml", "ducisc", "lefed"}
    assert found["acdc", "ssnet"] == {"cml", "ducisc"}
    assert found["brats2019", "mean_teacher"] == {"cml"}
    assert found["ian", "uamt"] == {"ducisc"}
    assert found["amos", "urpc"] == found["synapse", "ssnet"] == {"micd"}


TABLES = {method for name, method in _compared() if name == "amos"}
"""The methods of MICD's Tables I to III."""


@pytest.mark.parametrize("name", ["amos", "synapse"])
def test_all_methods_of_the_tables_train_alike(name: str) -> None:
    assert len(TABLES) == 14
    assert set(preset(name).methods) == TABLES | {"micd-paper"}
    length = preset(name).run["epochs"] - 1
    for method in TABLES - {"supervised", "micd"}:
        config = _run(name, method=method, labelled=4)
        options = entry(method).configure(config.options).model_dump()
        assert (options["weight"], options["ramp"], options["ramp_length"]) == (0.1, "epochs", None), method
        assert (config.batch.labelled, config.batch.unlabelled, config.batch.patch) == (2, 2, (64, 128, 128))
        assert (config.epochs, config.optimiser.length, config.optimiser.lr) == (length + 1, length, 0.03)
        if method != "urpc":
            assert (config.network.name, config.network.options) == ("vnet", {"filters": 32})
    assert (length, preset(name).classes) == {"amos": (200, 16), "synapse": (300, 14)}[name]


@pytest.mark.parametrize(
    ("name", "method", "on", "every", "first"),
    [
        ("la", "cml", "test", 200, None),
        ("la", "ducisc", "test", 200, 800),
        ("la", "ssnet", "test", 200, 2000),
        ("pancreas", "ducisc", "test", 200, 800),
        ("acdc", "cml", "validation", 200, None),
        ("brats2019", "mean_teacher", "validation", 200, None),
        ("amos", "dhc", "validation", 10, 1),
    ],
)
def test_selection_of_the_sources(name: str, method: str, on: str, every: int, first: int | None) -> None:
    config = _run(name, method=method, protocol="paper", validation=1)
    assert (config.select, config.selects_on) == ("best", on)
    assert (config.validate_every, config.validate_from) == (every, first)
    honest = _run(name, method=method)
    assert (honest.select, honest.patience) == ("last", None)


def test_selection_of_dhc_replays_its_patience() -> None:
    amos, synapse = (_run(name, method="dhc", protocol="paper", validation=1) for name in ("amos", "synapse"))
    assert (amos.patience, synapse.patience) == (5, 10)  # 50 and 100 epochs, validated every 10
    assert (amos.validate_unit, amos.validate_with) == ("epoch", "centre")


def test_the_last_weights_count_where_the_source_takes_them() -> None:
    assert _run("la", method="supervised", protocol="paper").select == "last"


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: la\nmethod: cml\nsteps: 300\noptimiser: {lr: 0.5}\noptions: {mix_ratio: 0.4}\n")
    config = load_config(file, {"data": "scans", "steps": 20}, ["options.discrepancy_weight=0.9"])
    assert config.steps == 20  # command line over file
    assert config.optimiser.lr == 0.5  # file over preset
    assert config.optimiser.weight_decay == 1e-4  # preset over default
    assert config.options["mix_ratio"] == 0.4
    assert config.options["discrepancy_weight"] == 0.9
    assert config.log_every == RunConfig.model_fields["log_every"].default
    assert load_config(file, {"data": "scans"}, ["preset=pancreas"]).batch.patch == (96, 96, 96)
    told = deviations(config)
    assert "steps: 20; the paper: 17000" in told
    assert "optimiser.lr: 0.5; the paper: 0.01" in told
    assert any(line.startswith("options.mix_ratio: 0.4") for line in told)


def test_another_precision_than_the_papers_float32_is_a_deviation() -> None:
    """`auto` is what the machine has, or float32 where the method needs it."""
    for method, precision, told in (
        ("lefed", "bf16", ["precision: bf16; the paper: fp32"]),
        ("lefed", "auto", []),
        ("cml", "auto", ["precision: auto; the paper: fp32"]),
        ("cml", "fp32", []),
    ):
        config = _run("la", method=method, precision=precision)
        assert [line for line in deviations(config) if line.startswith("precision")] == told
    assert _run("la", method="cml", protocol="paper", validation=1).precision == "fp32"


def test_steps_replace_epochs() -> None:
    config = _run("amos", labelled=4, steps=30)
    assert (config.steps, config.epochs) == (30, None)
    assert "epochs: not set; the paper: 201" in deviations(config)


def test_the_default_method_is_the_dataset_s_own() -> None:
    assert (_run("la").method, _run("amos").method, _run("ian").method) == ("cml", "micd", "ducisc")


def test_methods_without_a_section_take_what_is_common() -> None:
    config = _run("la", method="pi_model", labelled=4)
    assert (config.steps, config.network.name) == (6000, "vnet")
    assert any("no settings of pi_model itself" in line for line in deviations(config))


def test_a_run_s_own_settings_need_no_preset_again(tmp_path: Path) -> None:
    config = _run("la", labelled=4)
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    assert load_config(file, {}) == config
    with pytest.raises(InputError, match="based on the preset 'la'"):
        load_config(file, {"preset": "la"})


def _imported(root: Path, *, cropped: bool) -> Path:
    (root / "splits").mkdir(parents=True)
    for name in ("l8", "l8_honest", "all"):
        (root / "splits" / f"{name}.json").write_text(json.dumps({"labelled": ["a"], "validation": ["b"]}))
    (root / "dataset.json").write_text(json.dumps({"imported": {"cropped_around_labels": cropped}}))
    return root


def test_published_lists_become_the_split(tmp_path: Path) -> None:
    data = _imported(tmp_path / "data", cropped=True)
    config = load_config(None, {"data": data, "preset": "la", "labelled": 8})
    assert (config.split, config.labelled) == (data / "splits" / "l8.json", None)
    told = deviations(config)
    assert not any(line.startswith("split") for line in told)
    assert load_config(None, {"data": data, "preset": "la"}).split == data / "splits" / "all.json"
    drawn = load_config(None, {"data": data, "preset": "la", "labelled": 4})
    assert (drawn.split, drawn.labelled) == (None, 4)
    own = load_config(None, {"data": data, "preset": "la", "split": tmp_path / "mine.json"})
    assert own.split == tmp_path / "mine.json"
    assert any(line.startswith("labels: the papers report 4, 8, 16, all") for line in deviations(own))


def test_choosing_within_the_budget_takes_the_list_for_it(tmp_path: Path) -> None:
    data = _imported(tmp_path / "data", cropped=True)
    config = load_config(None, {"data": data, "preset": "la", "labelled": 8, "select": "best"})
    assert config.split == data / "splits" / "l8_honest.json"
    assert any("keeps validation cases within the budget" in line for line in deviations(config))


def test_scans_that_the_import_has_cut_are_not_cut_again(tmp_path: Path) -> None:
    for cropped in (True, False):
        data = _imported(tmp_path / str(cropped), cropped=cropped)
        paper = load_config(None, {"data": data, "preset": "la", "labelled": 8, "protocol": "paper"})
        assert (paper.plan.crop == "none") == cropped
        assert not deviations(paper, cropped)
        assert list(differences(paper, ())) == ["preset la, method cml, protocol paper: as the paper has it"]
        honest = load_config(None, {"data": data, "preset": "la", "labelled": 8})
        assert honest.plan.crop == "none"
        told = any(
            line.startswith("plan.crop: none; the paper: around the label") for line in deviations(honest, cropped)
        )
        assert told != cropped


def test_cutting_around_labels_takes_the_paper_s_protocol() -> None:
    crop = {"margin": [[1, 1]] * 3, "smallest": [4, 4, 4]}
    with pytest.raises(InputError, match="around the label uses test labels"):
        _run("la", labelled=4, plan={"crop": crop})
    with pytest.raises(InputError, match="select_on: test"):
        _run("la", labelled=4, select="best", select_on="test")


def test_prepare_takes_the_honest_wishes() -> None:
    assert wishes(None).folder == "prepared"
    assert wishes("la") == _run("la", labelled=4).plan


def test_pages() -> None:
    from semiseg import list_presets

    text = overview(list_presets())
    assert all(name in text for name in names())
    la = page("la")
    assert "discrepancy_weight: 0.2" in la
    assert "only with protocol: paper" in la
    assert "yulequan/UA-MT" in la
    with pytest.raises(InputError, match="unknown preset 'lala'"):
        page("lala")
