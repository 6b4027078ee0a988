"""Samples: small datasets in every format, and a finished run; what is damaged in each, how, and who reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import semiseg
from fuzzing import judges, wrap
from fuzzing.judges import NETWORK, Judge
from fuzzing.mutate import BINARY, DOCUMENT, TEXT_HEADER, Mutator
from scans.foreign import write_dicom, write_sitk
from semiseg.networks import build_network
from semiseg.scans.formats.base import kept_locale
from tiny import tiny_dataset, write_nifti

Write = Callable[[Path, np.ndarray], None]

AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


@dataclass(frozen=True)
class Kind:
    """One way to damage one kind of file.

    Attributes:
        name: in the table.
        sample: folder below the corpus; a worker has a copy of its own.
        targets: files in it that are damaged, one at a time.
        judge: reads the sample afterwards.
        ways: what is done to the bytes.
        wrap: what is unpacked before and packed afterwards.
        signed: whether the checksum beside the file is made right again.
    """

    name: str
    sample: str
    targets: tuple[str, ...]
    judge: Judge
    ways: Sequence[Mutator] = BINARY
    wrap: wrap.Wrap = wrap.plain
    signed: bool = False


def kinds() -> tuple[Kind, ...]:
    """All kinds; their order and samples decide what an input's number means."""
    return (*_scans(), *_documents(), *_weights())


def _scans() -> tuple[Kind, ...]:
    def both(ending: str) -> tuple[str, ...]:
        return f"imagesTr/case_000_0000{ending}", f"labelsTr/case_001{ending}"

    def images(name: str, ending: str, ways: Sequence[Mutator] = BINARY, inside: wrap.Wrap = wrap.plain) -> Kind:
        return Kind(
            f"{name}{', inside' if inside is not wrap.plain else ''}", name, both(ending), judges.dataset, ways, inside
        )

    series = tuple(f"series/{number:03d}.dcm" for number in range(5))
    return (
        images("nii", ".nii"),
        images("nii.gz", ".nii.gz"),
        images("nii.gz", ".nii.gz", inside=wrap.gzipped),
        images("nrrd", ".nrrd", TEXT_HEADER),
        images("nrrd gzip", ".nrrd", TEXT_HEADER),
        images("nrrd gzip", ".nrrd", inside=wrap.nrrd),
        images("mha", ".mha", TEXT_HEADER),
        images("mha packed", ".mha", TEXT_HEADER),
        images("mha packed", ".mha", inside=wrap.metaimage),
        images("mhd", ".mhd", TEXT_HEADER),
        images("dcm", ".dcm", TEXT_HEADER),
        *(images(f"dcm {name}", ".dcm", TEXT_HEADER) for name in COMPRESSORS),
        Kind("dicom series", "dicom", series, judges.scan, TEXT_HEADER),
        images("h5", ".h5"),
        images("h5 gzip", ".h5"),
        images("npy", ".npy", TEXT_HEADER),
        images("npz", ".npz"),
        images("npz", ".npz", TEXT_HEADER, wrap.zipped),
        images("png", ".png"),
        images("png", ".png", inside=wrap.chunks),
        images("tif", ".tif"),
        *(images(f"tif {name}", ".tif") for name in PACKINGS),
    )


def _documents() -> tuple[Kind, ...]:
    metas = ("prepared/store/case_000.json", "prepared/store/case_001.json", "prepared/fingerprint.json")
    arrays = ("prepared/store/case_000.image.npy", "prepared/store/case_001.label.npy")
    run = ("config.yaml", "plan.json", "split.json", "checkpoints/final.json", "checkpoints/step_0000002.json")
    read = ("provenance.json", "log.jsonl", "scores.csv", "scores.json", "config.yaml")
    return (
        Kind("dataset.json", "nii.gz", ("dataset.json",), judges.patients, DOCUMENT),
        Kind("dataset.json, listing", "listing", ("dataset.json",), judges.patients, DOCUMENT),
        Kind("patients.json", "listing", ("patients.json",), judges.patients, DOCUMENT),
        Kind("split file", "listing", ("split.json",), judges.split, DOCUMENT),
        Kind("plan.json", "prepared", ("prepared/plan.json",), judges.plan, DOCUMENT),
        Kind("store, documents", "prepared", (*metas, "prepared/sources.json"), judges.store, DOCUMENT),
        Kind("store, arrays", "prepared", arrays, judges.store, TEXT_HEADER),
        Kind("config.yaml", "settings", ("config.yaml", "preset.yaml"), judges.config, DOCUMENT),
        Kind("grid.yaml", "settings", ("grid.yaml",), judges.grid, DOCUMENT),
        Kind("run, documents", "run", run, judges.run_folder, DOCUMENT),
        Kind("run, signed documents", "run", run[3:], judges.run_folder, DOCUMENT, signed=True),
        Kind("run, for the report", "run", read, judges.records, DOCUMENT_OR_LINES),
    )


