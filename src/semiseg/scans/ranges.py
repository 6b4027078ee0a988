"""What is usual in scans, and scans that are unlike them.

Intensities on another scale: shifted, rescaled, or of something else. Crops that keep far less.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from semiseg.scans.foreground import foreground_threshold, sample

Array = np.ndarray[Any, np.dtype[Any]]

_LEAST = -1024.0  # Hounsfield units; what is below pads
_FEWEST = 3  # scans that tell what is usual
_SHIFT, _SHIFT_WITHOUT_AIR = 1.0, 0.15  # of the usual width
_NARROW, _WIDE = 0.2, 5.0  # times the usual width
_FAR_LESS = 0.5  # times the least that was kept
_CT_NAME = re.compile(r"(?<![a-z0-9])[a-z]{0,2}cta?(?![a-z])|computed tomography|hounsfield", re.IGNORECASE)


class Seen(BaseModel):
    """Intensities of one channel of one scan: the least, and 5, 50 and 95 percent of the foreground."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least: float
    low: float
    median: float
    high: float


class Usual(BaseModel):
    """What is usual for one channel, in the quartiles of its scans, so that few odd ones change nothing.

    Attributes:
        least: third quartile of their least intensities.
        low, high: quartiles of the medians of their foregrounds.
        width: median of the distances from 5 to 95 percent of their foregrounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    least: float
    low: float
    high: float
    width: float = Field(gt=0)


class Kept(BaseModel):
    """What the crop to the foreground keeps of a scan: its share of the voxels, and its volume in ml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float
    volume: float

    @classmethod
    def of(cls, cropped: Sequence[int], shape: Sequence[int], spacing: Sequence[float]) -> Kept:
        """Of a scan of `shape` voxels with sides of `spacing` mm, of which `cropped` voxels are kept."""
        return cls(share=math.prod(cropped) / math.prod(shape), volume=math.prod(cropped) * math.prod(spacing) / 1000)

    def far_less(self, least: Kept) -> bool:
        """Whether that is less than half of the least, by both numbers.

        A larger field of view leaves the volume as it was, a smaller patient the share.
        """
        return self.share < _FAR_LESS * least.share and self.volume < _FAR_LESS * least.volume


def named_ct(channel: str) -> bool:
    """Whether the name of a channel says that it is CT."""
    return bool(_CT_NAME.search(channel))


def look(channel: Array, threshold: float | None = None) -> Seen:
    """Intensities of a channel `[X, Y, Z]`; padding below the Hounsfield units counts as air.

    `threshold` is that of its foreground, where it is known already.
    """
    values = np.maximum(sample(channel), _LEAST)
    if threshold is None or threshold < _LEAST:
        threshold = foreground_threshold(values)
    inside = values[values > threshold]
    low, median, high = np.percentile(inside if inside.size else values, (5, 50, 95))
    return Seen(least=max(float(channel.min()), _LEAST), low=float(low), median=float(median), high=float(high))


def usual(scans: Sequence[Seen]) -> Usual | None:
    """What is usual; None where there are too few scans to tell, or they hold constants."""
    if len(scans) < _FEWEST:
        return None
    medians = np.percentile([scan.median for scan in scans], (25, 75))
    width = float(np.median([scan.high - scan.low for scan in scans]))
    if not width > 0:
        return None
    least = float(np.percentile([scan.least for scan in scans], 75))
    return Usual(least=least, low=float(medians[0]), high=float(medians[1]), width=width)


def odd(seen: Seen, others: Usual) -> bool:
    """Whether a scan cannot be of the scale of the others.

    Its foreground is several times as narrow or wide, or its median is farther from theirs than their foregrounds are
    wide; a smaller shift tells as much where the dark of the others, such as air, is missing as well.
    """
    shift = max(others.low - seen.median, seen.median - others.high, 0.0) / others.width
    ratio = (seen.high - seen.low) / others.width
    without_air = seen.least > others.least + others.width
    return not _NARROW < ratio < _WIDE or shift > (_SHIFT_WITHOUT_AIR if without_air else _SHIFT)


def compared(seen: Seen, others: Usual) -> str:
    """The numbers that `odd` judges by, in words."""
    return (
        f"expected a foreground with a median from {others.low:.4g} to {others.high:.4g} and a width of "
        f"{others.width:.4g}, came {seen.median:.4g} and {seen.high - seen.low:.4g}"
    )
