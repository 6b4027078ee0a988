"""What the commands share: the application, kinds of arguments, and how words become values."""

from __future__ import annotations

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
