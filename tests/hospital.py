"""Generated scans under the names and in the formats of a hospital's export: the example of docs/own_data.md."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from scans.foreign import write_dicom, write_sitk
from semiseg.phantom.cohort import PhantomCase, PhantomConfig, make_case

CONFIG = PhantomConfig(shape=(32, 24, 20), organs=2, seed=4)
LABELLED, UNLABELLED = range(8), range(8, 12)
VALUES = np.array([0, 10, 20], np.uint8)
"""Label values as a contouring program writes them."""


def hospital_export(root: Path) -> Path:
    """12 scans of 11 patients: NRRD, four of them DICOM series; labels as NIfTI for 8; one new scan in `new`."""
    for index in (*LABELLED, *UNLABELLED):
        case = make_case(CONFIG, index)
        affine = np.diag([-case.spacing[0], -case.spacing[1], case.spacing[2], 1.0])
        name = f"PAT{1000 + 7 * max(index, 1)}_2024{1 + index:02d}15"
        if index in UNLABELLED:
            series = f"1.2.826.0.1.3680043.8.498.{index}"
            write_dicom(root / "scans" / f"{name}_CT", case.image, affine, series=series, modality="CT")
            continue
        write_sitk(root / "scans" / f"{name}_CT.nrrd", case.image, affine)
        _write_label(root / "contours" / f"{name}_seg.nii.gz", case, affine)
    new = make_case(CONFIG, 99)
    write_sitk(root / "new" / "PAT2001_20250101_CT.mha", new.image, np.diag([*new.spacing, 1.0]))
    return root


def _write_label(path: Path, case: PhantomCase, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(VALUES[case.label], affine), path)
