"""Methods of semi-supervised segmentation, one file per paper; importing the package registers them."""

from semiseg.methods import cps, dhc, ducisc, mean_teacher, micd, supervised

__all__ = ["cps", "dhc", "ducisc", "mean_teacher", "micd", "supervised"]
