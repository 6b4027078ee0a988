"""Which way of executing networks is taken, and that it is only a way of executing them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from semiseg.networks import build_network
from semiseg.settings.load import load_config
from semiseg.settings.run import SpeedConfig
from semiseg.training.execution import ExecutionMode, execute, forget_trials, losses_seconds, pass_seconds
from semiseg.training.execution_choice import Choice, Workload, cache_file, choose_execution
from semiseg.training.train import train
from tiny import tiny_dataset

CPU = torch.device("cpu")
PLAIN, LAST = ExecutionMode("contiguous"), ExecutionMode("channels_last")
COMPILED, GRAPHS = (
    ExecutionMode("contiguous", compile=True),
    ExecutionMode("contiguous", compile=True, cuda_graphs=True),
)
TINY = {
    "network": {"options": {"filters": [4, 8], "strides": [[1, 1, 1], [2, 2, 2]]}},
    "batch": {"patch": [8, 8, 8], "labelled": 1, "unlabelled": 0},
    "accelerator": "cpu",
    "steps": 1,
    "method": "supervised",
    "speed": {"layout": "contiguous"},
}
BUILD = partial(build_network, "vnet", channels=1, classes=2, spatial_dims=2, filters=2)


def work(steps: int = 5000, device: torch.device = CPU) -> Workload:
    return Workload(BUILD, "vnet", 2, (2, 1, 32, 32), "fp32", device, steps)


@pytest.fixture
def took(monkeypatch: pytest.MonkeyPatch) -> dict[ExecutionMode, float]:
    """Seconds that each way is said to take; what is not in it fails. Looked at ways are taken out."""
    times: dict[ExecutionMode, float] = {}

    def said(network: object, images: object, precision: str, mode: ExecutionMode) -> float:
        return times.pop(mode)

    monkeypatch.setattr("semiseg.training.execution_choice.pass_seconds", said)
    return times


@pytest.fixture
def took_by_losses(monkeypatch: pytest.MonkeyPatch) -> dict[ExecutionMode, float]:
    """The same of losses."""
    times: dict[ExecutionMode, float] = {}
    monkeypatch.setattr("semiseg.training.execution_choice.losses_seconds", lambda logits, mode: times.pop(mode))
    return times


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device that is called one, with tensors on the CPU."""
    randn = torch.randn
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "some GPU")
    monkeypatch.setattr("semiseg.training.execution_choice.torch.randn", lambda *shape, device: randn(*shape))
    return torch.device("cuda")


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., object]:
    return lambda config, what, run="run": choose_execution(
        config, what, tmp_path / run, tmp_path / "cache" / "speed.json"
    )


def test_short_runs_measure_nothing(took, asked) -> None:
    assert asked(SpeedConfig(), work(steps=999)).mode == LAST


def test_the_faster_layout_is_kept_and_remembered(took, asked, tmp_path: Path) -> None:
    took |= {LAST: 0.2, PLAIN: 0.1}
    choice = asked(SpeedConfig(), work())
    assert choice.mode == PLAIN
    assert "contiguous, not compiled 100 ms" in choice.note
    assert not took
    assert asked(SpeedConfig(), work(), "another") == choice  # nothing can be measured now
    (tmp_path / "cache" / "speed.json").unlink()
    assert asked(SpeedConfig(), work(), "another") == choice  # what a run did it goes on with
    took |= {LAST: 0.1, PLAIN: 0.2}
    assert asked(SpeedConfig(), work(), "a third").mode == LAST


def test_a_little_faster_is_not_enough(took, asked) -> None:
    took |= {LAST: 0.104, PLAIN: 0.1}
    assert asked(SpeedConfig(), work()).mode == LAST


def test_what_fails_is_left_out_and_told(took, asked) -> None:
    took[LAST] = 0.1
    choice = asked(SpeedConfig(compile="on"), work())
    assert choice.mode == LAST
    assert choice.note.count("fails (KeyError)") == 2  # the other layout, and compilation


def test_what_another_process_had_no_memory_left_for_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, asked, tmp_path: Path
) -> None:
    full = [True]

    def said(network: object, images: object, precision: str, mode: ExecutionMode) -> float:
        if full[0] and mode == PLAIN:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {PLAIN: 0.1, LAST: 0.2}[mode]

    monkeypatch.setattr("semiseg.training.execution_choice.pass_seconds", said)
    choice = asked(SpeedConfig(), work())
    assert choice.mode == LAST
    assert "takes too much memory" in choice.note
    full[0] = False
    assert asked(SpeedConfig(), work(), "another").mode == PLAIN
    assert asked(SpeedConfig(), work()) == choice, "what a run did it goes on with"


