"""Training and prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from semiseg.cli.shared import (
    Jobs,
    Launcher,
    Output,
    Prepared,
    ShardOption,
    Slurm,
    app,
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
    import semiseg
    from semiseg.errors import InputError
    from semiseg.system.heap import reuse_freed_memory

    reuse_freed_memory()
    if data is None and config is None:
        raise InputError("expected a dataset folder: semiseg train DATA (semiseg train --help shows all options)")
    settings: dict[str, Any] = {
        "config": config,
        "preset": preset,
        "protocol": protocol,
        "method": method,
        "labelled": labelled,
        "split": split,
        "test": test,
        "steps": steps,
        "seed": seed,
        "prepared": prepared,
        "network": {"name": network} if network else None,
        "precision": precision,
        "accelerator": accelerator,
        "devices": devices,
        "assignments": set_ or (),
    }
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
    import semiseg
    from semiseg.system.heap import reuse_freed_memory

    reuse_freed_memory()
    written = semiseg.predict(
        run,
        scans,
        output,
        overlap=overlap,
        largest_component=largest_component,
        spacing=voxel_sides(spacing),
        accelerator=accelerator,  # type: ignore[arg-type]
        **parts(shard, launcher, jobs, slurm),
        overwrite=overwrite,
        done=lambda case: typer.echo(f"{case}: done"),
        say=typer.echo,
    )
    where = f" in {next(iter(written.values())).parent}" if written else ""
    typer.echo(f"{len(written)} scans labelled{where}")
