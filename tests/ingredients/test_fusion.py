"""Compiled parts of losses: the same values and gradients, and only where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from semiseg.ingredients import fusion
from semiseg.ingredients.consistency import probability_mse
from semiseg.ingredients.features import channel_kl
from semiseg.ingredients.fusion import fusable, fused, is_fused
from semiseg.ingredients.losses import dice_ce
from semiseg.ingredients.masked import masked_parts
from semiseg.training.execution import ExecutionMode, training_step


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Functions that were compiled: traced with their gradients, executed by PyTorch's own operations."""
    real, names = torch.compile, []

    def compile_(function: Callable[..., object]) -> Callable[..., object]:
        names.append(function.__name__)
        return real(function, backend="aot_eager", fullgraph=function.__name__ != "_table")  # counts of classes break

    monkeypatch.setattr(torch, "compile", compile_)
    fusion._compiled.cache_clear()
    torch._dynamo.reset()
    yield names
    fusion._compiled.cache_clear()


LABELS = torch.randint(3, (2, 6, 5), generator=torch.Generator().manual_seed(1))
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dice_ce": lambda a, b: dice_ce(a, LABELS, "ssl4mis") + dice_ce(b, LABELS, "dhc"),
    "mse": lambda a, b: probability_mse(a, b, mutual=True),
    "kl": channel_kl,
    "kl of one": lambda a, b: channel_kl(a, b.detach()) + b.sum(),
    "masked": lambda a, b: sum(masked_parts(a, b.detach().softmax(1), LABELS > 0, "kl")[:2]) + b.sum(),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fused_losses_are_the_same(traced: list[str], name: str, layout: torch.memory_format) -> None:
    found = []
    for active in (False, True):
        generator = torch.Generator().manual_seed(0)
        draws = (torch.randn(2, 3, 6, 5, generator=generator, dtype=torch.float64) for _ in "ab")
        a, b = (draw.to(memory_format=layout).requires_grad_() for draw in draws)
        with training_step(ExecutionMode("contiguous", losses=active)):
            assert not traced
            loss = LOSSES[name](a, b)
        loss.backward()  # as in another thread: outside
        found.append((loss, a.grad, b.grad))
    assert traced
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_of_sums_are_compiled_where_the_sums_were(traced: list[str]) -> None:
    logits = torch.randn(2, 3, 6, 5, requires_grad=True)
    with fused():
        loss = dice_ce(logits, LABELS)
    assert not is_fused()
    loss.backward()
    assert traced == ["_table", "_gradient"]
    dice_ce(logits, LABELS).backward()
    assert len(traced) == 2


def test_contexts_end_and_nest(traced: list[str]) -> None:
    @fusable
    def twice(x: Tensor) -> Tensor:
        return x + x

    with pytest.raises(RuntimeError), fused():
        raise RuntimeError
    with fused(), fused(False):
        assert twice(torch.ones(2)).tolist() == [2, 2]
    assert not traced
    with fused():
        assert [twice(torch.ones(size)).tolist() for size in (1, 2)] == [[2], [2, 2]]
    assert traced == ["twice"]
