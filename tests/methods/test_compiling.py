"""Networks of all methods are traced as they train: each of them, once per way of calling, and without a limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from methods.test_conformance import LATE, make, make_batch
from semiseg.methods.base import Clock, Method, registry
from semiseg.networks import build_network
from semiseg.networks.base import Network
from semiseg.settings.run import OptimiserConfig
from semiseg.training.execution import ExecutionMode, execute, training_step, uncompiled
from semiseg.training.optim import guarded_step, make_optimiser

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
"""What tracing asks of PyTorch."""

COMPILED = ExecutionMode("contiguous", compile=True)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Calls, and graphs; compilers take minutes, so what was traced is executed by PyTorch's own operations."""
    real, count = torch.compile, Counter[str]()

    def backend(graph: torch.fx.GraphModule, examples: object) -> Callable[..., object]:
        count["graphs"] += 1
        return graph.forward

    def compile_(call: Callable[..., object], **settings: object) -> Callable[..., object]:
        return real(call, backend=backend, dynamic=settings.get("dynamic"))

    monkeypatch.setattr(torch, "compile", compile_)
    with torch._dynamo.config.patch(suppress_errors=False):
        yield count
    torch._dynamo.reset()


def take_steps(method: Method) -> None:
    optimisers = {key: make_optimiser(OptimiserConfig(), group) for key, group in method.groups().items()}
    batch = make_batch(2, 4)
    moments = [(stage.name, step) for stage in method.stages() for step in (0, LATE)]
    with torch._dynamo.config.patch(suppress_errors=False, fail_on_recompile_limit_hit=True):
        for stage, step in moments:
            with training_step(COMPILED):
                for loss in method.step(batch, Clock(step, 100, step, 100, stage)):
                    total = loss.total
                    total.backward()
                    guarded_step(optimisers[loss.group], total, 12.0)


def networks(method: Method) -> list[Network]:
    """Those of the method that are not parts of another one."""
    found, inner = [], set[torch.nn.Module]()
    for module in method.modules():
        if isinstance(module, Network) and module not in inner:
            inner |= set(module.modules())
            found.append(module)
    return found


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_network_is_compiled_and_no_limit_is_hit(name: str, traced: Counter[str]) -> None:
    method = make(name, 2, 4).train()
    execute(method, COMPILED, 2)
    called = Counter[int]()
    for number, network in enumerate(networks(method)):
        compiled = network._compiled_call_impl

        def call(
            *args: object, number: int = number, compiled: Callable[..., object] = compiled, **kw: object
        ) -> object:
            called[number] += 1
            return compiled(*args, **kw)

        network._compiled_call_impl = call
    take_steps(method)
    assert len(called) == len(networks(method)), "a network is called past its compiled form"
    assert traced["graphs"] > 0
    assert uncompiled() == 0
    assert not counters["graph_break"]


def test_trials_and_trainings_of_one_process_do_not_use_the_limit_up(traced: Counter[str]) -> None:
    build = partial(build_network, "unet", channels=1, classes=2, spatial_dims=2, filters=(2, 2))
    for patches in range(1, 9):
        execute(network := build(), COMPILED, 2)
        network(torch.randn(patches, 1, 8, 8))
    method = make("micd", 2, 4).train()
    execute(method, COMPILED, 2)
    take_steps(method)
    assert traced["graphs"] > 8, "as many as PyTorch's own limit are from the trials"
