"""Where the organs lie: a reference abdomen in millimetres, from the diaphragm to the pelvis.

The body is about 340 mm wide and 240 mm deep in a field of view of 384 x 288 x 384 mm around (0, 0, 0). Shapes are
simplified by hand from general anatomy; no scan went into them. Parts are painted in order, so later ones lie on top.
"""

from __future__ import annotations

import numpy as np

from semiseg.phantom.shapes import Blob, Group, Part, Point, Shape, Tube, shifted

FIELD_OF_VIEW = (384.0, 288.0, 384.0)

ORGANS = (
    "spleen",
    "right_kidney",
    "left_kidney",
    "gallbladder",
    "oesophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
    "duodenum",
    "bladder",
    "prostate_or_uterus",
)
"""The organs of the AMOS challenge (Ji et al., 2022), in its order."""

CHOICE = (
    "liver",
    "left_kidney",
    "gallbladder",
    "spleen",
    "pancreas",
    "aorta",
    "right_adrenal_gland",
    "stomach",
    "duodenum",
    "bladder",
    "right_kidney",
    "oesophagus",
    "inferior_vena_cava",
    "left_adrenal_gland",
    "prostate_or_uterus",
)
"""Which organs are labelled first when not all are: large, middle and small ones take turns."""


_BESIDE: dict[str | None, Point] = {"bladder": (-66, -22, 20), "prostate_or_uterus": (0, 46, 0), "liver": (0, 0, 20)}
"""How far organs move, and the other way round the cut, in an axial picture that shows all organs, mm."""


def chosen(count: int) -> tuple[str, ...]:
    """The `count` labelled organs, in the order of their label values."""
    return tuple(organ for organ in ORGANS if organ in CHOICE[:count])


def organ(name: str, *add: Shape, cut: tuple[Shape, ...] = (), tissue: str | None = None, inside: bool = True) -> Part:
    """A labelled part; its tissue carries the organ's name unless another one is given."""
    return Part(tissue or name, add, cut, name, inside)


def mirrored(point: Point, side: float) -> Point:
    """`point` on the right (`side` 1) or left (-1) of the body."""
    return point[0] * side, point[1], point[2]


def abdomen(rng: np.random.Generator) -> list[Group]:
    """The groups of a three-dimensional abdomen; loops of bowel and the patient's sex are drawn."""
    return [*_chest(), *_skeleton(), *_bowel(rng), *_organs(bool(rng.random() < 0.5)), *_vessels()]


def axial_section(rng: np.random.Generator) -> list[Group]:
    """The groups of an axial picture around z = 0 that cuts every organ through its middle.

    No real slice shows the adrenal glands and the bladder together; this one does, so that 2D methods meet the same
    organs, sizes and neighbourhoods as 3D ones. The organs of the pelvis come to lie between the others.
    """
    heights = ((group, group.middle[2] if group.organ else group.level) for group in abdomen(rng))
    return [
        shifted(group, np.subtract(_BESIDE.get(group.organ, (0, 0, 0)), (0, 0, z)).tolist()) for group, z in heights
    ]


def _chest() -> list[Group]:
    lungs = tuple(Blob((side * 84, 0, 216), (68, 84, 72)) for side in (1.0, -1.0))
    return [
        Group((Part("lung", lungs, inside=False),), 5, 0.05, 3),
        Group((Part("heart", (Blob((-18, 40, 214), (58, 46, 52)),), inside=False),), 6, 0.08, 6),
    ]


