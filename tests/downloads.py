"""Small trees of files with the names, headers and intensities of the public downloads, from generated bodies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import SimpleITK as sitk

from semiseg.scans.formats.base import kept_locale

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the directions of NRRD and DICOM to those of an affine."""


def ball(shape: Sequence[int], centre: Sequence[float], radius: float) -> np.ndarray:
    """A boolean ball `[X, Y, Z]`, all in voxels."""
    grid = np.indices(shape).reshape(3, -1).T - np.asarray(centre)
    return (np.linalg.norm(grid, axis=1) <= radius).reshape(shape)


def save_nrrd(path: Path, array: np.ndarray, spacing: Sequence[float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetSpacing(list(spacing))
    image.SetOrigin([-10.0, 5.0, 20.0])
    with kept_locale():
        sitk.WriteImage(image, str(path), useCompression=True)


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def save_h5(path: Path, image: np.ndarray, label: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=image, compression="gzip")
        file.create_dataset("label", data=label, compression="gzip")


def save_dicom(folder: Path, array: np.ndarray, spacing: Sequence[float]) -> None:
    """One series of HU `[X, Y, Z]`, stored above an intercept of -1024 as scanners do (the writer subtracts it)."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index in range(array.shape[2]):
        image = sitk.GetImageFromArray(array[:, :, index].T.astype(np.int16)[None])
        image.SetSpacing(list(spacing))
        tags = {
            "0008|0060": "CT",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.3.{index}",
            "0020|0032": f"0\\0\\{index * spacing[2]}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(index + 1),
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"1-{array.shape[2] - index:03d}.dcm"))
        with kept_locale():
            writer.Execute(image)


def atrium(seed: int, shape: Sequence[int] = (60, 56, 12)) -> tuple[np.ndarray, np.ndarray]:
    """An LGE-MRI (uint8) and its label (0, 255)."""
    rng = np.random.default_rng(seed)
    mask = ball(shape, [side / 2 + rng.uniform(-3, 3) for side in shape], 5.0)
    image = rng.integers(10, 60, shape) + 120 * mask
    return image.astype(np.uint8), (255 * mask).astype(np.uint8)


def la_download(root: Path, cases: Iterable[str]) -> Path:
    """Training set of the 2018 Atrial Segmentation Challenge."""
    for seed, case in enumerate(cases):
        image, label = atrium(seed)
        for name, array in (("lgemri", image), ("laendo", label)):
            save_nrrd(root / "Training Set" / case / f"{name}.nrrd", array, (0.625,) * 3)
    return root


def la_h5(root: Path, cases: Iterable[str]) -> Path:
    """The copy in UA-MT."""
    for seed, case in enumerate(cases):
        image, label = atrium(seed)
        normal = (image - image.mean()) / image.std()
        folder = root / "2018LA_Seg_Training Set" / case
        save_h5(folder / "mri_norm2.h5", normal.astype(np.float32), (label > 0).astype(np.uint8))
    return root


def abdomen(seed: int, shape: Sequence[int] = (44, 40, 16)) -> tuple[np.ndarray, np.ndarray]:
    """A CT in HU (int16) with air around it, and the label (0, 1) of an organ off its centre."""
    rng = np.random.default_rng(seed)
    body = ball(shape, [side / 2 for side in shape], 18)
    organ = ball(shape, (16 + rng.uniform(-1, 1), 22, 6), 4)
    image = np.where(body, rng.integers(-60, 80, shape), -1000) + 90 * organ
    return image.astype(np.int16), organ.astype(np.uint8)


def pancreas_download(root: Path, numbers: Iterable[int], spacing: Sequence[float] = (0.9, 0.9, 2.0)) -> Path:
    """The Cancer Imaging Archive: DICOM series, and labels as NIfTI that run towards the front, not the back."""
    for number in numbers:
        image, label = abdomen(number)
        study = root / "manifest-1599750808610" / "Pancreas-CT" / f"PANCREAS_{number:04d}"
        save_dicom(study / "11-24-2015-PANCREAS-18957" / "Pancreas-29663", image, spacing)
        affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
        name = root / "TCIA_pancreas_labels-02-05-2017" / f"label{number:04d}.nii.gz"
        save_nifti(name, np.flip(label, axis=1), affine)
    return root


def pancreas_h5(root: Path, numbers: Iterable[int], line: str) -> Path:
    """The preprocessed files of either line."""
    for number in numbers:
        image, label = abdomen(number)
        scaled = np.clip((image + 125.0) / 400, 0, 1).astype(np.float32)
        names = {"mcnet": f"Pancreas_h5/image{number:04d}_norm.h5", "coranet": f"Pancreas/{number:04d}.h5"}
        save_h5(root / names[line], scaled, label.astype(np.float32))
    return root


def brain(seed: int, shape: Sequence[int] = (40, 36, 20)) -> tuple[np.ndarray, np.ndarray]:
    """A skull-stripped FLAIR (int16, zero outside of the brain) and its label (0, 1, 2, 4)."""
    rng = np.random.default_rng(seed)
    inside = ball(shape, [side / 2 for side in shape], 9)
    label = np.zeros(shape, np.uint8)
    for value, radius in ((2, 5), (1, 3), (4, 2)):
        label[ball(shape, (19, 18, 10), radius)] = value
    image = inside * (rng.integers(150, 300, shape) + 200 * (label > 0))
    return image.astype(np.int16), label


def brats_download(root: Path, cases: Iterable[str], ending: str = ".nii.gz") -> Path:
    """Training data of BraTS 2019, with the other three sequences beside FLAIR."""
    affine = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
    for seed, case in enumerate(cases):
        flair, label = brain(seed)
        folder = root / "MICCAI_BraTS_2019_Data_Training" / ("HGG" if seed % 2 else "LGG") / case
        for name in ("flair", "t1", "t1ce", "t2"):
            save_nifti(folder / f"{case}_{name}{ending}", flair, affine)
        save_nifti(folder / f"{case}_seg{ending}", label.astype(np.int16), affine)
    (root / "MICCAI_BraTS_2019_Data_Training" / "name_mapping.csv").write_text("Grade,BraTS_2019_subject_ID\n")
    return root


def lung_download(root: Path, numbers: Iterable[int], spacing: Sequence[float] = (0.8, 0.8, 1.5)) -> Path:
    """Task06 of the Medical Segmentation Decathlon, with its test images and the litter of macOS."""
    task = root / "Task06_Lung"
    for number in numbers:
        image, label = abdomen(number)
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = (-150, -170, -300)
        name = f"lung_{number:03d}.nii.gz"
        save_nifti(task / "imagesTr" / name, image.astype(np.float32), affine)
        save_nifti(task / "labelsTr" / name, label, affine)
        (task / "imagesTr" / f"._{name}").write_bytes(b"\0\5\26\7")
    save_nifti(task / "imagesTs" / "lung_002.nii.gz", image, affine)
    (task / "dataset.json").write_text('{"name": "Lung", "modality": {"0": "CT"}}')
    return root


def ian_download(root: Path, dense: Iterable[str], sparse: Iterable[str] = ()) -> Path:
    """ToothFairy: arrays `[Z, Y, X]`, dense labels of some scans and sparse ones of all."""
    for seed, case in enumerate((*dense, *sparse)):
        image, label = abdomen(seed, (16, 40, 44))
        folder = root / "ToothFairy_Dataset" / "Dataset" / case
        folder.mkdir(parents=True)
        np.save(folder / "data.npy", image)
        np.save(folder / "gt_sparse.npy", label[::4])
        if case in dense:
            np.save(folder / "gt_alpha.npy", label)
    return root


def ian_h5(root: Path, cases: Iterable[str]) -> Path:
    """One file per scan; unlabelled voxels may be negative."""
    for seed, case in enumerate(cases):
        image, label = abdomen(seed, (16, 40, 44))
        coded = label.astype(np.int16)
        coded[0] = -1
        save_h5(root / f"{case}.h5", (image / 500).astype(np.float32), coded)
    return root
