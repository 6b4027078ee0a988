"""What the machine does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiseg.cli.shared import Prepared, app, on_first_process


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
    import semiseg
    from semiseg.system.memory import reuse_freed_memory

    reuse_freed_memory()
    wishes = {"prepared": prepared, "preset": preset, "network": {"name": network} if network else None}
    found = semiseg.bench(
        data,
        method,
        quick=quick,
        output=output,
        assignments=set_ or (),
        precision=precision,
        accelerator=accelerator,
        devices=devices,
        **{name: value for name, value in wishes.items() if value is not None},
    )
    on_first_process(found.report())
