"""The command `neuromem`.

An error is one line on stderr and an exit code: 1 when what was asked cannot be done, 2 when it was asked wrongly.
"""

import sys
from typing import Annotated

import typer

from neuromem import __version__
from neuromem.cli import model, worker
from neuromem.errors import MemoryStoreError

app = typer.Typer(name="neuromem", help="Memory for AI agents on one PostgreSQL.", add_completion=False)
app.add_typer(model.app, name="model")
app.command()(worker.worker)


def main() -> None:
    """Entry point of the command; exits with its code."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        _complain(f"{error.format_message()} (see neuromem --help)")
        code = 2
    except MemoryStoreError as error:
        _complain(str(error))
        code = 1
    sys.exit(code)


def _complain(message: str) -> None:
    typer.echo(f"neuromem: {message}", err=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neuromem {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def neuromem(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
