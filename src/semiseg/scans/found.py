"""Which scans a folder holds: files that can be read, and folders with a DICOM series."""

from __future__ import annotations

from pathlib import Path

from semiseg.scans.formats import ending_of


def scan_paths(source: Path, *, nested: bool = False) -> list[Path]:
    """Scans in `source`, in alphabetical order; `source` may be a scan itself.

    Hidden files are left out; the data files of detached headers are no scans of their own.

    Args:
        source: a file or folder.
        nested: look into all folders below as well, not only for DICOM series.
    """
    if source.is_file() or is_series(source):
        return [source]
    if not source.is_dir():
        return []
    found = []
    for path in sorted(source.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            found += [path] if ending_of(path) else []
        elif is_series(path):
            found.append(path)
        elif nested:
            found += scan_paths(path, nested=True)
    return found


def is_series(path: Path) -> bool:
    """Whether `path` is a folder with DICOM files in it; files of other known endings are not looked into."""
    if not path.is_dir():
        return False
    from semiseg.scans.formats.dicom import is_dicom

    files = (file for file in sorted(path.iterdir()) if not file.name.startswith("."))
    return any(is_dicom(file) for file in files if ending_of(file) in (None, ".dcm"))


def stem_of(path: Path) -> str:
    """Name of a scan without its ending."""
    ending = None if path.is_dir() else ending_of(path)
    return path.name[: -len(ending)] if ending else path.name
