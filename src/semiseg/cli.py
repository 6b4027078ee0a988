"""The command line: parse, call one function, print."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

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
    network: Annotated[str | None, typer.Option(help="unet (default), unet2d, unet3d or vnet")] = None,
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


@app.command()
def methods(name: Annotated[str | None, typer.Argument(help="A method, to see its options")] = None) -> None:
    """List the methods, or the options of one."""
    import semiseg
    from semiseg.methods.base import entry
    from semiseg.methods.describe import describe, overview, page

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
