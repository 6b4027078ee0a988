"""Medical image segmentation from a few labelled scans and many unlabelled ones.

Everything that the command line does is one call here; nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semiseg.api import (
        bench,
        check,
        compare,
        demo,
        evaluate,
        import_dataset,
        init_dataset,
        list_methods,
        list_presets,
        matching,
        predict,
        prepare,
        preview,
        report,
        train,
    )
    from semiseg.cluster import Cluster
    from semiseg.config import RunConfig
    from semiseg.errors import InputError

__version__ = "0.1.0"

_HOME = {
    **dict.fromkeys(
        (
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
        ),
        "semiseg.api",
    ),
    "Cluster": "semiseg.cluster",
    "RunConfig": "semiseg.config",
    "InputError": "semiseg.errors",
}

__all__ = [
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
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'semiseg' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
