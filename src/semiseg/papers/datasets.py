"""The datasets of the papers: what the tables call them, and which preset has their settings."""

from __future__ import annotations

from collections.abc import Mapping

DATASETS: Mapping[str, str] = {
    "la": "LA",
    "pancreas": "Pancreas-NIH",
    "ian": "IAN",
    "acdc": "ACDC",
    "brats2019": "BraTS2019",
    "amos": "AMOS",
    "synapse": "Synapse",
    "lung_tumor": "Lung tumour",
}
"""Names in the tables by our names, which are those of the presets."""


def dataset_of(*names: str) -> str | None:
    """The first of `names` (of presets, datasets or folders) that the tables know, as they call it."""
    known = {_letters(name): printed for ours, printed in DATASETS.items() for name in (ours, printed)}
    return next((known[_letters(name)] for name in names if _letters(name) in known), None)


def preset_of(dataset: str) -> str:
    """The preset of a dataset as the tables call it."""
    return next(ours for ours, printed in DATASETS.items() if printed == dataset)


def nearest_budget(name: str, share: float) -> int | None:
    """The number of labels (`--labelled`) of preset `name` that is nearest to `share` of all; None for all of them.

    Papers round: 4 of 80 scans are 5 %, and 10 of 216 as well.
    """
    from semiseg.settings.presets import preset

    budgets = preset(name).budgets
    cases = {key: budget.cases / budgets["all"].cases for key, budget in budgets.items()}
    nearest = min(cases, key=lambda key: abs(cases[key] - share))
    return None if nearest == "all" else int(nearest)


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
