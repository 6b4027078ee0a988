import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.preparing.topology import stage_strides, topology


@settings(deadline=None)
@given(
    shape=st.one_of(st.tuples(*[st.integers(1, 600)] * 2), st.tuples(*[st.integers(4, 600)] * 3)),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    budget=st.integers(32**3, 128**3),
)
def test_patch_fits_network_and_budget(shape, spacing, budget):
    found = topology(shape, spacing[: len(shape)], budget)
    total = [math.prod(stage[axis] for stage in found.strides) for axis in range(len(shape))]
    assert all(side % stride == 0 for side, stride in zip(found.patch, total, strict=True))
    assert all(side // stride >= 4 or stride == 1 for side, stride in zip(found.patch, total, strict=True))
    assert math.prod(found.patch) <= budget
    assert len(found.strides) == len(found.filters) <= 6
    assert set(found.strides[0]) == {1}
    assert all(2 in stage for stage in found.strides[1:])


@pytest.mark.parametrize("shape", [(1, 1), (5, 9, 4), (16, 16, 16), (20, 18, 16)])
def test_small_volumes_still_get_three_stages(shape):
    assert len(topology(shape, (1.0,) * len(shape), 96**3).strides) >= 3


def test_coarse_axis_waits_for_the_others():
    strides = stage_strides((192, 192, 20), (0.6, 0.6, 3.6))
    assert strides[:4] == ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2))


def test_patch_covers_a_small_scan_with_little_padding():
    assert topology((35, 50, 35), (1, 1, 1), 96**3).patch == (40, 56, 40)
    assert topology((33, 50, 35), (1, 1, 1), 96**3).patch == (32, 56, 40)


def test_patch_is_cubic_in_millimetres_when_it_cannot_cover():
    patch = topology((400, 400, 300), (0.5, 0.5, 1.0), 64**3).patch
    extents = [side * mm for side, mm in zip(patch, (0.5, 0.5, 1.0), strict=True)]
    assert max(extents) <= 1.3 * min(extents)


def test_filters_double_up_to_a_bound():
    assert topology((512, 512), (1, 1), 512**2).filters == (16, 32, 64, 128, 256, 512)
    assert topology((512, 512, 512), (1, 1, 1), 128**3).filters == (16, 32, 64, 128, 256, 256)
