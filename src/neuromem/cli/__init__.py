"""The command `neuromem`.

An error is one line on stderr and an exit code: 1 when what was asked cannot be done, 2 when it was asked wrongly, 130
after Ctrl-C. `--debug` or NEUROMEM_DEBUG=1 shows the traceback too.
"""

import logging
import os
import sys
from typing import Annotated

import typer

from memground.errors import InvalidInputError, MemoryStoreError
from neuromem import __version__
from neuromem.cli import (
    asking,
    backup,
    chat,
    conversations,
    entities,
    erase,
    extract,
    files,
    graph,
    import_,
    kv,
    memories,
    model,
    moving,
    operations,
    reembed,
    reflecting,
    timetravel,
)
from neuromem.cli.shared import OPERATIONS, Interrupted

app = typer.Typer(
    name="neuromem",
    help="Memory for AI agents on one PostgreSQL.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for part in (
    import_,
    asking,
    memories,
    conversations,
    chat,
    extract,
    graph,
    files,
    entities,
    kv,
    timetravel,
    operations,
    moving,
    reembed,
    erase,
    reflecting,
    backup,
):
    part.register(app)
app.add_typer(model.app, name="model", rich_help_panel=OPERATIONS)

CANNOT, WRONG, INTERRUPTED = 1, 2, 130


def main() -> None:
    """Entry point of the command; exits with its code."""
    logging.basicConfig(level=logging.WARNING, handlers=[_Log()])
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except (Interrupted, KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        code = INTERRUPTED
    except typer.TyperException as error:
        _complain(f"{error.format_message()} (see neuromem --help)")
        code = WRONG
    except InvalidInputError as error:
        _complain(str(error))
        code = WRONG
    except MemoryStoreError as error:
        _complain(str(error))
        code = CANNOT
    except BrokenPipeError:
        # Whoever read has seen enough. What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = CANNOT
    except Exception as error:  # noqa: BLE001 - a person sees one line, whatever went wrong
        _complain(f"unexpected {type(error).__name__}: {error} (NEUROMEM_DEBUG=1 shows where)")
        code = CANNOT
    sys.exit(code)


def _debugging() -> bool:
    return os.environ.get("NEUROMEM_DEBUG", "") not in ("", "0")


def _complain(message: str) -> None:
    if _debugging() and sys.exc_info()[0] is not None:
        import traceback

        traceback.print_exc()
    typer.echo(f"neuromem: {' '.join(message.split())}", err=True)


class _Log(logging.Handler):
    """What libraries log becomes a line like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        if _debugging() and record.exc_info:
            typer.echo(logging.Formatter().formatException(record.exc_info), err=True)
        typer.echo(f"neuromem: {' '.join(record.getMessage().split())}", err=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neuromem {__version__}")
        raise typer.Exit


def _debug(wanted: bool) -> None:
    if wanted:
        os.environ["NEUROMEM_DEBUG"] = "1"


@app.callback(invoke_without_command=True)
def neuromem(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", callback=_debug, is_eager=True, help="Show the traceback of an error.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
