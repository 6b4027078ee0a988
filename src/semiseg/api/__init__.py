"""The commands as Python calls: plain arguments in, typed results out."""

from semiseg.api.data import check, import_dataset, init_dataset, prepare
from semiseg.api.lists import MethodInfo, list_methods, list_presets
from semiseg.api.machine import bench
from semiseg.api.results import compare, evaluate, matching, report
from semiseg.api.runs import default_output, demo, predict, preview, train

__all__ = [
    "MethodInfo",
    "bench",
    "check",
    "compare",
    "default_output",
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
