"""Parts of the package that are found by their files."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def modules_of(package: str, without: Collection[str] = ()) -> list[ModuleType]:
    """All modules in the folder of `package`, imported, but for those with these names."""
    places = import_module(package).__path__
    return [import_module(f"{package}.{found.name}") for found in iter_modules(places) if found.name not in without]
