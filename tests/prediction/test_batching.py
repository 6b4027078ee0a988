"""Windows at once are halved when memory runs out, and everything goes on."""

from __future__ import annotations

import logging

import pytest
import torch

from semiseg.errors import InputError
from semiseg.prediction.batching import WindowBatch, with_room
from semiseg.prediction.windows import sliding_labels, sliding_windows

SIZE, PATCH, STRIDE = (20, 12, 12), (8, 8, 8), (4, 4, 4)
ERRORS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    "convolution": RuntimeError("could not create a primitive"),
    "numpy": MemoryError("Unable to allocate 9 GiB"),
}


class Small:
    """A network with memory for `most` windows."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error = most, error
        self.seen: list[int] = []

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(windows))
        if len(windows) > self.most:
            raise self.error
        return torch.cat([windows, windows.square()], 1).softmax(1)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("slide", [sliding_windows, sliding_labels])
def test_halved_until_it_fits(slide, error, caplog):
    image = torch.randn(1, *SIZE, generator=torch.Generator().manual_seed(0))
    batch, small = WindowBatch(8), Small(2, error)
    with caplog.at_level(logging.WARNING):
        found = slide(small, image, PATCH, STRIDE, batch=batch)
    assert torch.equal(found, slide(Small(9, error), image, PATCH, STRIDE, batch=2))
    assert small.seen == [8, 4, *[2] * 8]  # 4 x 2 x 2 windows
    assert batch.size == 2
    assert [record.getMessage() for record in caplog.records] == [
        "memory ran out with 8 windows at once: going on with 4",
        "memory ran out with 4 windows at once: going on with 2",
    ]
    slide(small, image, PATCH, STRIDE, batch=batch)
    assert small.seen[10:] == [2] * 8, "the next scan starts with what fits"


def test_no_memory_for_one_window_is_told():
    with pytest.raises(InputError, match=r"single window \(CUDA out of memory.*--accelerator cpu"):
        sliding_labels(Small(0, ERRORS["gpu"]), torch.zeros(1, *SIZE), PATCH, STRIDE, batch=4)


def test_other_errors_are_bugs():
    with pytest.raises(RuntimeError, match="shapes"):
        sliding_labels(Small(0, RuntimeError("shapes do not fit")), torch.zeros(1, *SIZE), PATCH, STRIDE, batch=4)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_what_a_device_has_no_room_for_is_put_on_the_host(error, caplog):
    def make(where):
        if where.type != "cpu":
            raise error
        return torch.ones(2, device=where)

    with caplog.at_level(logging.WARNING):
        assert with_room(make, torch.device("cuda")).device.type == "cpu"
    assert "kept in the host's" in caplog.text


def test_a_host_without_room_and_other_errors_are_raised():
    def fail(where):
        raise ERRORS["cpu"] if where.type == "cpu" else RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="can't allocate"):
        with_room(fail, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="shapes"):
        with_room(fail, torch.device("cuda"))
