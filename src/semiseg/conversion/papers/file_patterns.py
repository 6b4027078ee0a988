"""Finding scans by name, and telling what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from semiseg.conversion.papers.base import Found, Item
from semiseg.scans.formats import ending_of


def files_like(source: Path, pattern: str) -> list[tuple[re.Match[str], Path]]:
    """Files below `source` whose path in it, with slashes, ends in `pattern`, in alphabetical order.

    Hidden files (such as the `._` files of macOS) are left out. The ending may be in any case.
    """
    compiled = re.compile(rf"(?:.*/)?{pattern}")
    found = []
    for path in sorted(source.rglob("*")):
        name, ending = path.relative_to(source).as_posix(), ending_of(path) or ""
        match = compiled.fullmatch(name[: len(name) - len(ending)] + ending)
        if match and not path.name.startswith(".") and path.is_file():
            found.append((match, path))
    return found


def by_case(source: Path, pattern: str) -> dict[str, Path]:
    """Files below `source` that end in `pattern`, by its group `case`."""
    return {match["case"]: path for match, path in files_like(source, pattern)}


def with_labels(source: Path, image_pattern: str, label_pattern: str, image_name: str, label_name: str) -> Found:
    """Items of the images and labels below `source`, as `by_case` and `pairs` find them."""
    return pairs(by_case(source, image_pattern), by_case(source, label_pattern), image_name, label_name)


def pairs(images: Mapping[str, Path], labels: Mapping[str, Path], image_name: str, label_name: str) -> Found:
    """Items of images and labels by case; each without the other is a problem.

    Args:
        images, labels: files by case.
        image_name, label_name: names that were expected, with `CASE` in place of the case.
    """
    items = tuple(Item(case, (path,), labels[case]) for case, path in images.items() if case in labels)
    return Found(items, tuple(_missing(images, labels, label_name)) + tuple(_missing(labels, images, image_name)))


def _missing(here: Mapping[str, Path], there: Mapping[str, Path], name: str) -> Iterator[str]:
    for case, path in here.items():
        if case not in there:
            wanted = name.replace("CASE", case)
            yield f"{path}: expected {wanted} as well, found none: download it again, or take this file away"
