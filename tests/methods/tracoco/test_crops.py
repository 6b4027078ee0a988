from __future__ import annotations

import pytest

from semiseg.methods.tracoco.crops import crop_sides


@pytest.mark.parametrize(
    ("patch", "expected"),
    [((144, 144, 96), (112, 112, 64)), ((32, 32, 32), (32, 32, 32)), ((16, 48, 16), (16, 32, 16))],
)
def test_crops_of_small_patches_keep_two_voxels_at_the_bottleneck(
    patch: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert crop_sides(patch, 7 / 9, (16, 16, 16)) == expected
