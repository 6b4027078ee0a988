"""Datasets, prepared stores and split files of a comparison, each opened once and handed on from there."""

from __future__ import annotations

from pathlib import Path

from semiseg.datasets.dataset import Dataset, open_dataset
from semiseg.datasets.splits import Split, load_split
from semiseg.preparing.prepare import prepare, prepared_folder
from semiseg.preparing.store import Store
from semiseg.settings.run import RunConfig


class Opened:
    """What the cells of a comparison work on, as far as it was asked for."""

    def __init__(self) -> None:
        self._datasets: dict[tuple[Path, str | None], Dataset] = {}
        self._stores: dict[Path, Store] = {}
        self._splits: dict[tuple[Path, Path, str | None], Split] = {}

    def dataset(self, data: Path, patient_pattern: str | None = None) -> Dataset:
        """The dataset in the folder `data`; see `open_dataset`."""
        key = data, patient_pattern
        if key not in self._datasets:
            self._datasets[key] = open_dataset(*key)
        return self._datasets[key]

    def dataset_of(self, config: RunConfig) -> Dataset:
        """The dataset of a run."""
        return self.dataset(config.data, config.patient_pattern)

    def store(self, config: RunConfig) -> Store:
        """The prepared store of a run, prepared first where that is not done.

        Raises:
            InputError: problems of the data, or the store cannot be written.
        """
        folder = prepared_folder(config.data, config.prepared, config.plan)
        if folder not in self._stores:
            self._stores[folder] = prepare(self.dataset_of(config), config.prepared, wishes=config.plan)
        return self._stores[folder]

    def split(self, config: RunConfig) -> Split:
        """The split in the file of a run, which must be there."""
        assert config.split is not None, "a run without a split file"
        key = config.split, config.data, config.patient_pattern
        if key not in self._splits:
            self._splits[key] = load_split(config.split, self.dataset_of(config))
        return self._splits[key]
