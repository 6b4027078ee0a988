"""What there is, methods and presets; and the way from scans to a prepared dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from semiseg.cli.shared import (
    Data,
    Jobs,
    Launcher,
    Output,
    Prepared,
    ShardOption,
    Slurm,
    app,
    but,
    names,
    parts,
    voxel_sides,
)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write")] = Path("demo"),
    seeds: Annotated[int, typer.Option(min=1, help="Number of repetitions with other random numbers")] = 1,
) -> None:
    """Generate a small cohort, train on it, and compare MICD with the supervised control (about 4 minutes)."""
    import semiseg

    semiseg.demo(output, seeds=range(seeds))


@app.command()
def init(
    images: Annotated[str, typer.Argument(help="Folder of images (any format and names), or 'SRC/*/t1.nrrd'")],
    labels: Annotated[str | None, typer.Option(help="Likewise; may be the folder of the images")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Dataset folder to make")] = Path("dataset"),
    classes: Annotated[str | None, typer.Option(help="liver,kidney for 1,2, or 500=heart,600=vessel")] = None,
    channels: Annotated[str | None, typer.Option(help="CT; or t1,t2 to read CASE_t1 and CASE_t2 as channels")] = None,
    pattern: Annotated[str | None, typer.Option(help="Regular expression: its first group is the case")] = None,
    patients: Annotated[str | None, typer.Option(help="Regular expression: patient in the case id")] = None,
    spacing: Annotated[str | None, typer.Option(help="Voxel sides in mm, x,y,z, where a format records none")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy NIfTI files instead of linking them")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes all cores")] = 0,
) -> None:
    """Make a dataset folder of images and labels, or add them to one, and check it; continues one that was stopped."""
    given = but(locals())
    import semiseg

    given |= {"classes": names(classes), "channels": names(channels), "spacing": voxel_sides(spacing)}
    made = semiseg.init_dataset(**{"labels": None, **given}, show=True)
    for note in made.notes:
        typer.echo(note)
    _print_report(made.report)
    typer.echo(f"Next: semiseg prepare {output}")


@app.command()
def check(
    data: Data,
    workers: Annotated[int, typer.Option(min=0, help="Cases at a time; 0: one per core")] = 0,
) -> None:
    """Find every problem of a dataset folder, each with its remedy."""
    import semiseg

    _print_report(semiseg.check(data, workers=workers))


def _print_report(report: Any) -> None:
    typer.echo(report.summary())
    for warning in report.warnings:
        typer.echo(f"warning: {warning}")
    report.raise_if_errors()
    typer.echo("No errors.")


@app.command()
def prepare(
    data: Data,
    prepared: Prepared = None,
    plan: Annotated[Path | None, typer.Option(help="An edited plan.json to follow")] = None,
    preset: Annotated[str | None, typer.Option(help="Prepare as runs with this preset want it")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes all cores")] = 0,
    shard: ShardOption = None,
    launcher: Launcher = None,
    jobs: Jobs = 4,
    slurm: Slurm = None,
) -> None:
    """Plan the dataset and write the prepared store; a killed preparation goes on where it was."""
    given = but(locals(), "shard", "launcher", "jobs", "slurm")
    import semiseg

    store = semiseg.prepare(**given, **parts(shard, launcher, jobs, slurm), show=True)
    for decision, reason in store.plan.reasons.items():
        typer.echo(f"{decision}: {reason}")
    typer.echo(f"{len(store.cases)} cases are ready in {store.root}")


@app.command("import")
def import_(
    name: Annotated[str | None, typer.Argument(help="A dataset; without one, all are listed")] = None,
    source: Annotated[Path | None, typer.Argument(help="Its folder; without one, tells where to get it")] = None,
    output: Output = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option, such as line=coranet; may be repeated")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes all cores")] = 0,
    list_: Annotated[bool, typer.Option("--list", help="List the datasets and where to get them")] = False,
) -> None:
    """Turn a download of one of the papers' datasets into a dataset folder with the published splits."""
    import semiseg
    from semiseg.cli.pages import importer_overview, importer_page
    from semiseg.conversion.papers.base import importer, importers
    from semiseg.errors import InputError

    if list_ or name is None:
        typer.echo(importer_overview(importers().values()))
    elif source is None:
        typer.echo(importer_page(importer(name)))
    elif output is None:
        raise InputError(f"import {name}: expected a folder to write, came none: add -o DATA")
    else:
        done = semiseg.import_dataset(name, source, output, assignments=set_ or (), workers=workers, show=True)
        typer.echo(f"{done.summary()}\nNext: semiseg check {output}")
