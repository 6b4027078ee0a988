"""Medical image segmentation from a few labelled scans and many unlabelled ones.

Everything that the command line does is one call here; nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from semiseg.api.data import check as check
from semiseg.api.data import import_dataset as import_dataset
from semiseg.api.data import init_dataset as init_dataset
from semiseg.api.data import prepare as prepare
from semiseg.api.lists import list_methods as list_methods
from semiseg.api.lists import list_presets as list_presets
from semiseg.api.runs import bench as bench
from semiseg.api.runs import compare as compare
from semiseg.api.runs import evaluate as evaluate
from semiseg.api.runs import matching as matching
from semiseg.api.runs import predict as predict
from semiseg.api.runs import preview as preview
from semiseg.api.runs import report as report
from semiseg.api.runs import train as train
from semiseg.errors import InputError as InputError

if TYPE_CHECKING:
    from semiseg.demonstration import demo as demo
    from semiseg.settings.run import RunConfig as RunConfig
    from semiseg.system.cluster import Cluster as Cluster

__version__ = "0.1.0"

_LATER = {"demo": "semiseg.demonstration", "Cluster": "semiseg.system.cluster", "RunConfig": "semiseg.settings.run"}
"""Homes of what takes long to import."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'semiseg' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    ours = {name for name, value in globals().items() if getattr(value, "__module__", "").startswith(__name__)}
    return sorted({"__version__", *_LATER, *(name for name in ours if not name.startswith("_"))})