def _weights() -> tuple[Kind, ...]:
    final = ("checkpoints/final.safetensors",)
    return (
        Kind("checkpoint", "run", final, judges.run_folder, TEXT_HEADER),
        Kind("checkpoint, signed", "run", final, judges.run_folder, TEXT_HEADER, signed=True),
        Kind("weights.safetensors", "weights", ("weights.safetensors",), judges.weights, TEXT_HEADER),
        Kind("weights.pth", "weights", ("weights.pth",), judges.weights),
        Kind("weights.pth, inside", "weights", ("weights.pth",), judges.weights, TEXT_HEADER, wrap.zipped),
        Kind("weights.pth, old", "weights", ("old.pth",), judges.weights),
    )


DOCUMENT_OR_LINES: tuple[Mutator, ...] = TEXT_HEADER
COMPRESSORS = ("JPEG", "JPEG2000")
PACKINGS = {"deflate": "tiff_adobe_deflate", "lzw": "tiff_lzw", "packbits": "packbits", "jpeg": "jpeg"}


def build(folder: Path, data: Path | None) -> None:
    """Write all samples into `folder`, of a real scan in `data` where there is one."""
    base = tiny_dataset(folder / "nii.gz", cases=2, labelled=2)
    if data is not None:
        _take_real_scan(base, data / "hippocampus")
    for name, ending, write in _writers():
        _converted(base, folder / name, ending, write)
    _dicom(folder / "dicom", data)
    _listing(base, folder / "listing")
    _run(folder)
    _settings(folder / "settings")
    _weight_files(folder / "weights")


def _take_real_scan(base: Path, source: Path) -> None:
    """Put a real scan and its label in the place of the generated case."""
    first = sorted((source / "labelsTr").iterdir())[0].name.removesuffix(".nii.gz")
    for kind, name in (("imagesTr", f"{first}_0000.nii.gz"), ("labelsTr", f"{first}.nii.gz")):
        image = nib.load(source / kind / name)
        array = np.asarray(image.dataobj)[4:28, 8:30, 8:28].astype(np.int16 if kind == "imagesTr" else np.uint8)
        write_nifti(base / kind / name.replace(first, "case_000"), array, image.affine)


def _writers() -> list[tuple[str, str, Write]]:
    return [
        ("nii", ".nii", lambda path, array: write_nifti(path, array, AFFINE) and None),
        ("nrrd", ".nrrd", lambda path, array: write_sitk(path, array, AFFINE) and None),
        ("nrrd gzip", ".nrrd", lambda path, array: write_sitk(path, array, AFFINE, compress=True) and None),
        ("mha", ".mha", lambda path, array: write_sitk(path, array, AFFINE) and None),
        ("mha packed", ".mha", lambda path, array: write_sitk(path, array, AFFINE, compress=True) and None),
        ("mhd", ".mhd", lambda path, array: write_sitk(path, array, AFFINE) and None),
        ("dcm", ".dcm", _single_dicom("")),
        *((f"dcm {name}", ".dcm", _single_dicom(name)) for name in COMPRESSORS),
        ("h5", ".h5", _hdf5()),
        ("h5 gzip", ".h5", _hdf5(compression="gzip")),
        ("npy", ".npy", lambda path, array: np.save(path, array)),
        ("npz", ".npz", lambda path, array: np.savez_compressed(path, **{_part(path): array})),
        ("png", ".png", lambda path, array: _picture(array).save(path)),
        ("tif", ".tif", lambda path, array: _pages(path, array, None)),
        *((f"tif {name}", ".tif", _tiff(packing)) for name, packing in PACKINGS.items()),
    ]


def _converted(base: Path, root: Path, ending: str, write: Write) -> None:
    """The dataset in another format."""
    for kind in ("imagesTr", "labelsTr"):
        (root / kind).mkdir(parents=True)
        for file in sorted((base / kind).iterdir()):
            write(root / kind / file.name.replace(".nii.gz", ending), np.asarray(nib.load(file).dataobj))
    _describe(base, root, file_ending=ending, spacing=[1.0, 1.5, 2.0])


