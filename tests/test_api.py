"""The public names: few, there, and never shadowed by a module of the same name."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import semiseg

PUBLIC = {
    "Cluster",
    "InputError",
    "RunConfig",
    "__version__",
    "bench",
    "check",
    "compare",
    "demo",
    "evaluate",
    "import_dataset",
    "init_dataset",
    "list_methods",
    "list_presets",
    "matching",
    "predict",
    "prepare",
    "preview",
    "report",
    "train",
}


def test_public_names() -> None:
    assert set(dir(semiseg)) == PUBLIC
    for name in PUBLIC:
        assert getattr(semiseg, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        semiseg.nothing  # noqa: B018


def test_no_module_hides_a_public_name() -> None:
    modules = {module.name for module in pkgutil.iter_modules(semiseg.__path__)}
    assert not modules & PUBLIC


def test_every_module_can_be_imported_alone() -> None:
    for module in pkgutil.walk_packages(semiseg.__path__, "semiseg."):
        importlib.import_module(module.name)


def test_methods_are_listed_with_their_options() -> None:
    infos = {info.name: info for info in semiseg.list_methods()}
    assert {"supervised", "mean_teacher", "cps", "dhc", "micd", "micd-paper"} <= set(infos)
    assert infos["micd-paper"].options["weight"][1] == 0.1
    assert infos["micd"].options["mask_ratio"][0] == "a number, at least 0, at most 1"
