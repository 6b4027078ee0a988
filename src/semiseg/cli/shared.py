"""What the commands share: the application, kinds of arguments, and how words become values."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
ShardOption = Annotated[str | None, typer.Option("--shard", help="Do the i-th of n parts of the cases, such as 2/8")]
Launcher = Annotated[
    str | None, typer.Option("--launcher", help="Do the parts as jobs: slurm, or local (the same on this machine)")
]
Jobs = Annotated[int, typer.Option("--jobs", help="Parts, with --launcher")]
Slurm = Annotated[
    list[str] | None, typer.Option("--slurm", help="Parameter of the jobs for submitit, such as timeout_min=600")
]


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


def parts(shard: str | None, launcher: str | None, jobs: int, slurm: list[str] | None) -> dict[str, Any]:
    """The part of the cases that is asked for, or the jobs that do all parts, as arguments of a call.

    Raises:
        InputError: the options contradict each other.
    """
    from semiseg.errors import InputError
    from semiseg.system.cluster import Cluster, parameters

    if launcher is None:
        if slurm:
            raise InputError("--slurm is for jobs: add --launcher slurm")
        return {} if shard is None else {"shard": shard}
    if shard is not None:
        raise InputError("--shard does one part here, --launcher all parts as jobs: leave one of them out")
    return {"cluster": Cluster(launcher, jobs, parameters(slurm or []))}  # type: ignore[arg-type]


def but(words: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The words of a command without those of these `names`, and without those that were not given."""
    return {name: word for name, word in words.items() if name not in names and word is not None and word != []}


def names(value: str | None) -> tuple[str, ...]:
    """The words of a list with commas."""
    return tuple(part.strip() for part in value.split(",")) if value else ()


def voxel_sides(value: str | None) -> tuple[float, float, float] | None:
    """Sides of a voxel in mm.

    Raises:
        InputError: the words are not three positive numbers.
    """
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


def on_first_process(line: str) -> None:
    """Print `line` once, however many processes share the work."""
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))) == 0:
        typer.echo(line)
