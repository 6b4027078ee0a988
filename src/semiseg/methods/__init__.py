"""Methods of semi-supervised segmentation, one file per paper; importing the package registers them."""

from semiseg.methods import (
    cml,
    cps,
    depl,
    dhc,
    dst,
    ducisc,
    lefed,
    mean_teacher,
    micd,
    pi_model,
    ssnet,
    supervised,
    temporal_ensembling,
    uamt,
    urpc,
)

__all__ = [
    "cml",
    "cps",
    "depl",
    "dhc",
    "dst",
    "ducisc",
    "lefed",
    "mean_teacher",
    "micd",
    "pi_model",
    "ssnet",
    "supervised",
    "temporal_ensembling",
    "uamt",
    "urpc",
]