def _skeleton() -> list[Group]:
    column = (Part("disc", (Tube(((0, -62, -150), (0, -60, 0), (0, -64, 200)), (22, 21, 17)),), inside=False),)
    levels = [float(z) for z in range(-130, 200, 34)]
    bodies = tuple(Tube(((0, -62, z - 8), (0, -62, z + 8)), (20, 20)) for z in levels)
    marrow = tuple(Tube(((0, -62, z - 6), (0, -62, z + 6)), (15, 15)) for z in levels)
    arches = tuple(
        Tube(((side * 34, -88, z), (side * 14, -84, z), (0, -104, z - 8)), (4, 7, 5))
        for z in levels
        for side in (1, -1)
    )
    canal = (Tube(((0, -86, -190), (0, -86, 200)), (8, 8)),)
    pelvis = tuple(
        shape
        for side in (1.0, -1.0)
        for shape in (
            Blob(mirrored((100, -22, -135), side), (11, 46, 52), (0, 0, -28 * side)),
            Blob(mirrored((98, -5, -188), side), (24, 24, 22)),
        )
    )
    hollow = tuple(
        Blob(mirrored((100, -22, -135), side), (5, 38, 44), (0, 0, -28 * side)) for side in (1.0, -1.0)
    ) + tuple(Blob(mirrored((98, -5, -188), side), (18, 18, 16)) for side in (1.0, -1.0))
    sacrum = (Blob((0, -72, -165), (44, 20, 42)),)
    psoas = tuple(
        Tube(tuple(mirrored(p, side) for p in ((30, -60, 50), (44, -50, -40), (62, -22, -180))), (9, 19, 17))
        for side in (1.0, -1.0)
    )
    back = tuple(Tube(((side * 40, -96, -190), (side * 36, -92, 200)), (25, 21)) for side in (1.0, -1.0))
    return [
        Group((Part("muscle", psoas + back, inside=False),), 2, 0.1, 1),
        Group((Part("bone", pelvis + sacrum, inside=False), Part("marrow", hollow, inside=False)), 3, 0.04, 2),
        Group(
            (
                *column,
                Part("bone", bodies + arches, inside=False),
                Part("marrow", marrow, inside=False),
                Part("fluid", canal, inside=False),
            ),
            3,
            0.05,
            1,
        ),
        Group(
            (Part("bone", tuple(_rib(z, side) for z in range(60, 260, 34) for side in (1, -1)), inside=False),),
            3,
            0.03,
            1,
        ),
    ]


def _rib(top: float, side: float) -> Tube:
    angles = np.deg2rad(np.linspace(-70, 55, 8))
    points = [(float(side * 141 * np.cos(a)), float(96 * np.sin(a)), float(top - 38 * (a + 1.2))) for a in angles]
    return Tube(tuple(points), (5.0,) * len(points))


def _bowel(rng: np.random.Generator) -> list[Group]:
    frame = (
        (96, -10, -95),
        (104, 0, -20),
        (92, 45, 12),
        (0, 82, -22),
        (-92, 40, 30),
        (-108, -15, -10),
        (-100, -12, -90),
    )
    colon = _hollow(frame, 18, ("gas", "bowel_content")[int(rng.random() < 0.6)])
    rectum = _hollow(((-70, 5, -120), (-20, -30, -135), (0, -46, -165), (0, -50, -195)), 14, "bowel_content")
    loops = [Group(rectum, 4, 0.12, 4, -40.0), Group(colon, 6, 0.12, 4, -40.0)]
    for _ in range(int(rng.integers(12, 20))):
        start = rng.uniform((-75, 5, -115), (75, 70, -5))
        steps = np.cumsum(rng.normal(0, (26, 14, 18), (4, 3)), axis=0)
        points = tuple(
            (float(x), float(y), float(z)) for x, y, z in np.clip(start + steps, (-90, 0, -125), (90, 78, 0))
        )
        loops.append(Group(_hollow(points, float(rng.uniform(10, 16)), "bowel_fluid"), 3, 0.1, 5, -40.0))
    return loops


def _hollow(points: tuple[Point, ...], radius: float, content: str) -> tuple[Part, ...]:
    count = len(points)
    return Part("bowel", (Tube(points, (radius,) * count),)), Part(content, (Tube(points, (radius * 0.7,) * count),))


def _kidney(name: str, side: float, height: float) -> Group:
    body = Blob(mirrored((64, -56, height), side), (27, 26, 52), (8, -8 * side, 0))
    hilum = Blob(mirrored((38, -46, height), side), (13, 10, 17))
    medulla = Blob(mirrored((61, -55, height), side), (14, 13, 36), (8, -8 * side, 0))
    return Group((organ(name, body, cut=(hilum,)), organ(name, medulla, cut=(hilum,), tissue="medulla")), 9, 0.12, 8)


def _adrenal(name: str, side: float, height: float) -> Group:
    def limb(x: float, y: float) -> Tube:
        return Tube((mirrored((30, -36, height + 8), side), mirrored((x, y, height - 6), side)), (4.8, 3.6))

    return Group((organ(name, limb(41, -54), limb(28, -58)),), 3.5, 0.15, 8)


