"""The box around a label, which replays how benchmarks were cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden_files import golden
from semiseg.scans.crop import LabelCrop, label_box
from semiseg.settings.presets import preset

FIXED = LabelCrop(margin=((2, 2), (2, 2), (2, 2)), smallest=(4, 4, 4), axes=(0, 1))


def _mask(shape: tuple[int, int, int], low: tuple[int, ...], high: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = True
    return mask


def test_by_hand() -> None:
    mask = _mask((40, 40, 9), (20, 1, 3), (21, 30, 4))
    # x: from 20 to 21, widened by (4 - 1) // 2 and 2; y: long enough, cut where the scan begins; z: all.
    assert label_box(mask, FIXED) == ((17, 0, 0), (24, 32, 9))


def test_without_a_label_all_is_kept() -> None:
    assert label_box(np.zeros((5, 6, 7), bool), FIXED) == ((0, 0, 0), (5, 6, 7))


def test_pancreas_as_published() -> None:
    """The preset's crop with fixed margins, against the box that the official script cut."""
    file = golden("dataset_la_pancreas")
    spans = file["pancreas_mcnet/label_box"]
    mask = _mask(file["pancreas_mcnet/ct"].shape, tuple(spans[:, 0]), tuple(spans[:, 1] - 1))
    start, stop = label_box(mask, LabelCrop.model_validate(preset("pancreas").paper["plan"]["crop"]))
    assert list(start) == file["pancreas_mcnet/crop_start"].tolist()
    assert np.subtract(stop, start).tolist() == file["pancreas_mcnet/crop_shape"].tolist()


@given(st.data())
def test_drawn_margins_are_within_bounds_and_the_same_every_time(data: st.DataObject) -> None:
    low = [data.draw(st.integers(30, 50)) for _ in range(3)]
    high = [a + data.draw(st.integers(0, 20)) for a in low]
    mask = _mask((120, 120, 120), tuple(low), tuple(high))
    how = LabelCrop(margin=((10, 19), (10, 19), (5, 9)), smallest=(1, 1, 1))
    start, stop = label_box(mask, how)
    assert (start, stop) == label_box(mask.copy(), how)
    for axis, (least, most) in enumerate(how.margin):
        padding = max(1 - (high[axis] - low[axis]), 0) // 2
        assert least <= low[axis] - start[axis] - padding <= most
        assert least <= stop[axis] - high[axis] - padding <= most


def test_wrong_margins_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        LabelCrop(margin=((-1, 2), (2, 2), (2, 2)), smallest=(4, 4, 4))
