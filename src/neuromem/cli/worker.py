"""`neuromem worker`: background work in a process of its own."""

import asyncio
import logging
import signal
from contextlib import suppress

import typer

from neuromem.cli.shared import OPERATIONS, Asked, Takes, command, print_json


def register(app: typer.Typer) -> None:
    command(app, takes=Takes.PLACE, panel=OPERATIONS)(worker)


async def worker(asked: Asked) -> None:
    """Do the background work of programs that open neuromem with background=False, until Ctrl-C or SIGTERM.

    Several workers share the work.
    """
    logging.getLogger("neuromem").setLevel(logging.INFO)
    _cancel_on_signals()
    with suppress(asyncio.CancelledError):
        async with asked.open(background=True) as nm:
            from memground.postgres.engine import redact

            place = "the embedded PostgreSQL" if asked.database_url is None else redact(asked.database_url)
            status = await nm.background_status()
            if asked.as_json:
                print_json({"schema": asked.schema, "waiting": status.waiting, "failed": status.failed})
            else:
                typer.echo(
                    f"working for schema {asked.schema!r} of {place}; "
                    f"jobs waiting: {status.waiting}, failed: {status.failed}"
                )
            await asyncio.Event().wait()
    if not asked.as_json:
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
