"""Our methods by the names under which the tables of the papers print them."""

from __future__ import annotations

from collections.abc import Mapping

from semiseg.methods.base import entry, registry

PRINTED: Mapping[str, tuple[str, ...]] = {
    "supervised": ("V-Net", "U-Net", "V-Net (fully)"),
    "mean_teacher": ("MT",),
    "cps": ("CPS",),
    "dhc": ("DHC",),
    "uamt": ("UA-MT",),
    "urpc": ("URPC",),
    "ssnet": ("SS-Net",),
    "dst": ("DST",),
    "depl": ("DePL",),
    "adsh": ("Adsh",),
    "crest": ("CReST",),
    "simis": ("SimiS",),
    "basak": ("Basak et al.",),
    "cld": ("CLD",),
    "micd": ("MICD",),
    "ducisc": ("DuCiSC",),
    "cml": ("CML",),
    "lefed": ("LeFeD", "t=3"),
    "mcnet": ("MC-Net",),
    "mcnet_plus": ("MC-Net+",),
    "bcp": ("BCP",),
    "dtc": ("DTC",),
    "sassnet": ("SASSNet",),
    "mlrpl": ("MLRPL",),
    "asenet": ("ASE-Net",),
    "fussnet": ("FUSSNet",),
    "mcf": ("MCF",),
    "unimatch": ("UniMatch",),
    "admt": ("AD-MT",),
    "psmt": ("PS-MT",),
    "tracoco": ("TraCoCo",),
    "distillmatch": ("DistillMatch",),
    "simcvd": ("SimCVD",),
    "eic": ("EIC",),
    "caml": ("CAML",),
    "cpcl": ("CPCL",),
    "dan": ("DAN",),
    "entropy_minimization": ("EM",),
    "fixmatch": ("FixMatch",),
    "ict": ("ICT",),
    "scpnet": ("SCP-Net",),
}
"""Names in tables by method, the first the usual one; a method may stand here before it is registered."""


def names_of(method: str) -> tuple[str, ...]:
    """Names in tables of a registered method; a variant has those of its method."""
    if method in PRINTED:
        return PRINTED[method]
    known, cls = registry(), entry(method).cls
    return next((names for name, names in PRINTED.items() if name in known and known[name].cls is cls), ())


def method_of(printed: str) -> str | None:
    """The registered method that tables call `printed`; None where there is none."""
    return next((name for name, names in PRINTED.items() if printed in names and name in registry()), None)
