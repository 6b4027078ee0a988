"""Methods of semi-supervised segmentation, one file per paper; importing the package registers them."""

from semiseg.methods import (
    adsh,
    basak,
    cld,
    cml,
    cps,
    crest,
    dhc,
    ducisc,
    lefed,
    mean_teacher,
    micd,
    pi_model,
    simis,
    supervised,
    temporal_ensembling,
)

__all__ = [
    "adsh",
    "basak",
    "cld",
    "cml",
    "cps",
    "crest",
    "dhc",
    "ducisc",
    "lefed",
    "mean_teacher",
    "micd",
    "pi_model",
    "simis",
    "supervised",
    "temporal_ensembling",
]
