"""A two-dimensional abdomen: one axial-like picture in which all organs are visible at once.

No real slice shows the adrenal glands and the bladder together; this one does, so that 2D methods meet the same
organs, sizes and neighbourhoods as 3D ones. Same conventions as `phantom_anatomy`, with every z at zero.
"""

from __future__ import annotations

import numpy as np

from semiseg.phantom.anatomy import organ
from semiseg.phantom.shapes import Blob, Group, Part, Tube

_DEEP = 60.0  # half height of solids that the slice cuts, so that only their cross-section matters


def _disc(x: float, y: float, a: float, b: float, angle: float = 0.0) -> Blob:
    return Blob((x, y, 0.0), (a, b, _DEEP), (0.0, 0.0, angle))


def _path(*points: tuple[float, float], radii: tuple[float, ...]) -> Tube:
    return Tube(tuple((x, y, 0.0) for x, y in points), radii)


def axial_slice(rng: np.random.Generator) -> list[Group]:
    """The groups of a slice; loops of bowel are drawn."""
    return [*_frame(), *_bowel(rng), *_large_organs(), *_small_organs()]


def _frame() -> list[Group]:
    angles = np.deg2rad([-62.0, -40.0, -15.0, 12.0, 38.0])
    ribs = tuple(
        _disc(side * 142 * float(np.cos(a)), 97 * float(np.sin(a)), 5, 9, 0) for a in angles for side in (1, -1)
    )
    back = (_disc(40, -92, 24, 17), _disc(-40, -92, 24, 17), _disc(32, -62, 12, 15), _disc(-32, -62, 12, 15))
    arch = (
        _path((34, -88), (12, -84), (0, -108), radii=(4, 7, 5)),
        _path((-34, -88), (-12, -84), (0, -108), radii=(4, 7, 5)),
    )
    return [
        Group((Part("muscle", back, inside=False),), 2, 0.1, 1),
        Group((Part("bone", ribs, inside=False),), 2, 0.05, 4),
        Group(
            (
                Part("bone", (_disc(0, -62, 22, 19), *arch), inside=False),
                Part("marrow", (_disc(0, -62, 18, 15),), inside=False),
                Part("fluid", (_disc(0, -86, 8, 7),), inside=False),
            ),
            2,
            0.06,
            3,
        ),
    ]


def _bowel(rng: np.random.Generator) -> list[Group]:
    loops = []
    for _ in range(int(rng.integers(5, 11))):
        x, y, radius = float(rng.uniform(-110, 110)), float(rng.uniform(0, 85)), float(rng.uniform(8, 15))
        content = ("bowel_fluid", "bowel_content", "gas")[int(rng.integers(3))]
        parts = (
            Part("bowel", (_disc(x, y, radius, radius),)),
            Part(content, (_disc(x, y, radius * 0.7, radius * 0.7),)),
        )
        loops.append(Group(parts, 3, 0.1, 5))
    return loops


def _kidney(name: str, side: float) -> Group:
    hilum = _disc(side * 44, -44, 12, 8)
    parts = (
        organ(name, _disc(side * 70, -54, 28, 23, 25 * side), cut=(hilum,)),
        organ(name, _disc(side * 66, -53, 14, 11, 25 * side), cut=(hilum,), tissue="medulla"),
    )
    return Group(parts, 5, 0.12, 10)


def _adrenal(name: str, side: float) -> Group:
    limbs = (
        _path((side * 36, -26), (side * 44, -38), radii=(4.0, 3.0)),
        _path((side * 36, -26), (side * 36, -42), radii=(4.0, 3.0)),
    )
    return Group((organ(name, *limbs),), 3, 0.15, 10)


def _large_organs() -> list[Group]:
    portal = _path((34, 14), (62, 22), (92, 20), (112, 8), radii=(6, 5.5, 4, 3))
    stomach = ((-100, 34), (-84, 58), (-54, 68), (-20, 64))
    return [
        Group(
            (
                organ("liver", _disc(100, 14, 50, 66, 8), _disc(44, 66, 52, 24, -8), cut=(_disc(62, -30, 20, 26),)),
                organ("liver", portal, _path((62, 22), (50, 56), radii=(4, 3)), tissue="vein"),
            ),
            6,
            0.1,
            6,
        ),
        Group(
            (
                organ("stomach", _path(*stomach, radii=(26, 26, 22, 15))),
                organ("stomach", _path(*stomach, radii=(21, 21, 17, 10)), tissue="stomach_content"),
                organ("stomach", _disc(-76, 74, 17, 8), tissue="gas"),
            ),
            5,
            0.16,
            8,
        ),
        Group((organ("spleen", _disc(-116, -30, 26, 46, -14), cut=(_disc(-84, -16, 24, 40),)),), 5, 0.15, 8),
        _kidney("right_kidney", 1.0),
        _kidney("left_kidney", -1.0),
    ]


def _small_organs() -> list[Group]:
    return [
        Group((organ("bladder", _disc(-74, 4, 22, 16)),), 4, 0.2, 15),
        Group((organ("prostate_or_uterus", _disc(2, 42, 17, 13)),), 4, 0.16, 15),
        Group((organ("duodenum", _path((36, 34), (52, 22), (54, 2), (44, -12), radii=(8, 9, 9, 8))),), 4, 0.12, 8),
        Group((organ("pancreas", _path((34, 4), (14, 16), (-16, 18), (-48, 8), radii=(12, 10, 8, 7))),), 4, 0.13, 8),
        Group((organ("gallbladder", _disc(60, 42, 11, 16, -20)),), 5, 0.22, 20),
        Group((organ("inferior_vena_cava", _disc(20, -27, 12, 10)),), 2.5, 0.13, 15),
        Group((organ("aorta", _disc(-13, -28, 10.5, 10.5)),), 2.5, 0.1, 15),
        Group((organ("oesophagus", _disc(-18, -6, 8, 7)),), 3, 0.1, 15),
        _adrenal("right_adrenal_gland", 1.0),
        _adrenal("left_adrenal_gland", -1.0),
    ]
