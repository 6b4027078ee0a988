"""What the scores of a run owe to labels that a user would not have; it goes with every table."""

from __future__ import annotations

from semiseg.datasets.dataset import Dataset
from semiseg.preparing.plan import Plan
from semiseg.scans.crop import LabelCrop
from semiseg.settings.run import RunConfig

TEST_SELECTED = "test-selected"
CROPPED = "cropped around the truth"


def stamps(config: RunConfig, plan: Plan, dataset: Dataset) -> tuple[str, ...]:
    """The words that results of the run carry: weights chosen by test labels, test scans cut around their label.

    The second may be a fact of the data, whatever the protocol: then dataset.json says that the import cut them.
    """
    selected = config.select == "best" and config.selects_on == "test"
    cropped = isinstance(plan.crop, LabelCrop) or dataset.cropped
    return (TEST_SELECTED,) * selected + (CROPPED,) * cropped
