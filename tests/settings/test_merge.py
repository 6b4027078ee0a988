"""Settings in layers: what wins, and what belongs together."""

from __future__ import annotations

import pytest

from semiseg.settings.merge import merge


def test_mappings_merge_and_the_higher_layer_wins() -> None:
    lower = {"optimiser": {"name": "sgd", "lr": 0.01}, "seed": 3, "patch": [1, 2]}
    upper = {"optimiser": {"lr": 0.1}, "patch": [4, 5], "labelled": 8}
    assert merge(lower, upper) == {
        "optimiser": {"name": "sgd", "lr": 0.1},
        "seed": 3,
        "patch": [4, 5],
        "labelled": 8,
    }
    assert lower["optimiser"] == {"name": "sgd", "lr": 0.01}


def test_another_network_drops_the_options_of_the_first() -> None:
    lower = {"network": {"name": "vnet", "options": {"filters": 16}}}
    assert merge(lower, {"network": {"name": "unet"}}) == {"network": {"name": "unet"}}
    same = merge(lower, {"network": {"name": "vnet", "options": {"dropout": 0}}})
    assert same == {"network": {"name": "vnet", "options": {"filters": 16, "dropout": 0}}}


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        ({"epochs": 201}, {"steps": 10}, {"steps": 10}),
        ({"steps": 10}, {"epochs": 3}, {"epochs": 3}),
        ({"epochs": 3}, {"steps": 10, "epochs": 5}, {"steps": 10, "epochs": 5}),
        ({"epochs": 3}, {"steps": 10, "epochs": None}, {"steps": 10, "epochs": None}),
        ({"epochs": 3}, {"seed": 1}, {"epochs": 3, "seed": 1}),
    ],
)
def test_a_length_in_steps_replaces_one_in_epochs(lower: dict, upper: dict, expected: dict) -> None:
    assert merge(lower, upper) == expected


def test_null_is_a_value() -> None:
    assert merge({"optimiser": {"clip": 12}}, {"optimiser": {"clip": None}}) == {"optimiser": {"clip": None}}


def test_a_word_names_the_network_or_the_optimiser():
    lower = {"network": {"name": "unet", "options": {"filters": [8, 16]}}, "method": "micd"}
    assert merge(lower, {"network": "vnet"})["network"] == {"name": "vnet"}
    assert merge(lower, {"network": "unet"})["network"] == lower["network"]
    assert merge({"optimiser": "sgd"}, {"optimiser": {"lr": 0.1}})["optimiser"] == {"name": "sgd", "lr": 0.1}
