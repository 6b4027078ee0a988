"""SimCVD and what serves it alone: its contrasts of slices and of patches of features."""

from semiseg.methods.simcvd.method import SimCVD

__all__ = ["SimCVD"]
