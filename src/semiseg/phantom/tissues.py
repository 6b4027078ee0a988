"""How tissues look: Hounsfield units of one patient's CT scan, and what the scanner adds to them.

Values are rounded textbook magnitudes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from semiseg.phantom.shapes import Array, smooth_field

# tissue: (CT, arterial gain, venous gain, texture), all in HU
_TISSUES: dict[str, tuple[float, float, float, float]] = {
    "air": (-1000, 0, 0, 0),
    "fat": (-102, 0, 3, 10),
    "muscle": (54, 6, 12, 9),
    "bone": (480, 0, 0, 70),
    "marrow": (170, 5, 15, 45),
    "disc": (85, 0, 5, 8),
    "fluid": (12, 0, 0, 3),
    "lung": (-810, 10, 15, 45),
    "heart": (42, 170, 110, 10),
    "gas": (-880, 0, 0, 15),
    "vein": (42, 15, 135, 4),
    "medulla": (32, 25, 150, 6),
    "bowel": (42, 25, 42, 10),
    "bowel_fluid": (25, 0, 0, 8),
    "bowel_content": (30, 0, 0, 40),
    "stomach_content": (35, 0, 0, 22),
    "spleen": (47, 65, 78, 6),
    "right_kidney": (33, 135, 140, 7),
    "left_kidney": (33, 135, 140, 7),
    "gallbladder": (10, 0, 2, 3),
    "oesophagus": (42, 12, 28, 8),
    "liver": (57, 10, 55, 7),
    "stomach": (42, 25, 40, 8),
    "aorta": (42, 270, 115, 4),
    "inferior_vena_cava": (42, 35, 112, 4),
    "pancreas": (41, 55, 48, 11),
    "right_adrenal_gland": (32, 40, 42, 5),
    "left_adrenal_gland": (32, 40, 42, 5),
    "duodenum": (40, 25, 40, 11),
    "bladder": (6, 0, 4, 3),
    "prostate_or_uterus": (42, 22, 42, 9),
}
# One value for both sides of a patient.
_SAME = {"left_kidney": "right_kidney", "left_adrenal_gland": "right_adrenal_gland"}
_CONTENTS = ("bowel_fluid", "bowel_content", "stomach_content")
TEXTURE_MM = 9.0


@dataclass(frozen=True)
class Look:
    """Grey value and strength of the texture of one tissue, HU."""

    grey: float
    texture: float


def draw_look(rng: np.random.Generator) -> Mapping[str, Look]:
    """One patient's tissues: contrast phase, fatty liver, contents of stomach and bowel."""
    arterial, venous = _phase(rng)
    fatty = float(rng.beta(1.2, 3.0)) * 70
    own = dict(zip(_TISSUES, 7 * rng.normal(0, 1, len(_TISSUES)), strict=True))
    own |= {"air": 0.0, "gas": 0.0} | {name: own[other] for name, other in _SAME.items()}
    own["liver"] -= fatty
    for name in _CONTENTS:
        own[name] += 60 * rng.uniform(-1, 1)
    return {
        name: Look(hounsfield + arterial * early + venous * late + own[name], texture)
        for name, (hounsfield, early, late, texture) in _TISSUES.items()
    }


def _phase(rng: np.random.Generator) -> tuple[float, float]:
    """Arterial and venous enhancement, 0..1 each; a fifth of the patients get no contrast agent."""
    time, dose, plain = rng.uniform(0, 1), np.exp(rng.normal(0, 0.2)), rng.random()
    if plain < 0.2:
        return 0.0, 0.0
    return float(dose * np.exp(-(((time - 0.25) / 0.22) ** 2))), float(dose * np.exp(-(((time - 0.8) / 0.35) ** 2)))


def scan(rng: np.random.Generator, clean: Array, texture: Array, spacing: Array) -> Array:
    """What a scanner makes of the true values: texture, point spread, noise.

    Args:
        rng: stream of the patient.
        clean: true values `[X, Y, Z]`, HU.
        texture: strength `[X, Y, Z]`, HU.
        spacing: voxel sides in reference millimetres.
    """
    shape = texture.shape
    knots = [
        max(2, round(side * width / TEXTURE_MM)) if side > 1 else 2 for side, width in zip(shape, spacing, strict=True)
    ]
    grain = smooth_field(rng, shape, knots) * texture
    wide = np.array(shape) > 1
    blurred = gaussian_filter(clean + grain, rng.uniform(0.35, 0.65) * wide, mode="nearest")
    speckle = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 0.6 * wide)
    noisy: Array = np.clip(blurred + 26 * rng.uniform(0.6, 1.5) * speckle, -1024, 3071)
    return noisy
