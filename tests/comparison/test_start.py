"""How processes of a comparison are started."""

from __future__ import annotations

import multiprocessing

import pytest

from semiseg.comparison import launch


@pytest.mark.parametrize(("methods", "taken"), [(["spawn"], "spawn"), (["fork", "spawn", "forkserver"], "forkserver")])
def test_processes_are_started_as_the_system_can(
    methods: list[str], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has no server that forks."""
    real, asked = multiprocessing.get_context, []
    monkeypatch.setattr(launch, "get_all_start_methods", lambda: methods)
    monkeypatch.setattr(launch, "get_context", lambda how: asked.append(how) or _Context(real(how)))
    assert launch.run_here([None], 1, lambda task: None)  # type: ignore[list-item]
    assert set(asked) == {taken}


class _Context:
    def __init__(self, real: multiprocessing.context.BaseContext) -> None:
        self._real = real

    def set_forkserver_preload(self, modules: list[str]) -> None: ...

    def Process(self, target: object, args: object) -> object:
        return self._real.Process(target=print)
