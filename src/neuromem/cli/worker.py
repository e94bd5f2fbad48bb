"""`neuromem worker`: background work in a process of its own."""

import asyncio
import logging
import signal
from contextlib import suppress
from typing import Annotated

import typer

from memground.postgres.engine import redact
from neuromem import NeuroMemory
from neuromem.db import DEFAULT_SCHEMA


def worker(
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar="NEUROMEM_DATABASE_URL",
            help="A PostgreSQL URL; without one the embedded PostgreSQL.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    schema: Annotated[
        str, typer.Option(envvar="NEUROMEM_SCHEMA", help="The PostgreSQL schema of the tables.", show_envvar=True)
    ] = DEFAULT_SCHEMA,
) -> None:
    """Do the background work of programs that open neuromem with background=False, until Ctrl-C or SIGTERM.

    Several workers share the work. This one uses the local embedding model.
    """
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("neuromem").setLevel(logging.INFO)
    asyncio.run(_work(database_url, schema))


async def _work(database_url: str | None, schema: str) -> None:
    _cancel_on_signals()
    with suppress(asyncio.CancelledError):
        async with NeuroMemory(database_url, schema=schema) as nm:
            place = "the embedded PostgreSQL" if database_url is None else redact(database_url)
            status = await nm.background_status()
            typer.echo(
                f"working for schema {schema!r} of {place}; jobs waiting: {status.waiting}, failed: {status.failed}"
            )
            await asyncio.Event().wait()
    typer.echo("stopped")


def _cancel_on_signals() -> None:
    """The first SIGINT or SIGTERM cancels the running task, which then ends in order; a second one acts as usual."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        if task is not None:
            task.cancel()

    for number in signals:
        loop.add_signal_handler(number, stop)
