"""How well the features of classes match between labelled and unlabelled scans: Q of DuCiSC (arXiv:2507.21440)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from semiseg.datasets.dataset import Dataset, open_dataset
from semiseg.datasets.splits import Split
from semiseg.errors import InputError, raise_all
from semiseg.evaluation.feature_density import FeatureDensity, feature_density
from semiseg.evaluation.scan_prototypes import scan_prototypes
from semiseg.ingredients.levels import level_taps
from semiseg.ingredients.prototypes import Prototypes, matching_per_class, matching_score
from semiseg.prediction.feature_sample import FeatureSample
from semiseg.prediction.predict import Predictor, load_predictor
from semiseg.preparing.preprocess import preprocess
from semiseg.runs.folder import Run
from semiseg.scans.geometry import label_to_stored
from semiseg.scans.readers import read_image, read_label
from semiseg.settings.run import Accelerator, WindowConfig
from semiseg.system.files import write_json, write_text

DEFINITION = (
    "Q: mean of exp(-|P_i - P_j|^2) over labelled scans i and unlabelled scans j that both hold the class, P the mean "
    "feature of the class in the scan; classes of labelled scans by their label, of unlabelled ones by the run's own "
    "prediction"
)

Done = Callable[[str], None]


@dataclass(frozen=True)
class Level:
    """Q at one decoder level.

    Attributes:
        tap: name of the feature in the network.
        stride: voxels of the input per feature, per axis.
        classes: Q per class, background first; nan where no pair of scans holds it.
        total: mean over all classes and pairs.
    """

    tap: str
    stride: tuple[int, ...]
    classes: tuple[float, ...]
    total: float


@dataclass(frozen=True)
class Matching:
    """Semantic matching of the labelled and the unlabelled scans of a run.

    Attributes:
        levels: coarse to fine.
        class_names: background first.
        labelled, unlabelled: case ids.
        networks: number of predicting networks, over which Q is the mean.
        method: name of the method.
        density: of the finest features of foreground voxels; None where there are too few.
    """

    levels: tuple[Level, ...]
    class_names: tuple[str, ...]
    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]
    networks: int
    method: str
    density: FeatureDensity | None = None

    @property
    def q(self) -> float:
        """The paper's Q: all classes at the finest level."""
        return self.levels[-1].total

    def table(self) -> str:
        """Q per level (coarse to fine) and class, and what it means, as text."""
        table = Table("level", *self.class_names, "all", box=box.SIMPLE, pad_edge=False)
        for level in self.levels:
            stride = "x".join(map(str, level.stride))
            table.add_row(f"{level.tap} (stride {stride})", *map(_number, (*level.classes, level.total)))
        file = io.StringIO()
        Console(file=file, width=1000, color_system=None, highlight=False).print(table)
        lines = [line.strip() for line in file.getvalue().splitlines() if line.strip()]
        scans = f"{len(self.labelled)} labelled and {len(self.unlabelled)} unlabelled scans"
        return "\n".join(
            [
                f"method: {self.method} · Q = {_number(self.q)} (all classes, finest level) · {scans}",
                *lines,
                "",
                f"{DEFINITION}; mean over {self.networks} predicting network(s)",
                *([f"features.png, features.csv: {self._about_density()}"] if self.density else []),
            ]
        )

    def _about_density(self) -> str:
        assert self.density is not None
        labelled, unlabelled = self.density.counts
        return (
            f"density of the finest features of foreground voxels ({labelled} of labelled and {unlabelled} of "
            f"unlabelled scans), overlap {self.density.overlap:.3f}"
        )

    def save(self, folder: Path) -> None:
        """Write `matching.csv` (a row per level and class), `matching.json`, `features.csv` and `features.png`.

        Raises:
            InputError: the folder cannot be written.
        """
        write_text(folder / "matching.csv", self.to_csv())
        write_json(folder / "matching.json", self.to_json())
        if self.density is not None:
            self.density.save(folder)

    def to_csv(self) -> str:
        """Tidy table: level (from 1, coarse to fine), tap, class, Q; class `all` is the mean over classes and pairs."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["level", "tap", "class", "q"])
        for number, level in enumerate(self.levels, start=1):
            for name, value in zip((*self.class_names, "all"), (*level.classes, level.total), strict=True):
                writer.writerow([number, level.tap, name, value])
        return file.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values; undefined numbers are null."""
        levels = [
            {
                "tap": level.tap,
                "stride": list(level.stride),
                "all": _or_null(level.total),
                "classes": dict(zip(self.class_names, map(_or_null, level.classes), strict=True)),
            }
            for level in self.levels
        ]
        return {
            "definition": DEFINITION,
            "method": self.method,
            "q": _or_null(self.q),
            "levels": levels,
            "networks": self.networks,
            "density_overlap": None if self.density is None else self.density.overlap,
            "labelled": list(self.labelled),
            "unlabelled": list(self.unlabelled),
        }


