"""`neuromem stats`, `doctor` and `worker`: running a mind."""

import asyncio
import logging
import signal
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import typer

from neuromem.cli.shared import OPERATIONS, Asked, AsOf, Takes, command, print_json, view_of
from neuromem.cli.times import local, optional_moment


def register(app: typer.Typer) -> None:
    command(app, panel=OPERATIONS)(stats)
    command(app, takes=Takes.PLACE, panel=OPERATIONS)(doctor)
    command(app, takes=Takes.PLACE, panel=OPERATIONS)(worker)


async def stats(asked: Asked, *, as_of: AsOf = None) -> None:
    """Say how much is known about a user."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        found = await view_of(nm, known).stats(asked.user)
    if asked.as_json:
        return asked.print_json({"as_of": known, **found.to_dict()})
    from neuromem.cli import render

    def when(moment: datetime | None) -> str:
        return "" if moment is None else f"{local(moment)} ({render.ago(moment)})"

    asked.as_of_line(known)
    total = sum(found.memories.values())
    types = ", ".join(f"{count:,} {name}" for name, count in found.memories.items())
    work = found.background
    asked.draw(
        render.details(
            [
                ("user", found.user_id),
                ("memories", f"{total:,}" + (f" ({types})" if types else "")),
                ("versions", f"{found.memory_versions:,}"),
                ("messages", f"{found.messages:,} in {render.counted(found.sessions, 'session')}"),
                ("key-values", f"{found.key_values:,}"),
                ("graph", f"{found.graph_nodes:,} things, {render.counted(found.graph_edges, 'relation')}"),
                ("first known", when(found.first_known)),
                ("last known", when(found.last_known)),
                ("background", "" if work is None else f"{work.waiting:,} waiting, {work.failed:,} failed"),
            ]
        )
    )


async def doctor(asked: Asked) -> int:
    """Look at everything neuromem needs, and say what to do about what is missing. Changes nothing."""
    from neuromem.cli.doctor import examine

    return await examine(asked)


async def worker(
    asked: Asked,
    *,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="First give failed jobs another round of tries.")
    ] = False,
) -> None:
    """Do the background work of programs that open neuromem with background=False, until Ctrl-C or SIGTERM.

    Several workers share the work.
    """
    logging.getLogger("neuromem").setLevel(logging.INFO)
    _cancel_on_signals()
    with suppress(asyncio.CancelledError):
        async with asked.open(background=True) as nm:
            from memground.postgres.engine import redact

            if retry_failed:
                await nm.retry_failed()
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
