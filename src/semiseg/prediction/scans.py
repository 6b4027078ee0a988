"""Which scans are to be labelled: those of a folder, or the test cases of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from semiseg.datasets.dataset import Dataset, open_dataset
from semiseg.errors import InputError, raise_all, shown
from semiseg.runs.build import Build
from semiseg.runs.folder import Run
from semiseg.scans.crop import LabelCrop
from semiseg.scans.formats import ENDINGS
from semiseg.scans.found import scan_paths, stem_of
from semiseg.scans.readers import Header, read_header
from semiseg.system.file_names import is_file_name

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Scans:
    """What is to be labelled.

    Attributes:
        images: files by case, one per channel or one with all.
        spacing: mm along X, Y, Z of scans in formats that record none.
        truths: label files by case, for plans that crop around them.
        headers: of the first file by case, as far as they were looked at.
    """

    images: Mapping[str, tuple[Path, ...]]
    spacing: Spacing | None = None
    truths: Mapping[str, Path] = field(default_factory=dict)
    headers: Mapping[str, Header] = field(default_factory=dict)

    def files(self, case: str) -> tuple[Path, ...]:
        """All files that the prediction of a case is made of."""
        truth = self.truths.get(case)
        return (*self.images[case], *([] if truth is None else [truth]))


def find_scans(source: Path, channels: int, spacing: Spacing | None = None) -> Scans:
    """Scans in a folder (or one file): `CASE_0000.nii.gz`, one per channel, or `CASE.nii.gz` with all channels.

    Any readable format will do; a DICOM series is a folder, or a folder in the given one.

    Raises:
        InputError: nothing is there, or a scan has another number of channels than the run was trained on.
    """
    if not source.exists():
        raise InputError(f"{source}: expected a folder of scans or one scan, found nothing there: check the path")
    files = scan_paths(source)
    if not files:
        raise InputError(f"{source}: no scans ({', '.join(ENDINGS)}, DICOM): give a folder of scans or one scan")
    scans: dict[str, list[Path]] = {}
    for file in files:
        stem = stem_of(file)
        head, _, tail = stem.rpartition("_")
        scans.setdefault(head if head and len(tail) == 4 and tail.isdigit() else stem, []).append(file)
    odd = [case for case in scans if not is_file_name(case)]
    if odd:
        raise InputError(f"{source}: expected scans with printable names, came {shown(odd[0])}: rename the file")
    headers = {case: found for case, paths in scans.items() if (found := _header(paths, spacing)) is not None}
    counts = {case: len(scans[case]) if len(scans[case]) > 1 else header.channels for case, header in headers.items()}
    wrong = [f"{case}: {count}" for case, count in counts.items() if count != channels]
    if wrong:
        raise InputError(
            f"{source}: the run was trained on {channels} channel(s) per scan (CASE_0000.nii.gz, CASE_0001.nii.gz, "
            f"...); other numbers came for {', '.join(wrong)}"
        )
    return Scans({case: tuple(paths) for case, paths in scans.items()}, spacing, headers=headers)


def _header(paths: Sequence[Path], spacing: Spacing | None) -> Header | None:
    """Header of the first file; None where it cannot be read, which is told in its turn."""
    try:
        return read_header(paths[0], spacing=spacing)
    except InputError:
        return None


def test_scans(run: Run, build: Build, dataset: Dataset | None) -> Scans:
    """Scans of the run's test cases, and their label files where the run's plan crops around labels.

    `dataset` is that of the run, where it is open already.

    Raises:
        InputError: the run's split has no test cases.
    """
    cases = run.split().test
    if not cases:
        raise InputError(
            f"{run.path}: its split has no test cases: name the scans, as in semiseg predict {run.path} SCANS -o OUT"
        )
    dataset = dataset or open_dataset(build.config.data)
    raise_all(
        f"{run.path / 'split.json'}: {dataset.root} has no case {shown(case)} any more: restore it, or name the scans"
        for case in cases
        if case not in dataset.cases
    )
    images = {case: dataset.cases[case].images for case in cases}
    spacing = dataset.cases[cases[0]].spacing
    if not isinstance(build.plan.crop, LabelCrop):
        return Scans(images, spacing)
    return Scans(images, spacing, {case: label for case in cases if (label := dataset.cases[case].label) is not None})
