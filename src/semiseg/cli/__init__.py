"""The command line: parse, call one function, print. The order of the imports is that of the commands in the help."""

from __future__ import annotations

import sys

import typer

from semiseg.cli import data, runs, lists  # noqa: F401  # isort: skip
from semiseg.cli.shared import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; problems of the input end with status 2 and one line each."""
    from semiseg.cli.signs import encodable
    from semiseg.errors import InputError

    encodable(sys.stdout, sys.stderr)
    try:
        app()
    except InputError as error:
        for problem in error.problems:
            typer.echo(f"error: {problem}", err=True)
        sys.exit(2)