def _describe(base: Path, root: Path, **entries: object) -> None:
    content = json.loads((base / "dataset.json").read_text()) | entries
    (root / "dataset.json").write_text(json.dumps(content, indent=1))


def _single_dicom(compressor: str) -> Write:
    def write(path: Path, array: np.ndarray) -> None:
        image = sitk.GetImageFromArray(array[:, :, array.shape[2] // 2].T[None])
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(path))
        if compressor:
            writer.UseCompressionOn()
            writer.SetCompressor(compressor)
        with kept_locale():
            writer.Execute(image)

    return write


def _hdf5(**options: object) -> Write:
    def write(path: Path, array: np.ndarray) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset(_part(path), data=array, **options)

    return write


def _part(path: Path) -> str:
    return "label" if path.parent.name == "labelsTr" else "image"


def _picture(array: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(array[:, :, array.shape[2] // 2].T, 0, 255).astype(np.uint8))


def _tiff(packing: str) -> Write:
    return lambda path, array: _pages(path, array, "raw" if _part(path) == "label" and packing == "jpeg" else packing)


def _pages(path: Path, array: np.ndarray, packing: str | None) -> None:
    pages = [Image.fromarray(np.clip(array[:, :, z].T, 0, 255).astype(np.uint8)) for z in range(array.shape[2])]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression=packing)


def _dicom(root: Path, data: Path | None) -> None:
    source = None if data is None else data / "formats" / "dicom_series"
    if source is None or not source.is_dir():
        write_dicom(root / "series", np.arange(24 * 20 * 5, dtype=np.int16).reshape(24, 20, 5), AFFINE)
        return
    (root / "series").mkdir(parents=True)
    slices = sorted(source.iterdir(), key=lambda file: int(file.stem))[:5]
    for number, file in enumerate(slices):
        shutil.copyfile(file, root / "series" / f"{number:03d}.dcm")


def _listing(base: Path, root: Path) -> None:
    """The dataset with its cases listed, patients, and a split file."""
    shutil.copytree(base, root)
    cases = {
        case: {"images": [f"imagesTr/{case}_0000.nii.gz"], "label": f"labelsTr/{case}.nii.gz"}
        for case in ("case_000", "case_001")
    }
    _describe(base, root, dataset=cases)
    (root / "patients.json").write_text(json.dumps({"case_000": "p1", "case_001": "p2"}))
    split = {"labelled": ["case_000"], "unlabelled": [], "validation": [], "test": ["case_001"], "note": "by hand"}
    (root / "split.json").write_text(json.dumps(split))


def _run(folder: Path) -> None:
    """A prepared dataset and a run that was trained on it, predicted and scored."""
    data = tiny_dataset(folder / "prepared", cases=3, labelled=3, shape=(16, 14, 12))
    small = {"network": {"options": NETWORK}, "batch": {"patch": [16, 16, 16]}}
    run = semiseg.train(data, folder / "run", method="mean_teacher", test=1, steps=2, precision="fp32", **small)
    semiseg.predict(run.path, accelerator="cpu")
    semiseg.evaluate(run.path, workers=1)


def _settings(root: Path) -> None:
    root.mkdir()
    config = {
        "data": "data",
        "labelled": 4,
        "method": "micd",
        "steps": 100,
        "options": {"mask_ratio": 0.3},
        "network": {"name": "vnet", "options": {"filters": [4, 8]}},
        "batch": {"patch": [16, 16, 16]},
        "optimiser": {"name": "sgd", "lr": 0.01},
        "plan": {"spacing": [1.0, 1.0, 1.0]},
        "window": {"overlap": 0.5},
    }
    preset = {"preset": "la", "data": "data", "labelled": 8, "optimiser": {"lr": 0.01}}
    grid = {"data": "data", "methods": ["micd", {"method": "cps", "name": "x"}], "labelled": [4, "10%"], "seeds": 2}
    for name, content in (("config", config), ("preset", preset), ("grid", grid)):
        (root / f"{name}.yaml").write_text(yaml.safe_dump(content))


def _weight_files(root: Path) -> None:
    root.mkdir()
    torch.manual_seed(0)
    state = build_network("unet", channels=1, classes=3, spatial_dims=3, **NETWORK).state_dict()
    save_file(state, root / "weights.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, root / "weights.pth")
    torch.save(state, root / "old.pth", _use_new_zipfile_serialization=False)
