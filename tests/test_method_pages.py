"""docs/methods/ is what docs/generate.py writes, and says what there is to say."""

from __future__ import annotations

import re

import pytest

from scripts import ROOT, load_script
from semiseg.methods.base import registry

generate = load_script("docs/generate.py")
FAMILIES = generate.group(registry().values())
HEADER = ",".join(generate.RESULT)


def test_committed_pages_are_up_to_date():
    committed = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "methods").iterdir()}
    assert committed == generate.pages(generate.read_results(ROOT / "docs" / "results")), "run python docs/generate.py"


def test_the_table_of_metrics_is_up_to_date():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert text == generate.with_metrics(text), "run python docs/generate.py"
    assert "| `hd95` | 95HD | 95th percentile" in text


def test_every_method_is_on_one_page():
    names = [name for family in FAMILIES for name in family.names]
    assert sorted(names) == sorted(registry())
    assert all(not family.main.options for family in FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.main.name)
def test_a_page_has_formula_options_and_command(family):
    text = generate.page(family, [])
    assert re.search(r"^    L +=", text, re.MULTILINE), "the docstring of the class shows no formula of the loss"
    for option in family.main.cls.Config.model_fields:
        assert f"| `{option}` |" in text
    assert f"semiseg train DATA --method {family.main.name} " in text
    assert "## Our numbers" in text
    for name in family.names:
        assert f"`{name}`" in text or name == family.main.name


def test_tables_have_as_many_cells_in_every_line():
    for name, text in generate.pages([]).items():
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1, f"{name}: {block}"


@pytest.fixture
def results(tmp_path):
    lines = [HEADER]
    for method, dice in (("supervised", 0.8), ("cps", 0.9)):
        for seed in (0, 1):
            for label, shift in (("front", 0.01), ("back", -0.01)):
                lines.append(f"grid,hippocampus,l8,{method},{seed},{label},dice,{dice + shift + 0.02 * seed}")
                lines.append(f"grid,hippocampus,l8,{method},{seed},{label},hd95_mm,{'nan' if seed else 2.5}")
    lines.append("grid,la,l4,micd,0,atrium,dice,0.5")
    (tmp_path / "grid.csv").write_text("\n".join(lines) + "\n")
    return generate.read_results(tmp_path)


def family(name):
    return next(found for found in FAMILIES if name in found.names)


def test_our_numbers_are_means_and_deviations_over_seeds(results):
    lines = generate.ours(family("cps"), results)
    assert "| method | seeds | Dice % | 95HD mm |" in lines
    assert "| `supervised` | 2 | 81.00 ± 1.41 | 2.50 |" in lines
    assert "| `cps` | 2 | 91.00 ± 1.41 | 2.50 |" in lines
    assert lines[-1] == "Not run: grid (la, l4)."


def test_what_was_not_run_is_said(results):
    assert generate.ours(family("dhc"), results)[-1] == "Not run: grid (hippocampus, l8); grid (la, l4)."
    lines = generate.ours(family("micd"), results)
    assert "| `micd` | 1 | 50.00 |" in lines
    assert "Not run here: `micd-paper`." in lines
    assert "None is recorded" in generate.ours(family("micd"), [])[-1]


def test_results_with_other_columns_are_refused(tmp_path):
    (tmp_path / "grid.csv").write_text("experiment,dice\na,1\n")
    with pytest.raises(SystemExit, match="expected the columns experiment,dataset"):
        generate.read_results(tmp_path)
