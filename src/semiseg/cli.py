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
def check(data: Data) -> None:
    """Find every problem of a dataset folder, each with its remedy."""
    import semiseg

    report = semiseg.check(data)
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
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes all cores")] = 0,
) -> None:
    """Plan the dataset and write the prepared store; a killed preparation goes on where it was."""
    import semiseg

    store = semiseg.prepare(data, prepared, workers=workers, plan=plan, show=True)
    for decision, reason in store.plan.reasons.items():
        typer.echo(f"{decision}: {reason}")
    typer.echo(f"{len(store.cases)} cases are ready in {store.root}")


@app.command()
def train(
    data: Annotated[Path | None, typer.Argument(help="Dataset folder; not needed with --config")] = None,
    method: Annotated[str | None, typer.Option("--method", "-m", help="See semiseg methods")] = None,
    labelled: Annotated[int | None, typer.Option("--labelled", "-n", help="Labelled cases to draw")] = None,
    split: Annotated[Path | None, typer.Option(help="JSON file with labelled, unlabelled, validation, test")] = None,
    test: Annotated[int | None, typer.Option(help="Labelled cases to keep for scoring (without --split)")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, batches and augmentation")] = None,
    output: Output = None,
    prepared: Prepared = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings (config.yaml of a run)")] = None,
    network: Annotated[str | None, typer.Option(help="unet (default), unet2d or vnet")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, tf32 or bf16")] = None,
    devices: Annotated[int | None, typer.Option(help="Processes on this machine")] = None,
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
    if int(os.environ.get("RANK", 0)) == 0:
        typer.echo(_after_training(run))


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
        float, typer.Option(min=0, max=0.95, help="Share that neighbouring windows have in common")
    ] = 0.5,
    largest_component: Annotated[
        bool, typer.Option("--largest-component", help="Keep the largest component of each class")
    ] = False,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or gpu")] = "auto",
) -> None:
    """Label scans; the files have the scans' own geometry."""
    import semiseg

    written = semiseg.predict(
        run,
        scans,
        output,
        overlap=overlap,
        largest_component=largest_component,
        accelerator=accelerator,  # type: ignore[arg-type]
        done=lambda case: typer.echo(f"{case}: done"),
    )
    typer.echo(f"{len(written)} scans labelled in {next(iter(written.values())).parent}")


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of predicted labels, or a run folder")],
    labels: Annotated[Path | None, typer.Argument(help="Folder of reference labels; not for a run folder")] = None,
    output: Output = None,
    empty: Annotated[
        str, typer.Option(help="Distances of empty masks: diagonal, nan, or official (0, as the papers' code)")
    ] = "diagonal",
    workers: Annotated[int, typer.Option(min=0, help="Cases at a time; 0: one per core")] = 0,
) -> None:
    """Dice, Jaccard, 95HD and ASD per class and case: table, scores.csv, scores.json."""
    import semiseg

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
