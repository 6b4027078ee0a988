"""Methods of semi-supervised segmentation, one file per paper; importing the package registers every file in it."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    if _module.name not in ("base", "describe", "pretraining"):
        import_module(f"{__name__}.{_module.name}")
