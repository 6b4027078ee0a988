"""Training, prediction, scores, comparisons and reports."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from semiseg.cli.shared import (
    Jobs,
    Launcher,
    Output,
    Prepared,
    Several,
    ShardOption,
    Slurm,
    app,
    but,
    on_first_process,
    parts,
    voxel_sides,
)


@app.command()
def train(
    data: Annotated[Path | None, typer.Argument(help="Dataset folder; not needed with --config")] = None,
    method: Annotated[str | None, typer.Option("--method", "-m", help="See semiseg methods")] = None,
    preset: Annotated[str | None, typer.Option(help="A paper's settings, see semiseg presets")] = None,
    labelled: Annotated[int | None, typer.Option("--labelled", "-n", help="Labelled cases to draw")] = None,
    split: Annotated[Path | None, typer.Option(help="JSON file with labelled, unlabelled, validation, test")] = None,
    test: Annotated[int | None, typer.Option(help="Labelled cases to keep for scoring (without --split)")] = None,
    protocol: Annotated[str | None, typer.Option(help="honest (default), or paper: replay its selection")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, batches and augmentation")] = None,
    output: Output = None,
    prepared: Prepared = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings (config.yaml of a run)")] = None,
    network: Annotated[str | None, typer.Option(help="unet (default), unet2d, unet3d or vnet")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, tf32 or bf16")] = None,
    accelerator: Annotated[str | None, typer.Option(help="auto, cpu, gpu or mps")] = None,
    devices: Annotated[int | None, typer.Option(help="Processes on this machine")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show curves in the terminal")] = False,
    track: Annotated[
        list[str] | None, typer.Option("--track", help="Also log to mlflow or wandb (offline); may be repeated")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, such as optimiser.lr=0.02 or options.mask_ratio=0.3; may be repeated"),
    ] = None,
    preview: Annotated[
        int | None, typer.Option(min=1, help="Draw so many of the first batches as the networks see them, and stop")
    ] = None,
) -> None:
    """Train, or continue: the same command again does the rest. Ctrl-C saves and stops."""
    given = but(locals(), "data", "output", "watch", "track", "set_", "preview")
    import semiseg
    from semiseg.errors import InputError
    from semiseg.system.memory import reuse_freed_memory

    reuse_freed_memory()
    if data is None and config is None:
        raise InputError("expected a dataset folder: semiseg train DATA (semiseg train --help shows all options)")
    settings = given | {"assignments": set_ or ()}
    if preview is not None:
        for path in semiseg.preview(data, output, count=preview, **settings):
            typer.echo(path)
        return
    run = semiseg.train(data, output, show=True, watch=watch, track=track or (), say=on_first_process, **settings)
    on_first_process(_after_training(run))


def _after_training(run: Any) -> str:
    if not run.finished:
        return f"Stopped. Continue: semiseg train --config {run.path / 'config.yaml'} --output {run.path}"
    words = "" if run.split().test else " SCANS -o OUT"
    return f"Finished: {run.path}\nNext: semiseg predict {run.path}{words}"


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Run folder that train wrote")],
    scans: Annotated[
        Path | None, typer.Argument(help="Folder of scans or one file; default: test cases of the run's split")
    ] = None,
    output: Output = None,
    overlap: Annotated[
        float | None,
        typer.Option(min=0, max=0.95, help="Share that neighbouring windows have in common; default: as the run says"),
    ] = None,
    largest_component: Annotated[
        bool | None,
        typer.Option(
            "--largest-component/--all-components",
            help="Keep the largest component of each class, or all; default: as the run says",
        ),
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Voxel sides in mm, x,y,z, of scans whose format records none")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu or mps")] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Label also what this run has labelled already")
    ] = False,
    shard: ShardOption = None,
    launcher: Launcher = None,
    jobs: Jobs = 4,
    slurm: Slurm = None,
) -> None:
    """Label scans of any format; the .nii.gz files have the scans' own geometry. The same command does the rest."""
    given = but(locals(), "shard", "launcher", "jobs", "slurm")
    import semiseg
    from semiseg.system.memory import reuse_freed_memory

    reuse_freed_memory()
    given |= {"spacing": voxel_sides(spacing), **parts(shard, launcher, jobs, slurm)}
    written = semiseg.predict(**given, done=lambda case: typer.echo(f"{case}: done"), say=typer.echo)
    where = f" in {next(iter(written.values())).parent}" if written else ""
    following = f"{run}" if scans is None else f"{output} LABELS"
    typer.echo(f"{len(written)} scans labelled{where}\nNext: semiseg evaluate {following}")


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
    how: Any = {"empty": empty, "cases": cases or None, "pattern": pattern, "workers": workers}
    how |= parts(shard, launcher, jobs, slurm)
    scores = semiseg.evaluate(predictions, labels, output, **how)
    from semiseg.evaluation.runs import heading

    if scores is None:
        typer.echo(f"Shard {shard} is scored. When all are: the same command without --shard gives the scores.")
        return

    typer.echo("\n".join(part for part in (heading(scores), scores.table()) if part))
    for case, name in scores.provenance["matched"].items():
        typer.echo(f"matched by its name: {name} with the label {case}")
    written = output or (predictions if predictions.is_dir() else None)
    if written is not None:
        typer.echo(f"Written: {written / 'scores.csv'}, {written / 'scores.json'}")
    if labels is None:
        typer.echo(f"Next: semiseg report {predictions}")


