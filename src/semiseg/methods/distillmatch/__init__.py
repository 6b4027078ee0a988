"""DistillMatch and what serves it alone: its strong view and its boxes."""

from semiseg.methods.distillmatch.method import DistillMatch

__all__ = ["DistillMatch"]
