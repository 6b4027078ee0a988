"""The ideas by which lists of methods are grouped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from semiseg.methods.base import entry, registry


@dataclass(frozen=True)
class Idea:
    """What methods have in common: a `name`, a `sentence`, and the methods, without their variants."""

    name: str
    sentence: str
    methods: tuple[str, ...]


IDEAS = (
    Idea(
        "consistency",
        "A disturbed image, a smoothed network or another task gives the same prediction.",
        ("mean_teacher", "pi_model", "temporal_ensembling", "uamt", "ict", "urpc", "dtc", "psmt"),
    ),
    Idea(
        "co-training",
        "Networks or decoders that differ teach each other.",
        ("cps", "mcnet_plus", "mcf", "mlrpl", "fussnet", "caml", "lefed", "micd", "tracoco"),
    ),
    Idea(
        "pseudo-labels",
        "Predictions that are trusted become labels.",
        ("fixmatch", "fixmatch_ssl4mis", "unimatch", "dst", "admt", "depl", "entropy_minimization"),
    ),
    Idea(
        "mixing",
        "Pieces of labelled and unlabelled images meet in one image.",
        ("bcp", "cml"),
    ),
    Idea(
        "prototypes and contrast",
        "Features of a class gather around a mean, or away from those of others.",
        ("ducisc", "ssnet", "scpnet", "cpcl", "simcvd"),
    ),
    Idea(
        "adversarial",
        "What deceives a discriminator, or changes the output most, is what is learned from.",
        ("dan", "sassnet", "asenet", "eic"),
    ),
    Idea(
        "class balance",
        "Rare or difficult classes count more.",
        ("adsh", "basak", "cld", "crest", "crest-generations", "dhc", "simis"),
    ),
    Idea(
        "distillation",
        "Stronger views and features learn from weaker ones, step by step.",
        ("distillmatch",),
    ),
    Idea(
        "controls",
        "What the labelled scans give alone.",
        ("supervised", "supervised_pair"),
    ),
)
"""All ideas in the order of the lists; each method stands in one, and may stand here before it is registered."""

OTHER = Idea("others", "In no group yet.", ())


def idea_of(name: str) -> Idea:
    """The group of a registered method; a variant is where its method is."""
    known, cls = registry(), entry(name).cls
    for idea in IDEAS:
        if any(method in known and known[method].cls is cls for method in idea.methods):
            return idea
    return OTHER


def grouped(names: Iterable[str]) -> Mapping[Idea, list[str]]:
    """`names` by idea, ideas in their order and methods in that of `names`; ideas without a method are left out."""
    listed = list(names)
    found = {idea: [name for name in listed if idea_of(name) == idea] for idea in (*IDEAS, OTHER)}
    return {idea: methods for idea, methods in found.items() if methods}