def _organs(female: bool) -> list[Group]:
    liver = (Blob((86, 2, 92), (66, 78, 66), (0, 12, 0)), Blob((12, 46, 112), (74, 38, 36), (0, -8, 0)))
    portal = Tube(((14, -2, 52), (46, 2, 82), (74, 14, 96), (104, 20, 100)), (7, 6.5, 5, 3))
    branches = (
        Tube(((46, 2, 82), (30, 36, 110), (4, 50, 116)), (5, 4, 3)),
        Tube(((26, -12, 132), (70, 0, 128)), (6, 3)),
    )
    path: tuple[Point, ...] = ((-84, -18, 132), (-86, 12, 98), (-66, 48, 66), (-22, 62, 44), (24, 50, 38))
    gland = (Blob((0, -18, -148), (26, 20, 32)),) if female else (Blob((0, 2, -176), (22, 17, 15)),)
    return [
        Group((organ("liver", *liver), organ("liver", portal, *branches, tissue="vein")), 7, 0.1, 6),
        Group(
            (
                organ("stomach", Tube(path, (37, 34, 29, 22, 13))),
                organ("stomach", Tube(path, (32, 29, 24, 17, 8)), tissue="stomach_content"),
                organ("stomach", Blob((-78, 42, 84), (18, 9, 22)), tissue="gas"),
            ),
            8,
            0.2,
            8,
        ),
        Group(
            (organ("spleen", Blob((-112, -38, 104), (30, 47, 52)), cut=(Blob((-80, -8, 104), (26, 44, 48)),)),),
            7,
            0.18,
            10,
        ),
        _kidney("right_kidney", 1.0, -2.0),
        _kidney("left_kidney", -1.0, 14.0),
        Group((organ("prostate_or_uterus", *gland),), 4, 0.16, 8),
        Group((organ("bladder", Blob((0, 28, -150), (38, 30, 26))),), 4, 0.22, 6),
        Group(
            (
                organ(
                    "pancreas",
                    Tube(
                        ((34, 2, 20), (26, 12, 30), (-4, 16, 42), (-44, -4, 52), (-84, -26, 62)),
                        (16, 14, 11, 11, 9),
                    ),
                ),
            ),
            6,
            0.13,
            8,
        ),
        Group(
            (
                organ(
                    "duodenum",
                    Tube(
                        ((26, 48, 38), (48, 32, 34), (56, 10, 6), (46, 0, -26), (10, -6, -36), (-28, 2, -16)),
                        (11, 11, 12, 11, 10, 9),
                    ),
                ),
            ),
            5,
            0.12,
            6,
        ),
        Group((organ("gallbladder", Tube(((48, 38, 48), (56, 50, 26), (58, 56, 14)), (7, 14, 12))),), 7, 0.25, 14),
    ]


def _vessels() -> list[Group]:
    arteries = tuple(
        Tube(((-6, -26, -62), mirrored((38, -14, -120), side), mirrored((66, 12, -190), side)), (7, 6, 6))
        for side in (1, -1)
    )
    veins = tuple(
        Tube(((20, -34, -66), mirrored((42, -24, -125), side), mirrored((72, 0, -190), side)), (8, 7, 7))
        for side in (1, -1)
    )
    cava = Tube(((23, -12, 164), (25, -20, 110), (23, -30, 40), (20, -32, -66)), (13, 13, 12, 11))
    aorta = Tube(((-12, -30, 200), (-12, -28, 120), (-12, -27, 20), (-6, -26, -62)), (12, 11.5, 10, 9))
    gullet = Tube(((-4, -10, 198), (-8, -8, 168), (-30, 0, 140), (-58, -6, 126)), (9, 9, 9, 8))
    return [
        Group((organ("inferior_vena_cava", cava, inside=False), Part("inferior_vena_cava", veins)), 3, 0.13, 2),
        Group((organ("aorta", aorta, inside=False), Part("aorta", arteries)), 3, 0.1, 2),
        Group((organ("oesophagus", gullet, inside=False),), 4, 0.1, 3),
        _adrenal("right_adrenal_gland", 1.0, 66.0),
        _adrenal("left_adrenal_gland", -1.0, 72.0),
    ]
