"""The command `omnimem`.

An error is one line on stderr and an exit code: 1 when what was asked cannot be done, 2 when it was asked wrongly, 130
after Ctrl-C. OMNIMEM_DEBUG=1 shows the traceback too.
"""

import logging
import os
import sys
from typing import Annotated

import typer

from memground.errors import InvalidInputError, MemoryStoreError
from omnimem import __version__
from omnimem.cli import memories, operations

app = typer.Typer(
    name="omnimem",
    help="Versioned, scoped, searchable memories.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
memories.register(app)
operations.register(app)

CANNOT, WRONG, INTERRUPTED = 1, 2, 130


def main() -> None:
    """Entry point of the command; exits with its code."""
    logging.basicConfig(level=logging.WARNING, format="omnimem: %(message)s")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("interrupted", INTERRUPTED)
    except typer.TyperException as error:
        code = _complain(f"{error.format_message()} (see omnimem --help)", WRONG)
    except InvalidInputError as error:
        code = _complain(str(error), WRONG)
    except MemoryStoreError as error:
        code = _complain(str(error), CANNOT)
    except BrokenPipeError:
        # Whoever read has seen enough. What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = CANNOT
    except Exception as error:  # noqa: BLE001 - a person sees one line, whatever went wrong
        code = _complain(f"unexpected {type(error).__name__}: {error} (OMNIMEM_DEBUG=1 shows where)", CANNOT)
    sys.exit(code)


def _complain(message: str, code: int) -> int:
    if os.environ.get("OMNIMEM_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exc()
    typer.echo(f"omnimem: {' '.join(message.split())}", err=True)
    return code


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"omnimem {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def omnimem(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