def test_trials_give_back_what_they_took(took, asked, gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the scans' place is chosen by what is free."""
    freed = []
    monkeypatch.setattr("semiseg.training.execution_choice.forget_trials", freed.append)
    asked(SpeedConfig(), work(999, gpu))
    assert not freed
    took |= {LAST: 100.0, PLAIN: 0.1}
    asked(SpeedConfig(), work(2000, gpu), "another")
    assert freed == [gpu]


def test_what_trials_compiled_is_forgotten_and_cached_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(torch._dynamo, "reset", lambda: done.append("compiled"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("memory"))
    forget_trials(torch.device("cuda"))
    assert done == ["compiled", "memory"]


def test_a_network_that_cannot_be_compiled_is_not_measured_as_if_it_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(graph: object, examples: object) -> object:
        raise NotImplementedError("no compiler")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **_: real(call, backend=backend, dynamic=False))
    with pytest.raises(Exception, match="no compiler"):
        pass_seconds(BUILD(), torch.randn(2, 1, 32, 32), "fp32", COMPILED)


def test_a_training_that_is_not_compiled_as_the_note_says_tells_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def backend(graph: object, examples: object) -> object:
        raise NotImplementedError("no compiler")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **_: real(call, backend=backend, dynamic=False))
    known = Choice(COMPILED, "networks: contiguous, compiled")
    monkeypatch.setattr("semiseg.training.session.choose_execution", lambda *_: known)
    data = tiny_dataset(tmp_path / "data", cases=2, labelled=2)
    train(load_config(None, {"data": data, **TINY}), tmp_path / "run")
    assert re.search(r"\b[1-9]\d* pieces of code cannot be compiled", " ".join(capsys.readouterr().out.split()))


def test_wishes_are_followed_without_measuring(took, asked) -> None:
    assert asked(SpeedConfig(layout="contiguous", compile="off"), work()).mode == PLAIN
    took[COMPILED] = 9.0
    assert asked(SpeedConfig(layout="contiguous", compile="on"), work(steps=10)).mode == COMPILED


def test_cpus_do_not_compile_by_themselves(took, asked) -> None:
    took |= {LAST: 100.0, PLAIN: 100.0}
    assert not asked(SpeedConfig(), work(steps=10**6)).mode.compile


@pytest.mark.parametrize(
    ("steps", "times", "best"),
    [
        (2000, {PLAIN: 0.1, LAST: 0.2}, PLAIN),  # a tenth of 200 seconds is less than compiling takes
        (15000, {PLAIN: 0.1, LAST: 0.2, COMPILED: 0.099}, PLAIN),
        (15000, {PLAIN: 0.1, LAST: 0.2, COMPILED: 0.07, GRAPHS: 0.069}, COMPILED),
        (15000, {PLAIN: 0.1, LAST: 0.2, COMPILED: 0.07, GRAPHS: 0.05}, GRAPHS),
        (15000, {PLAIN: 0.1, LAST: 0.2, COMPILED: 0.07}, COMPILED),  # graphs fail
    ],
)
def test_gpus_compile_where_it_pays(took, asked, gpu, steps: int, times: dict, best: ExecutionMode) -> None:
    took |= times
    assert asked(SpeedConfig(), work(steps, gpu)).mode == best
    assert not took


@pytest.mark.parametrize(("seconds", "kept"), [(0.9, True), (0.99, False)])
def test_losses_are_compiled_beside_networks_where_that_is_faster(
    took, took_by_losses, asked, seconds: float, kept: bool
) -> None:
    fused = replace(COMPILED, losses=True)
    took[COMPILED] = 5.0
    took_by_losses |= {COMPILED: 1.0, fused: seconds}
    choice = asked(SpeedConfig(layout="contiguous", compile="on"), work())
    assert choice.mode == (fused if kept else COMPILED)
    assert "losses not compiled 1e+03 ms; compiled 9" in choice.note
    assert not took_by_losses


def test_losses_are_compiled_where_they_are_asked_to_and_only_then(took, took_by_losses, asked) -> None:
    fused = replace(PLAIN, losses=True)
    took_by_losses[fused] = 9.0
    assert asked(SpeedConfig(layout="contiguous", losses="on"), work()).mode == fused
    assert asked(SpeedConfig(layout="contiguous", losses="auto"), work()).mode == PLAIN
    took[COMPILED] = 1.0
    assert asked(SpeedConfig(layout="contiguous", compile="on", losses="off"), work()).mode == COMPILED
    failing = asked(SpeedConfig(layout="contiguous", losses="on"), work(steps=10))
    assert (failing.mode, "fails (KeyError)" in failing.note) == (PLAIN, True)


