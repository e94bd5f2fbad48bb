"""`neuromem recall` and `neuromem search`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from neuromem.cli.shared import (
    MEMORY,
    Asked,
    AsOf,
    Explain,
    Limit,
    Timezone,
    Types,
    ValidAt,
    Where,
    command,
    read_filter,
)
from neuromem.cli.times import optional_moment, zone

Query = Annotated[str, typer.Argument(help="A question, or some words.")]


def register(app: typer.Typer) -> None:
    command(app, panel=MEMORY)(recall)
    command(app, panel=MEMORY)(search)


async def recall(
    asked: Asked,
    query: Query,
    *,
    limit: Limit = 20,
    as_of: AsOf = None,
    valid_at: ValidAt = None,
    where: Where = None,
    types: Types = None,
    conversations: Annotated[
        bool,
        typer.Option("--conversations/--no-conversations", help="Whether turns of conversations are searched too."),
    ] = True,
    explain: Explain = False,
    timezone: Timezone = None,
) -> None:
    """Recall what is known about a question: memories, conversation turns and the profile, in one ranking."""
    known, valid = optional_moment(as_of, "--as-of"), optional_moment(valid_at, "--valid-at")
    chosen = read_filter(where)
    async with asked.open() as nm:
        found = await nm.recall(
            asked.user,
            query,
            limit=limit,
            as_of=known,
            valid_at=valid,
            where=chosen,
            memory_types=types,
            include_conversations=conversations,
            explain=explain,
            timezone=zone(timezone),
        )
    if asked.as_json:
        return asked.print_json({"as_of": known, "valid_at": valid, **found.to_dict()})
    from neuromem.cli import render

    asked.as_of_line(known)
    now = known or datetime.now(UTC)
    if not found.merged:
        asked.say(f"nothing is known about that{asked.whose}")
    elif explain:
        asked.draw(render.explained([(hit.content, hit.score, hit.explanation) for hit in found.merged]))
    else:
        for number, hit in enumerate(found.merged, start=1):
            asked.draw(render.merged_entry(number, hit, now))
    if found.user_profile:
        asked.draw(render.details((key, str(value)) for key, value in found.user_profile.items()))


async def search(
    asked: Asked,
    query: Query,
    *,
    limit: Limit = 10,
    as_of: AsOf = None,
    valid_at: ValidAt = None,
    where: Where = None,
    types: Types = None,
    explain: Explain = False,
    timezone: Timezone = None,
) -> None:
    """Search the memories, by meaning and by word."""
    known, valid = optional_moment(as_of, "--as-of"), optional_moment(valid_at, "--valid-at")
    chosen = read_filter(where)
    async with asked.open() as nm:
        hits = await nm.search(
            asked.user,
            query,
            limit=limit,
            as_of=known,
            valid_at=valid,
            where=chosen,
            memory_types=types,
            explain=explain,
            timezone=zone(timezone),
        )
    if asked.as_json:
        return asked.print_json({"as_of": known, "valid_at": valid, "hits": [hit.to_dict() for hit in hits]})
    from neuromem.cli import render

    asked.as_of_line(known)
    now = known or datetime.now(UTC)
    if not hits:
        asked.say(f"no memory fits{asked.whose}")
    elif explain:
        asked.draw(render.explained([(hit.memory.content, hit.score, hit.explanation) for hit in hits]))
    else:
        for number, hit in enumerate(hits, start=1):
            asked.draw(render.memory_entry(number, hit.memory, now, hit.score))
