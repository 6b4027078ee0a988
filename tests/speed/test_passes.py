"""Passes of a step, beside what the methods' papers say that they do."""

from __future__ import annotations

import pytest

from semiseg.speed.passes import passes_of


@pytest.mark.parametrize(
    ("method", "trained", "free"),
    [
        ("supervised", 2, 0),  # two labelled patches
        ("supervised_pair", 4, 0),
        ("mean_teacher", 4, 2),  # the student sees all four, the teacher the unlabelled ones
        ("uamt", 4, 18),  # and eight times more for its uncertainty
        ("cps", 8, 0),
        ("micd", 16, 8),
        ("ict", 3, 2),  # two unlabelled patches are blended into one
    ],
)
def test_forward_passes_are_those_of_the_method(method: str, trained: int, free: int) -> None:
    found = passes_of(method)
    assert found.trained == pytest.approx(trained, rel=0.01)
    assert found.free == pytest.approx(free, rel=0.01)
    assert found.backward == pytest.approx(2 * trained, rel=0.01)  # each operation has two gradients, but the first


def test_gradients_within_a_step_are_no_passes() -> None:
    """SS-Net asks for the gradient of its input, the forward pass of which counts as trained."""
    found = passes_of("ssnet")
    assert found.backward + found.free + found.trained == found.total
    assert found.free < 5
    assert found.backward > 1.5 * found.trained


def test_stages_count_by_their_share() -> None:
    """BCP's first stage takes the labelled patches alone, its second one all and a teacher."""
    assert passes_of("bcp").trained < 4
    assert passes_of("bcp").free < 2
