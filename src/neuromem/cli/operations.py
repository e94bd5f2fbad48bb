"""`neuromem stats`, `doctor` and `worker`: running a mind."""

import asyncio
import logging
import signal
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from neuromem.cli.models import DEFAULT_LLM, open_llm
from neuromem.cli.shared import OPERATIONS, Asked, AsOf, Takes, Timezone, command, print_json, view_of
from neuromem.cli.times import local, optional_moment, zone

if TYPE_CHECKING:
    from neuromem.providers.llm import LLMProvider


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
                ("emotions", f"{found.emotions:,} memories carry one" if found.emotions else ""),
                ("messages", f"{found.messages:,} in {render.counted(found.sessions, 'session')}"),
                ("key-values", f"{found.key_values:,}"),
                ("graph", f"{found.graph_nodes:,} things, {render.counted(found.graph_edges, 'relation')}"),
                ("documents", f"{found.documents:,}" if found.documents else ""),
                ("by words only", f"{found.without_vector:,} have no vector yet" if found.without_vector else ""),
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
    llm_model: Annotated[
        str | None,
        typer.Option(
            envvar="NEUROMEM_LLM", help="Also extract conversations, with this language model.", show_default=False
        ),
    ] = None,
    llm_base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Its server, which speaks OpenAI's protocol; without one OPENAI_BASE_URL, or OpenAI's.",
            show_default=False,
        ),
    ] = None,
    timezone: Timezone = None,
) -> None:
    """Do the background work of programs that open neuromem with background=False, until Ctrl-C or SIGTERM.

    Several workers share the work. Without --llm-model and --llm-base-url conversations are left to those that have a
    language model. Its key comes from OPENAI_API_KEY.
    """
    logging.getLogger("neuromem").setLevel(logging.INFO)
    _cancel_on_signals()
    asks = llm_model is not None or llm_base_url is not None
    llm = open_llm(llm_model or DEFAULT_LLM, llm_base_url, option="--llm-base-url") if asks else None
    with suppress(asyncio.CancelledError):
        await _work(asked, llm, zone(timezone), retry_failed=retry_failed)
    if not asked.as_json:
        typer.echo("stopped")


async def _work(asked: Asked, llm: "LLMProvider | None", timezone: str, *, retry_failed: bool) -> None:
    """Until it is cancelled."""
    async with asked.open(background=True, llm=llm, timezone=timezone) as nm:
        from memground.postgres.engine import redact

        if retry_failed:
            await nm.retry_failed()
        place = "the embedded PostgreSQL" if asked.database_url is None else redact(asked.database_url)
        status = await nm.background_status()
        model = None if llm is None else llm.model_id
        if asked.as_json:
            print_json({"schema": asked.schema, "llm": model, "waiting": status.waiting, "failed": status.failed})
        else:
            extracts = "" if model is None else f" with {model}"
            typer.echo(
                f"working for schema {asked.schema!r} of {place}{extracts}; "
                f"jobs waiting: {status.waiting}, failed: {status.failed}"
            )
        await asyncio.Event().wait()


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
