"""Reading, computing and writing overlap, in order and within bounds."""

from __future__ import annotations

import threading

import pytest

from semiseg.prediction.pipeline import overlapped

WAIT = 30


def test_the_next_is_read_and_the_last_is_written_while_one_is_computed():
    """Every computation waits for what has to happen meanwhile; were it not so, the wait would end the test."""
    read = {item: threading.Event() for item in range(4)}
    written = {item: threading.Event() for item in range(4)}

    def compute(item):
        if item + 1 in read:
            assert read[item + 1].wait(WAIT)
        if item - 1 in written:
            assert written[item - 1].wait(WAIT)
        return item * 10

    def load(item):
        read[item].set()
        return item

    answers = {}

    def save(item, answer):
        answers[item] = answer
        written[item].set()

    assert list(overlapped(range(4), load, compute, save)) == [0, 1, 2, 3]
    assert answers == {0: 0, 1: 10, 2: 20, 3: 30}


@pytest.mark.parametrize(("ahead", "most"), [(True, 2), (False, 1)])
def test_no_more_than_one_is_read_ahead(ahead, most):
    held, counts = set(), []

    def load(item):
        held.add(item)
        counts.append(len(held))
        return item

    def compute(item):
        held.discard(item)
        return item

    list(overlapped(range(6), load, compute, lambda item, answer: None, ahead=lambda item: ahead))
    assert max(counts) <= most


def test_an_error_comes_when_its_item_does():
    written = []

    def load(item):
        if item == 2:
            raise ValueError("item 2 is damaged")
        return item

    found = overlapped(range(4), load, lambda item: item, lambda item, answer: written.append(item))
    assert next(found) == 0
    with pytest.raises(ValueError, match="item 2"):
        list(found)
    assert written == [0, 1]
    with pytest.raises(OSError, match="full"):
        list(overlapped(range(2), lambda item: item, lambda item: item, _full))
    assert list(overlapped([], load, load, _full)) == []


def _full(item, answer):
    raise OSError("disk full")
