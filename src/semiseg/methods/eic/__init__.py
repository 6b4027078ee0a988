"""EIC and what serves it alone: the auto-encoder of segmentations."""

from semiseg.methods.eic.method import EIC

__all__ = ["EIC"]
