"""Small trees like the downloads of ACDC, AMOS, Synapse and the Decathlon: names, headers, intensities, directions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np

from downloads import save_nifti
from semiseg.conversion.papers.arrays import unit_range
from semiseg.conversion.papers.official import official_lists
from tiny import tiny_dataset, write_nifti

HEART_AFFINE = np.diag([-1.5625, -1.5625, 10.0, 1.0])
"""Of the challenge's files, towards left and posterior."""

FRAMES = {"patient099": (1, 9), "patient038": (1, 11), "patient028": (1, 9), "patient011": (1, 8)}
"""Two training patients, the first of the list, and one each of validation and test."""

CT_AFFINE = np.array([[-0.8, 0, 0, 160.0], [0, 0.8, 0, -180.0], [0, 0, 5.0, -700.0], [0, 0, 0, 1]])
PROSTATE_AFFINE = np.array([[-0.6, 0, 0, 90], [0, 0.6, 0, -50], [0, 0, 3.6, -12], [0, 0, 0, 1.0]])
ABDOMEN = (20, 24, 10)


def heart(seed: int, shape=(42, 48, 5)) -> tuple[np.ndarray, np.ndarray]:
    """A cine frame `[X, Y, Z]` and its label."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    for value in (1, 2, 3):
        label[6 * value : 6 * value + 5, 10:20, 1:4] = value
    return (100 * label + rng.integers(0, 60, shape)).astype(np.int16), label


def acdc_download(root: Path) -> Path:
    """The tree of the challenge's archive."""
    for seed, (patient, frames) in enumerate(FRAMES.items()):
        folder = root / "database" / "training" / patient
        for frame in frames:
            image, label = heart(100 * seed + frame)
            save_nifti(folder / f"{patient}_frame{frame:02d}.nii.gz", image, HEART_AFFINE)
            save_nifti(folder / f"{patient}_frame{frame:02d}_gt.nii.gz", label, HEART_AFFINE)
        save_nifti(folder / f"{patient}_4d.nii.gz", np.stack([image] * 3, axis=-1), HEART_AFFINE)
        (folder / "Info.cfg").write_text("ED: 1\nES: 9\n")
    return root


def write_h5(path: Path, image: np.ndarray, label: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = image, label
        file["scribble"] = label.astype(np.uint16)


def acdc_h5(root: Path) -> Path:
    """The tree of SSL4MIS: slices of training cases, volumes of the others; frames are counted."""
    for seed, (patient, frames) in enumerate(FRAMES.items()):
        for number, frame in enumerate(frames, start=1):
            image, label = heart(100 * seed + frame)
            image, label = unit_range(image).T, label.T
            case = f"{patient}_frame{number:02d}"
            if patient in official_lists("acdc")["train"]:
                for k in range(len(image)):
                    write_h5(root / "data" / "slices" / f"{case}_slice_{k}.h5", image[k], label[k])
            else:
                write_h5(root / "data" / f"{case}.h5", image, label)
    return root


def organs(seed: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """CT in Hounsfield units: air, body, organs of two by two by two voxels that the small grid does not lose."""
    rng = np.random.default_rng(seed)
    label = np.zeros(ABDOMEN, np.uint8)
    places = [(x, y, z) for z in (2, 6) for x in range(3, 17, 4) for y in (6, 14)]
    for value, (x, y, z) in enumerate(places[: classes - 1], start=1):
        label[x : x + 3, y : y + 4, z : z + 3] = value
    image = np.full(ABDOMEN, -1000.0)
    image[2:18, 3:21] = 40 + rng.normal(0, 10, (16, 18, ABDOMEN[2]))
    image[label > 0] += 60
    image[9:11, 4:6] = 1200
    return np.rint(image).astype(np.int16), label


def amos_download(root: Path, cases: Sequence[str], test: Sequence[str]) -> Path:
    """AMOS22 with a scan of the test set, and the litter of macOS."""
    folder = root / "amos22"
    for number, case in enumerate((*cases, *test)):
        image, label = organs(number, 16)
        part = "Va" if case in test else "Tr"
        save_nifti(folder / f"images{part}" / f"{case}.nii.gz", image, CT_AFFINE)
        save_nifti(folder / f"labels{part}" / f"{case}.nii.gz", label, CT_AFFINE)
    save_nifti(folder / "imagesTs" / "amos_0003.nii.gz", organs(9, 16)[0], CT_AFFINE)
    (folder / "imagesTr" / f"._{cases[0]}.nii.gz").write_bytes(b"macOS")
    (folder / "dataset.json").write_text("{}")
    return root


def synapse_download(
    root: Path, cases: Sequence[str], names: tuple[str, str] = ("RawData/Training/img", "RawData/Training/label")
) -> Path:
    """The training scans, and one of the test."""
    for number, case in enumerate(cases):
        image, label = organs(number, 14)
        save_nifti(root / names[0] / f"img{case}.nii.gz", image, CT_AFFINE)
        save_nifti(root / names[1] / f"label{case}.nii.gz", label, CT_AFFINE)
    save_nifti(root / "RawData" / "Testing" / "img" / "img0061.nii.gz", organs(9, 14)[0], CT_AFFINE)
    return root


def abdomen_npy(root: Path, cases: Sequence[str], classes: int) -> Path:
    """As DHC stores them: z, y, x; raw intensities as float32, labels int8."""
    (root / "npy").mkdir(parents=True)
    for number, case in enumerate(cases):
        image, label = organs(number, classes)
        np.save(root / "npy" / f"{case}_image.npy", image.T.astype(np.float32))
        np.save(root / "npy" / f"{case}_label.npy", label.T.astype(np.int8))
    return root


def msd_task(root: Path, channels: int, cases: int = 3, tests: int = 2, classes: int = 3) -> Path:
    """A task folder as its archive has it, with channels along the fourth axis where there are several."""
    made = tiny_dataset(root / "made", cases + tests, cases, shape=(20, 18, 16), classes=classes, channels=channels)
    folder = root / "Task05_Tiny"
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    names = [f"tiny_{number:02d}" for number in range(cases + tests)]
    for number, name in enumerate(names):
        files = sorted((made / "imagesTr").glob(f"case_{number:03d}_*"))
        image = np.stack([nib.load(file).get_fdata() for file in files], axis=-1).astype(np.float32)
        part = "imagesTr" if number < cases else "imagesTs"
        write_nifti(folder / part / f"{name}.nii.gz", image if channels > 1 else image[..., 0], PROSTATE_AFFINE)
        if number < cases:
            label = np.asanyarray(nib.load(made / "labelsTr" / f"case_{number:03d}.nii.gz").dataobj)
            write_nifti(folder / "labelsTr" / f"{name}.nii.gz", label, PROSTATE_AFFINE)
    (folder / "imagesTr" / "._tiny_00.nii.gz").write_bytes(b"macOS")
    describe_task(
        folder,
        modality={str(c): f"T{c}" for c in range(channels)},
        labels={str(k): ("background", "PZ", "TZ")[k] for k in range(classes)},
        training=names[:cases],
        test=names[cases:],
    )
    return folder


def describe_task(
    folder: Path, modality: dict[str, str], labels: dict[str, str], training: Sequence[str], test: Sequence[str]
) -> None:
    """The Decathlon's dataset.json."""
    content = {
        "name": "TINY",
        "description": "made for a test",
        "tensorImageSize": "4D",
        "modality": modality,
        "labels": labels,
        "numTraining": len(training),
        "numTest": len(test),
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in training],
        "test": [f"./imagesTs/{name}.nii.gz" for name in test],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
