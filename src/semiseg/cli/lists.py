"""What there is: methods and presets."""

from __future__ import annotations

from typing import Annotated

import typer

from semiseg.cli.shared import app


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="A method, to see its options and its paper's ablations")] = None,
    table: Annotated[
        str | None, typer.Option(help="A table of its paper, such as VI: print the command of every row")
    ] = None,
) -> None:
    """List the methods, the options of one, or the commands that replay a table of its paper."""
    import semiseg
    from semiseg.api.lists import describe
    from semiseg.cli.pages import method_overview, method_page
    from semiseg.errors import InputError
    from semiseg.methods.base import entry
    from semiseg.papers import replay

    if table and not name:
        raise InputError("--table needs a method: semiseg methods ducisc --table VI")
    if name and table:
        typer.echo(replay(name, table))
    else:
        typer.echo(method_page(describe(entry(name))) if name else method_overview(semiseg.list_methods()))


@app.command()
def presets(name: Annotated[str | None, typer.Argument(help="A preset, to see all its settings")] = None) -> None:
    """List the papers' settings per dataset, or show one."""
    import semiseg
    from semiseg.cli.pages import preset_overview, preset_page

    typer.echo(preset_page(name) if name else preset_overview(semiseg.list_presets()))
