"""The papers' figures: complete, in one schema, in the package."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import pytest

import semiseg
from scripts import ROOT
from semiseg.papers import dataset_of, figures, papers, quotes
from semiseg.papers.figures import COLUMNS

PACKAGE = Path(semiseg.__file__).parent
DATASETS = {"LA", "Pancreas-NIH", "IAN", "ACDC", "BraTS2019", "AMOS", "Synapse", "Lung tumour"}


@pytest.mark.parametrize("paper", papers(), ids=lambda paper: paper.name)
def test_one_schema(paper):
    with (PACKAGE / "papers" / f"{paper.name}.csv").open(newline="") as file:
        assert tuple(next(csv.reader(file))) == COLUMNS
    assert paper.figures
    for figure in paper.figures:
        assert figure.dataset in DATASETS
        assert figure.labelled.endswith("%")
        assert 0 < int(figure.labelled[:-1]) <= 100
        assert figure.metric.split()[0] in {"Dice", "Jaccard", "95HD", "ASD", "Q", "p-value"}
        assert figure.metric not in {"Dice", "Jaccard"} or 1 < figure.value < 100
    keys = [(f.table, f.method, f.dataset, f.labelled, f.metric) for f in paper.figures]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("paper", "key", "text"),
    [
        ("micd", ("III", "MICD", "Synapse", "20%", "Dice"), "54.10 ± 1.46"),
        ("ducisc", ("V", "DuCiSC", "LA", "10%", "Q"), "0.9433"),
        ("cml", ("2", "CML", "ACDC", "5%", "95HD"), "1.87"),
        ("lefed", ("V", "t=3", "LA", "10%", "Dice"), "90.00"),
    ],
)
def test_some_printed_figures(paper, key, text):
    found = [f for f in figures(paper) if (f.table, f.method, f.dataset, f.labelled, f.metric) == key]
    assert [str(figure) for figure in found] == [text]


def test_data_files_are_in_the_wheel():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["semiseg"]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    data = {path for path in (PACKAGE / "papers").iterdir() if path.is_file() and path.suffix != ".py"}
    assert {path.suffix for path in data} == {".csv", ".yaml"}
    assert data <= shipped


@pytest.mark.parametrize(
    ("method", "dataset", "share", "source", "value"),
    [
        ("ducisc", "LA", 8 / 80, "DuCiSC, Table I", "91.81"),
        ("micd-paper", "AMOS", 10 / 216, "MICD, Table I", None),
        ("cml", "ACDC", 0.05, "CML, Table 2", None),
        ("supervised", "LA", 1.0, "CML, Table 1", "91.47"),
        ("lefed", "LA", 0.2, "LeFeD, text", "91.44"),
        ("lefed", "Pancreas-NIH", 12 / 62, "LeFeD, text", "82.69"),
    ],
)
def test_quotes_find_the_main_figure(method, dataset, share, source, value):
    found = {quote.source: quote for quote in quotes(method, dataset, share)}
    figure = found[source].figures["Dice"]
    assert figure.dataset == dataset
    assert found[source].selection
    assert value is None or str(figure) == value


def test_derived_figures_follow_from_what_they_are_derived_from():
    printed = {(f.method, f.metric): f.value for f in figures("ducisc") if (f.table, f.labelled) == ("II", "20%")}
    derived = {
        f.metric: f
        for f in figures("lefed")
        if (f.table, f.method, f.dataset, f.labelled) == ("text", "LeFeD", "Pancreas-NIH", "20%")
    }
    assert all(figure.note.startswith("derived") for figure in derived.values())
    assert derived["Dice"].value == pytest.approx(printed["MC-Net+", "Dice"] + 3.32)
    assert derived["Dice"].value == pytest.approx(printed["BCP", "Dice"] - 0.22)
    assert derived["95HD"].value == pytest.approx(printed["BCP", "95HD"] - 1.43)


def test_quotes_are_of_no_other_budget_or_dataset():
    assert quotes("ducisc", "LA", 0.5) == []
    assert quotes("ducisc", "hippocampus", 0.1) == []
    assert quotes("pi_model", "LA", 0.1) == []


def test_the_selection_rule_of_every_test_selected_source_is_stamped():
    rules = {paper.name: paper.selection for paper in papers()}
    assert all(rules["ducisc"][name].startswith("test-selected") for name in ("LA", "Pancreas-NIH", "IAN"))
    assert rules["cml"]["LA"].startswith("test-selected")


def test_datasets_are_known_by_both_names():
    assert dataset_of("", "Pancreas-NIH") == dataset_of("pancreas") == "Pancreas-NIH"
    assert dataset_of("hippocampus") is None
