"""How tissues look: grey values of CT-like and MRI-like scans of one patient, and what the scanner adds to them.

Values are rounded textbook magnitudes: Hounsfield units for `ct`, arbitrary units for `t1` and `t2`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from semiseg.phantom.shapes import Array, smooth_field

Modality = Literal["ct", "t1", "t2"]

# tissue: (CT, arterial gain, venous gain, T1, T2, texture in HU)
_TISSUES: dict[str, tuple[float, float, float, float, float, float]] = {
    "air": (-1000, 0, 0, 8, 8, 0),
    "fat": (-102, 0, 3, 820, 560, 10),
    "muscle": (54, 6, 12, 330, 150, 9),
    "bone": (480, 0, 0, 90, 60, 70),
    "marrow": (170, 5, 15, 560, 330, 45),
    "disc": (85, 0, 5, 300, 260, 8),
    "fluid": (12, 0, 0, 130, 900, 3),
    "lung": (-810, 10, 15, 35, 30, 45),
    "heart": (42, 170, 110, 300, 200, 10),
    "gas": (-880, 0, 0, 10, 10, 15),
    "vein": (42, 15, 135, 230, 110, 4),
    "medulla": (32, 25, 150, 300, 540, 6),
    "bowel": (42, 25, 42, 310, 290, 10),
    "bowel_fluid": (25, 0, 0, 230, 600, 8),
    "bowel_content": (30, 0, 0, 380, 330, 40),
    "stomach_content": (35, 0, 0, 220, 640, 22),
    "spleen": (47, 65, 78, 300, 420, 6),
    "right_kidney": (33, 135, 140, 370, 470, 7),
    "left_kidney": (33, 135, 140, 370, 470, 7),
    "gallbladder": (10, 0, 2, 220, 860, 3),
    "oesophagus": (42, 12, 28, 310, 250, 8),
    "liver": (57, 10, 55, 480, 230, 7),
    "stomach": (42, 25, 40, 320, 280, 8),
    "aorta": (42, 270, 115, 200, 80, 4),
    "inferior_vena_cava": (42, 35, 112, 220, 100, 4),
    "pancreas": (41, 55, 48, 520, 320, 11),
    "right_adrenal_gland": (32, 40, 42, 370, 280, 5),
    "left_adrenal_gland": (32, 40, 42, 370, 280, 5),
    "duodenum": (40, 25, 40, 330, 330, 11),
    "bladder": (6, 0, 4, 150, 900, 3),
    "prostate_or_uterus": (42, 22, 42, 330, 430, 9),
}
# One value for both sides of a patient.
_SAME = {"left_kidney": "right_kidney", "left_adrenal_gland": "right_adrenal_gland"}
_CONTENTS = ("bowel_fluid", "bowel_content", "stomach_content")
TEXTURE_MM = 9.0


@dataclass(frozen=True)
class Look:
    """Grey value per tissue, one for each channel, and the strength of its texture relative to the channel's."""

    modalities: tuple[Modality, ...]
    values: dict[str, NDArray[np.float32]]
    texture: dict[str, float]


def draw_look(rng: np.random.Generator, modalities: tuple[Modality, ...], amount: float) -> Look:
    """One patient's grey values: contrast phase, fatty liver, contents of stomach and bowel, receiver gain.

    `amount` scales how much patients differ; 0 gives everybody the same portal venous scan.
    """
    arterial, venous = _phase(rng, amount)
    fatty = float(rng.beta(1.2, 3.0)) * 70 * amount
    names = list(_TISSUES)
    own = dict(zip(names, rng.normal(0, 1, (len(names), 2)) * amount, strict=True))
    content = dict(zip(_CONTENTS, rng.uniform(-1, 1, (len(_CONTENTS), 2)) * amount, strict=True))
    gain, mix = np.exp(rng.normal(0, 0.2, 3) * amount), rng.uniform(0, 0.3, 3) * amount
    values = {}
    for name, (hounsfield, early, late, t1, t2, _) in _TISSUES.items():
        shift, other = own[_SAME.get(name, name)]
        enhancement = arterial * early + venous * late
        ct = hounsfield + enhancement + (0 if name in ("air", "gas") else 7 * shift)
        weights = {"t1": t1 * (1 + 0.08 * other) + 2.2 * enhancement, "t2": t2 * (1 + 0.1 * shift)}
        if name == "liver":
            ct, weights["t1"] = ct - fatty, weights["t1"] + 2 * fatty
        if name in content:
            ct, scale = ct + 60 * content[name][0], 1 + 0.7 * content[name][1]
            weights = {key: value * scale for key, value in weights.items()}
        mr = {"t1": _blend(weights["t1"], weights["t2"], mix[1]), "t2": _blend(weights["t2"], weights["t1"], mix[2])}
        row = [ct if m == "ct" else mr[m] * gain[1 if m == "t1" else 2] for m in modalities]
        values[name] = np.asarray(row, dtype=np.float32)
    return Look(modalities, values, {name: row[-1] for name, row in _TISSUES.items()})


def _phase(rng: np.random.Generator, amount: float) -> tuple[float, float]:
    """Arterial and venous enhancement, 0..1 each; a fifth of the patients get no contrast agent."""
    time, dose, plain = rng.uniform(0, 1), np.exp(rng.normal(0, 0.2) * amount), rng.random()
    time = 0.75 + (time - 0.75) * min(1.0, amount)
    if plain < 0.2 * amount:
        return 0.0, 0.0
    return float(dose * np.exp(-(((time - 0.25) / 0.22) ** 2))), float(dose * np.exp(-(((time - 0.8) / 0.35) ** 2)))


def _blend(first: float, second: float, share: float) -> float:
    return (1 - share) * first + share * second


def scan(rng: np.random.Generator, clean: Array, texture: Array, look: Look, spacing: Array, noise: float) -> Array:
    """What a scanner makes of the true values: texture, point spread, bias field (MRI), noise.

    Args:
        rng: stream of the patient.
        clean: true values `[C, X, Y, Z]`.
        texture: strength `[X, Y, Z]`, Hounsfield units.
        look: the patient's tissues.
        spacing: voxel sides in reference millimetres.
        noise: multiple of the usual noise.
    """
    shape = texture.shape
    knots = [
        max(2, round(side * width / TEXTURE_MM)) if side > 1 else 2 for side, width in zip(shape, spacing, strict=True)
    ]
    grain = smooth_field(rng, shape, knots) * texture
    width = rng.uniform(0.35, 0.65)
    sigma = [width if side > 1 else 0.0 for side in shape]
    out = np.empty_like(clean)
    for channel, modality in enumerate(look.modalities):
        strength = rng.uniform(0.6, 1.5) * noise
        if modality == "ct":
            blurred = gaussian_filter(clean[channel] + grain, sigma, mode="nearest")
            speckle = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), [0.6 * (s > 0) for s in sigma])
            out[channel] = np.clip(blurred + 26 * strength * speckle, -1024, 3071)
        else:
            blurred = gaussian_filter(clean[channel] + 2.5 * grain, sigma, mode="nearest")
            bias = np.exp(0.16 * smooth_field(rng, shape, (2, 2, 2)))
            real, imaginary = 16 * strength * rng.standard_normal((2, *shape), dtype=np.float32)
            out[channel] = np.hypot(blurred * bias + real, imaginary)
    return out
