"""Methods of semi-supervised segmentation, one file per paper; importing the package registers them."""

from semiseg.methods import cml, cps, dhc, mean_teacher, micd, supervised

__all__ = ["cml", "cps", "dhc", "mean_teacher", "micd", "supervised"]
