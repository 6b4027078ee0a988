from __future__ import annotations

from contextlib import suppress

import pytest

from semiseg.errors import InputError
from semiseg.methods.base import MethodConfig, entry, register, registry


def test_papers_have_addresses_that_lead_to_them() -> None:
    assert entry("cld").link == "https://arxiv.org/abs/2205.03644"
    assert entry("dhc").link == "https://doi.org/10.1007/978-3-031-43898-1_56"
    assert entry("adsh").paper == "ICML 2022"
    assert not entry("adsh").link
    assert {name for name, found in registry().items() if not found.link} == {
        "adsh",
        "adsh-paper",
        "mcf",
        "eic",
        "distillmatch",
        "distillmatch-official",
    }


@pytest.mark.parametrize(
    "source",
    [{}, {"paper": "ICML 2022"}, {"paper": "10.1109/3DV.2016.79"}, {"paper": "arXiv:2205.03644", "citation": "MICCAI"}],
)
def test_a_method_names_an_identifier_or_else_a_citation(source: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="nameless: expected paper="):
        register("nameless", title="A title", **source)


def test_methods_keep_the_typed_options_that_they_are_made_with() -> None:
    for found in registry().values():
        assert found.cls.__annotations__["config"] == "Config" or found.cls.Config is MethodConfig


@pytest.mark.parametrize("name", sorted(registry()))
def test_defaults_may_be_set_and_nonsense_is_refused(name: str) -> None:
    """A bound of a field that takes a word beside numbers is no bound of the word."""
    options = {
        key: field.get_default(call_default_factory=True) for key, field in entry(name).cls.Config.model_fields.items()
    }
    assert entry(name).cls.Config(**options) == entry(name).cls.Config()
    for key in options:
        for value in ("no such value", [[]], -1e9):
            with suppress(InputError):
                entry(name).configure({key: value})