@app.command(cls=Several)
def compare(
    data: Annotated[Path | None, typer.Argument(help="Dataset folder; not needed with --config")] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--methods", "--method", "-m", help="Methods, all, or table:ducisc/I: those of a paper's table"),
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
    given = but(locals(), "data", "output", "set_", "slurm", "dry_run")
    from semiseg.api.runs import comparison
    from semiseg.system.cluster import parameters

    words: dict[str, Any] = {
        "assignments": set_ or (),
        "slurm": parameters(slurm or ()),
        "dry": dry_run,
        "say": typer.echo,
    }
    found = comparison(data, output, **given, **words)
    if found is not None and not found.complete:
        typer.echo(f"Stopped. Continue with the same command: {shlex.join(['semiseg', *sys.argv[1:]])}")
    elif found is not None:
        typer.echo(f"\n{_summary(found)}")
        sys.exit(1 if found.failures else 0)


def _summary(results: Any) -> str:
    """The tables, what failed, and where the files are."""
    from semiseg.comparison.tables import document

    tables = document(table for table in [*results.tables, *results.costs] if not table.detail)
    failed = [f"failed: {failure}" for failure in results.failures]
    return "\n".join([tables, *failed, f"Tables and scores: {results.output}/table.md, .tex, .csv, costs.*, cases.csv"])


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


@app.command()
def bench(
    data: Annotated[Path | None, typer.Argument(help="Dataset folder; default: generated scans")] = None,
    method: Annotated[str, typer.Option("--method", "-m", help="See semiseg methods")] = "mean_teacher",
    quick: Annotated[bool, typer.Option("--quick", help="Rough figures in seconds")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Also write the figures here")] = None,
    prepared: Prepared = None,
    preset: Annotated[str | None, typer.Option(help="A paper's settings, see semiseg presets")] = None,
    network: Annotated[str | None, typer.Option(help="unet, unet2d, unet3d or vnet")] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, tf32 or bf16")] = "auto",
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu or mps")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes on this machine")] = 1,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, such as speed.layout=contiguous; may be repeated")
    ] = None,
) -> None:
    """Measure training steps on this machine and say what holds them up, with percent of the floor."""
    given = but(locals(), "data", "method", "quick", "output", "set_")
    import semiseg
    from semiseg.system.memory import reuse_freed_memory

    reuse_freed_memory()
    found = semiseg.bench(data, method, quick=quick, output=output, assignments=set_ or (), **given)
    on_first_process(found.report())