def test_damaged_and_unwritable_caches_do_no_harm(took, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no JSON")
    took |= {LAST: 0.1, PLAIN: 0.2}
    assert choose_execution(SpeedConfig(), work(), tmp_path / "run", tmp_path / "file" / "below").mode == LAST
    took |= {LAST: 0.1, PLAIN: 0.2}
    assert choose_execution(SpeedConfig(), work(), tmp_path / "other", tmp_path / "file").mode == LAST
    assert cache_file().parts[-2:] == ("semiseg", "speed.json")


def test_passes_are_measured() -> None:
    assert pass_seconds(BUILD(), torch.randn(2, 1, 32, 32), "bf16", LAST) > 0
    assert losses_seconds(torch.randn(2, 3, 8, 8), LAST) > 0


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Modes of what was called compiled: traced, and executed by PyTorch's own operations; compilers take minutes."""
    real, modes = torch.compile, []

    def compile_(call: Callable[..., object], **settings: object) -> Callable[..., object]:
        compiled = real(call, backend="eager", dynamic=False)

        def noted(*args: object, **kwargs: object) -> object:
            modes.append(settings.get("mode"))
            return compiled(*args, **kwargs)

        return noted

    monkeypatch.setattr(torch, "compile", compile_)
    with torch._dynamo.config.patch(suppress_errors=False):
        yield modes


def test_compiled_networks_are_the_same_networks(traced: list[object]) -> None:
    net = BUILD(dropout=0.0)
    holder = torch.nn.ModuleList([net])
    names, twin = list(net.state_dict()), copy.deepcopy(net)
    execute(holder, GRAPHS, 2)
    torch._dynamo.config.suppress_errors = False
    images = torch.randn(2, 1, 32, 32)
    logits, features = net(images, ("dec1", "bottleneck"))
    assert traced == ["reduce-overhead"]
    same, same_features = twin(images, ("dec1", "bottleneck"))
    assert torch.equal(logits, same)
    assert all(torch.equal(features[name], same_features[name]) for name in features)
    logits.square().mean().backward()
    same.square().mean().backward()
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(net.parameters(), twin.parameters(), strict=True))
    assert list(net.state_dict()) == names
    assert torch.equal(net.eval()(images), twin.eval()(images))
    copy.deepcopy(net).train()(images)
    assert len(traced) == 1  # neither whole scans nor copies are compiled


def test_both_decoders_are_compiled_as_one(traced: list[object]) -> None:
    net = build_network("vnet", network="lefed", channels=1, classes=2, spatial_dims=2, filters=2)
    twin = copy.deepcopy(net)
    execute(net, COMPILED, 2)
    torch._dynamo.config.suppress_errors = False
    images = torch.randn(2, 1, 32, 32)
    found, same = (each.decode_both(images, sides_of=1, dropout=False) for each in (net, twin))
    assert len(traced) == 1
    feedback = [feature.detach().mean(1, keepdim=True) for feature in found.features_a]
    for each, other in zip(found, same, strict=True):
        assert all(torch.equal(*pair) for pair in zip(each, other, strict=True))
    found, same = (each.decode_both(images, feedback, sides_of=0, dropout=False) for each in (net, twin))
    assert torch.equal(found.logits_b, same.logits_b)
    assert len(traced) == 2
    assert torch.equal(net.eval().decode_both(images).logits_a, twin.eval().decode_both(images).logits_a)
    copy.deepcopy(net).train().decode_both(images)
    assert len(traced) == 2


def test_runs_write_their_choice_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(load_config(None, {"data": tiny_dataset(tmp_path / "data", cases=2, labelled=2), **TINY}), tmp_path / "run")
    (choice,) = json.loads((tmp_path / "run" / "speed.json").read_text()).values()
    assert choice["mode"] == {"layout": "contiguous", "compile": False, "cuda_graphs": False, "losses": False}
    assert "networks: contiguous, not compiled; scans are read from memory maps" in capsys.readouterr().out


def test_a_run_goes_on_as_an_earlier_version_wrote_it_down(took, tmp_path: Path) -> None:
    config, what = SpeedConfig(), work()
    former = {"layout": "contiguous", "compile": True, "graphs": True, "losses": False}
    (tmp_path / "speed.json").write_text(json.dumps({what.key(config): {"levers": former, "note": "measured"}}))
    assert choose_execution(config, what, tmp_path, tmp_path / "cache.json").mode == GRAPHS
