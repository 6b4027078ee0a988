"""Data on which the papers' tables were measured."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ConfigDict

from semiseg.papers.datasets import nearest_budget, preset_of


@dataclass(frozen=True)
class Setup:
    """Data on which a table was measured; everything else that the paper sets there is in the preset of the dataset.

    Attributes:
        dataset: name as in the figures.
        labelled: share of labelled scans, `10%`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    dataset: str
    labelled: str

    def __str__(self) -> str:
        return f"{self.dataset} {self.labelled.replace('%', ' %')}"

    @property
    def preset(self) -> str:
        """Name of the dataset's preset."""
        return preset_of(self.dataset)

    @property
    def share(self) -> float:
        """Share of labelled scans, 0.1."""
        return int(self.labelled.rstrip("%")) / 100

    @property
    def budget(self) -> int | None:
        """The number by which the preset knows the share of labels; None for all labels."""
        return nearest_budget(self.preset, self.share)
