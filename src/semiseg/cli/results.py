"""Scores, comparisons and reports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from semiseg.cli.shared import Jobs, Launcher, Output, Prepared, Several, ShardOption, Slurm, app, parts


@app.command(cls=Several)
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of predicted labels, one file, or a run folder")],
    labels: Annotated[Path | None, typer.Argument(help="Folder of reference labels; not for a run folder")] = None,
    output: Output = None,
    empty: Annotated[
        str | None,
        typer.Option(
            help="Distances of empty masks: diagonal, nan, official (0, as the papers' code) or dhc (128); default: as "
            "the run says, diagonal for folders"
        ),
    ] = None,
    cases: Annotated[
        list[str] | None, typer.Option("--cases", help="Score only these cases of a folder of labels")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Regular expression: its first group is the case in both folders' names")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Cases at a time; 0: one per core")] = 0,
    matching: Annotated[
        bool,
        typer.Option(
            "--matching",
            help="Of a run folder, instead: how well features of classes match between labelled and unlabelled scans "
            "(matching.csv, matching.json, features.png; no test label is read)",
        ),
    ] = False,
    shard: ShardOption = None,
    launcher: Launcher = None,
    jobs: Jobs = 4,
    slurm: Slurm = None,
) -> None:
    """Dice, Jaccard, 95HD and ASD per class and case: table, scores.csv, scores.json."""
    import semiseg
    from semiseg.errors import InputError

    if matching:
        if labels is not None:
            raise InputError("--matching takes a run folder alone: leave the folder of reference labels out")
        typer.echo(semiseg.matching(predictions, output).table())
        return
    how: Any = {
        "empty": empty,
        "cases": cases or None,
        "pattern": pattern,
        "workers": workers,
        **parts(shard, launcher, jobs, slurm),
    }
    scores = semiseg.evaluate(predictions, labels, output, **how)
    from semiseg.evaluation.runs import heading

    if scores is None:
        typer.echo(f"Shard {shard} is scored. When all are: the same command without --shard gives the scores.")
        return

    typer.echo("\n".join(part for part in (heading(scores), scores.table()) if part))


@app.command(cls=Several)
def compare(
    data: Annotated[Path | None, typer.Argument(help="Dataset folder; not needed with --config")] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--methods", "--method", "-m", help="Methods, or all; see semiseg methods")
    ] = None,
    labelled: Annotated[
        list[str] | None, typer.Option("--labelled", "-n", help="Numbers of labelled cases, or shares such as 10%")
    ] = None,
    splits: Annotated[
        list[str] | None, typer.Option("--splits", help="Split files, or names in the dataset's folder splits")
    ] = None,
    subsets: Annotated[int | None, typer.Option(help="Draws of the labelled cases (with --labelled)")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds; default 3")] = None,
    presets: Annotated[
        list[str] | None, typer.Option("--presets", "--preset", help="Papers' settings to start from")
    ] = None,
    test: Annotated[int | None, typer.Option(help="Cases kept for scoring (with --labelled); default a fifth")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of every cell")] = None,
    control: Annotated[bool | None, typer.Option(help="Train the supervised control at every budget")] = None,
    controls: Annotated[
        str | None,
        typer.Option(
            help="all, or plain: without controls of as many updates per batch and as many networks as the methods have"
        ),
    ] = None,
    bound: Annotated[bool | None, typer.Option(help="Train the supervised method on all labels")] = None,
    paired_test: Annotated[
        str | None,
        typer.Option(help="Test against the controls, over patients: wilcoxon (default), t, or t-one-sided"),
    ] = None,
    output: Output = None,
    prepared: Prepared = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with the grid (grid.yaml of a comparison)")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of every cell, such as optimiser.lr=0.02; may be repeated"),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Put the papers' figures beside ours")] = False,
    paper_dataset: Annotated[str | None, typer.Option(help="Which dataset of the papers this is")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Cells at once; they share cores and GPUs")] = 1,
    launcher: Annotated[
        str, typer.Option(help="processes, slurm, or local (SLURM's jobs on this machine)")
    ] = "processes",
    slurm: Annotated[
        list[str] | None, typer.Option("--slurm", help="Parameter of the jobs for submitit, such as timeout_min=600")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the complete plan and do nothing")] = False,
) -> None:
    """Train a grid of methods, budgets and seeds, test them against the control, and write tables; resumable."""
    from semiseg.comparison.command import Asked, run

    grid = {
        "data": data,
        "prepared": prepared,
        "methods": methods or None,
        "labelled": labelled or None,
        "splits": splits or None,
        "presets": presets or None,
        "subsets": subsets,
        "seeds": seeds,
        "test": test,
        "steps": steps,
        "control": control,
        "controls": controls,
        "bound": bound,
        "paired_test": paired_test,
    }
    asked = Asked(grid, config, output, set_ or [], workers, launcher, slurm or [], paper, paper_dataset)
    sys.exit(run(asked, dry=dry_run, say=typer.echo))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file; default: report.html in the run folder, or here")
    ] = None,
) -> None:
    """Write one HTML file about runs: scores, curves, cases in slices, failures, and how to reproduce them."""
    import semiseg

    typer.echo(f"Report: {semiseg.report(*runs, output=output)}")