def match_run(
    path: Path,
    output: Path | None = None,
    *,
    accelerator: Accelerator = "auto",
    overlap: float = 0.5,
    done: Done = lambda case: None,
) -> Matching:
    """Q of a run's labelled against its unlabelled training scans, at all decoder levels.

    Features are those of the predicting networks, on V-Nets of the sums that enter the decoder stages (as in the
    paper's code), else of the stages. No label is read but those that the run was trained with.

    Args:
        path: run folder.
        output: folder for `matching.csv`, `matching.json`, `features.csv` and `features.png`; default: the run folder.
        overlap: share that neighbouring windows have in common.
        done: called with the case id after each scan.

    Raises:
        InputError: no run folder, the training has not ended, the split has no unlabelled cases, files are missing, or
            the method does not say which networks predict.
    """
    run = Run(path)
    config, split = run.config(), run.split()
    if not split.unlabelled:
        raise InputError(
            f"{path}: its split has no unlabelled cases, and Q compares labelled with unlabelled ones: train with "
            "fewer labels (--labelled N) or with more scans"
        )
    predictor = load_predictor(run, accelerator=accelerator, window=WindowConfig(overlap=overlap))
    networks = predictor.method.predictors()
    if not networks:
        raise InputError(f"{path}: method {config.method} does not say which networks predict (Method.predictors)")
    dataset = open_dataset(config.data)
    raise_all(list(_problems(dataset, split)))
    names = level_taps(networks[0].taps).features
    samples = FeatureSample(), FeatureSample()
    labelled, unlabelled = (
        [_of_scan(predictor, dataset, case, names, own_label=own, sample=sample, done=done) for case in cases]
        for cases, own, sample in ((split.labelled, True, samples[0]), (split.unlabelled, False, samples[1]))
    )
    levels = []
    for number, name in enumerate(names):
        pairs = [(_gathered(labelled, net, number), _gathered(unlabelled, net, number)) for net in range(len(networks))]
        levels.append(_level(name, networks[0].taps[name].stride, pairs))
    classes = predictor.plan.class_names
    density = feature_density(names[-1], *(sample.vectors.numpy() for sample in samples))
    found = Matching(tuple(levels), classes, split.labelled, split.unlabelled, len(networks), config.method, density)
    found.save(output or path)
    return found


OfScan = list[list[Prototypes]]
"""Prototypes per predicting network and level."""


def _of_scan(
    predictor: Predictor,
    dataset: Dataset,
    case: str,
    taps: tuple[str, ...],
    *,
    own_label: bool,
    sample: FeatureSample,
    done: Done,
) -> OfScan:
    files = dataset.cases[case]
    scan = read_image(files.images, channels=len(predictor.plan.channels), spacing=files.spacing)
    truth = read_label(files.label).array if own_label and files.label is not None else None
    image, geometry = preprocess(scan, predictor.plan, label=truth)
    labels = predictor.label_stored(image) if truth is None else label_to_stored(truth, geometry)
    found = scan_prototypes(predictor, image, labels, taps, sample)
    done(case)
    return found


def _gathered(scans: Sequence[OfScan], network: int, level: int) -> Prototypes:
    each = [scan[network][level] for scan in scans]
    return Prototypes(torch.cat([p.means for p in each]), torch.cat([p.present for p in each]))


def _level(tap: str, stride: tuple[int, ...], pairs: Sequence[tuple[Prototypes, Prototypes]]) -> Level:
    """Mean over the networks, whose prototypes of labelled and of unlabelled scans are `pairs`."""
    classes = torch.stack([matching_per_class(*pair) for pair in pairs]).mean(0)
    total = torch.stack([matching_score(*pair) for pair in pairs]).mean()
    return Level(tap, stride, tuple(classes.tolist()), float(total))


def _problems(dataset: Dataset, split: Split) -> Iterable[str]:
    for case in (*split.labelled, *split.unlabelled):
        if case not in dataset.cases:
            yield f"case {case}: not in the dataset {dataset.root} any more: put its files back"
        elif case in split.labelled and dataset.cases[case].label is None:
            yield f"case {case}: its label file is not in the dataset {dataset.root} any more: put it back"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value
