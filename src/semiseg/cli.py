"""The command line: parse, call one function, print."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

app = typer.Typer(
    name="semiseg",
    help="Segment medical images from a few labelled scans and many unlabelled ones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Data = Annotated[
    Path, typer.Argument(help="Dataset folder (nnU-Net raw layout); images without a label are unlabelled")
]
Prepared = Annotated[
    Path | None, typer.Option(help="Folder of the prepared store; default: 'prepared' inside the dataset folder")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write")]


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
    """Make a dataset folder of images and labels, and check it; the same command continues one that was stopped."""
    import semiseg

    made = semiseg.init_dataset(
        images,
        labels,
        output,
        classes=_names(classes),
        channels=_names(channels),
        pattern=pattern,
        patients=patients,
        spacing=_spacing(spacing),
        copy=copy,
        workers=workers,
        show=True,
    )
    for note in made.notes:
        typer.echo(note)
    _print_report(made.report)
    typer.echo(f"Next: semiseg prepare {output}")


def _names(value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",")) if value else ()


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
) -> None:
    """Plan the dataset and write the prepared store; a killed preparation goes on where it was."""
    import semiseg

    store = semiseg.prepare(data, prepared, workers=workers, plan=plan, preset=preset, show=True)
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
    from semiseg.data.importers.base import importer, importers
    from semiseg.data.importers.describe import overview, page
    from semiseg.errors import InputError

    if list_ or name is None:
        typer.echo(overview(importers().values()))
    elif source is None:
        typer.echo(page(importer(name)))
    elif output is None:
        raise InputError(f"import {name}: expected a folder to write, came none: add -o DATA")
    else:
        done = semiseg.import_dataset(name, source, output, assignments=set_ or (), workers=workers, show=True)
        typer.echo(f"{done.summary()}\nNext: semiseg check {output}")


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
    devices: Annotated[int | None, typer.Option(help="Processes on this machine")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show curves in the terminal")] = False,
    track: Annotated[
        list[str] | None, typer.Option("--track", help="Also log to mlflow or wandb (offline); may be repeated")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, such as optimiser.lr=0.02 or options.mask_ratio=0.3; may be repeated"),
    ] = None,
) -> None:
    """Train, or continue: the same command again does the rest. Ctrl-C saves and stops."""
    import semiseg

    run = semiseg.train(
        data,
        output,
        config=config,
        show=True,
        watch=watch,
        track=track or (),
        say=_on_first_process,
        preset=preset,
        protocol=protocol,
        method=method,
        labelled=labelled,
        split=split,
        test=test,
        steps=steps,
        seed=seed,
        prepared=prepared,
        network={"name": network} if network else None,
        precision=precision,
        devices=devices,
        assignments=set_ or (),
    )
    _on_first_process(_after_training(run))


def _on_first_process(line: str) -> None:
    if int(os.environ.get("RANK", 0)) == 0:
        typer.echo(line)


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
    accelerator: Annotated[str, typer.Option(help="auto, cpu or gpu")] = "auto",
) -> None:
    """Label scans of any format; the .nii.gz files have the scans' own geometry."""
    import semiseg

    written = semiseg.predict(
        run,
        scans,
        output,
        overlap=overlap,
        largest_component=largest_component,
        spacing=_spacing(spacing),
        accelerator=accelerator,  # type: ignore[arg-type]
        done=lambda case: typer.echo(f"{case}: done"),
    )
    typer.echo(f"{len(written)} scans labelled in {next(iter(written.values())).parent}")


def _spacing(value: str | None) -> tuple[float, float, float] | None:
    from semiseg.errors import InputError

    if value is None:
        return None
    try:
        x, y, z = (float(part) for part in value.split(","))
    except ValueError:
        raise InputError(f"--spacing: expected three numbers such as 0.5,0.5,3, came {value!r}: correct it") from None
    if not all(0 < side < float("inf") for side in (x, y, z)):
        raise InputError(f"--spacing: expected positive numbers of mm, came {value!r}: correct it")
    return x, y, z


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of predicted labels, or a run folder")],
    labels: Annotated[Path | None, typer.Argument(help="Folder of reference labels; not for a run folder")] = None,
    output: Output = None,
    empty: Annotated[
        str | None,
        typer.Option(
            help="Distances of empty masks: diagonal, nan, official (0, as the papers' code) or dhc (128); default: as "
            "the run says, diagonal for folders"
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Cases at a time; 0: one per core")] = 0,
    matching: Annotated[
        bool,
        typer.Option(
            "--matching",
            help="Of a run folder, instead: how well features of classes match between labelled and unlabelled scans "
            "(matching.csv, matching.json; no test label is read)",
        ),
    ] = False,
) -> None:
    """Dice, Jaccard, 95HD and ASD per class and case: table, scores.csv, scores.json."""
    import semiseg
    from semiseg.errors import InputError

    if matching:
        if labels is not None:
            raise InputError("--matching takes a run folder alone: leave the folder of reference labels out")
        typer.echo(semiseg.matching(predictions, output).table())
        return
    scores = semiseg.evaluate(predictions, labels, output, empty=empty, workers=workers)  # type: ignore[arg-type]
    from semiseg.evaluation.runs import heading

    typer.echo("\n".join(part for part in (heading(scores), scores.table()) if part))


class Several(TyperCommand):
    """A command whose repeatable options take several words at once: `--methods micd cml` is `--methods micd --methods
    cml`. So arguments stand before the options.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the name of an option before each further word."""
        names = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        spread: list[str] = []
        current: str | None = None
        for word in args:
            if word.startswith("-"):
                current = word if word in names else None
            elif current is not None and spread[-1] != current:
                spread.append(current)
            spread.append(word)
        return super().parse_args(ctx, spread)


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
    bound: Annotated[bool | None, typer.Option(help="Train the supervised method on all labels")] = None,
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
        "bound": bound,
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


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="A method, to see its options and its paper's ablations")] = None,
    table: Annotated[
        str | None, typer.Option(help="A table of its paper, such as VI: print the command of every row")
    ] = None,
) -> None:
    """List the methods, the options of one, or the commands that replay a table of its paper."""
    import semiseg
    from semiseg.errors import InputError
    from semiseg.methods.base import entry
    from semiseg.methods.describe import describe, overview, page
    from semiseg.papers import replay

    if table and not name:
        raise InputError("--table needs a method: semiseg methods ducisc --table VI")
    if name and table:
        typer.echo(replay(name, table))
    else:
        typer.echo(page(describe(entry(name))) if name else overview(semiseg.list_methods()))


@app.command()
def presets(name: Annotated[str | None, typer.Argument(help="A preset, to see all its settings")] = None) -> None:
    """List the papers' settings per dataset, or show one."""
    import semiseg
    from semiseg.presets.describe import overview, page

    typer.echo(page(name) if name else overview(semiseg.list_presets()))


def main() -> None:
    """Run the command line; problems of the input end with status 2 and one line each."""
    from semiseg.errors import InputError

    try:
        app()
    except InputError as error:
        for problem in error.problems:
            typer.echo(f"error: {problem}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
