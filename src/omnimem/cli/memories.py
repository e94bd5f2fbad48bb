"""Commands that write and read memories."""

from typing import Annotated, Any

import typer

from memground.errors import InvalidInputError, NotFoundError
from omnimem.cli.shared import (
    MEMORIES,
    TIME,
    Asked,
    AsOf,
    Cursor,
    Filters,
    Limit,
    command,
    hit_lines,
    memory_line,
    moment,
    read_json,
    record_line,
)

Id = Annotated[str, typer.Argument(metavar="MEMORY_ID")]
Metadata = Annotated[str | None, typer.Option(metavar="JSON", help="An object of your own.")]
Data = Annotated[str | None, typer.Option(metavar="JSON", help="Structured content, an object.")]
Type = Annotated[str | None, typer.Option("--type", help="fact, episodic, procedural, document … or your own.")]


def register(app: typer.Typer) -> None:
    for function, panel in (
        (create, MEMORIES),
        (get, MEMORIES),
        (update, MEMORIES),
        (delete, MEMORIES),
        (search, MEMORIES),
        (list_, MEMORIES),
        (count, MEMORIES),
        (history, TIME),
        (at, TIME),
        (revert, TIME),
    ):
        command(app, panel=panel)(function)


async def create(
    asked: Asked,
    text: Annotated[str | None, typer.Argument(help="What to remember.")] = None,
    *,
    data: Data = None,
    metadata: Metadata = None,
    type: Type = None,
    vector_field: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="A field embedded on its own; repeatable.")
    ] = None,
    fulltext_field: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="A field whose words are found; repeatable.")
    ] = None,
) -> None:
    """Store a memory in the scope."""
    from omnimem import Content, IndexHint

    async with asked.open() as client:
        memory = await client.create(
            Content(text, read_json(data, "--data")),
            metadata=read_json(metadata, "--metadata"),
            type=type or "general",
            index_hint=IndexHint(vector_fields=vector_field or (), fulltext_fields=fulltext_field or ()),
        )
    asked.show(memory.to_dict(), memory_line(memory))


async def get(
    asked: Asked,
    memory_id: Id,
    *,
    version: Annotated[int | None, typer.Option(help="That version instead of the latest.")] = None,
) -> None:
    """Show a memory as it is, as JSON."""
    async with asked.open() as client:
        memory = await client.get(memory_id, version=version)
    if memory is None:
        raise NotFoundError(f"there is no memory {memory_id!r} here")
    asked.json(memory.to_dict())


async def update(
    asked: Asked,
    memory_id: Id,
    text: Annotated[str | None, typer.Argument(help="What it says from now on.")] = None,
    *,
    data: Data = None,
    metadata: Metadata = None,
    type: Type = None,
    expected_version: Annotated[int | None, typer.Option(help="Only if the latest is of this version.")] = None,
) -> None:
    """Append a record in which what is given replaces what was there."""
    from omnimem import Content

    changes: dict[str, Any] = {}
    if text is not None or data is not None:
        changes["content"] = Content(text, read_json(data, "--data"))
    if metadata is not None:
        changes["metadata"] = read_json(metadata, "--metadata")
    if type is not None:
        changes["type"] = type
    async with asked.open() as client:
        memory = await client.update(memory_id, **changes, expected_version=expected_version)
    asked.show(memory.to_dict(), f"now {memory_line(memory)}")


async def delete(
    asked: Asked, memory_id: Id, *, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Remove a memory with its whole history, for good."""
    if not yes:
        if asked.as_json:
            raise InvalidInputError("with --json nobody is asked; pass --yes")
        typer.confirm(f"Remove {memory_id} with its whole history, for good?", abort=True)
    async with asked.open() as client:
        records = await client.delete(memory_id)
    asked.show({"records": records}, f"removed, {records} records")


async def search(
    asked: Asked,
    query: Annotated[str | None, typer.Argument(help="Without one, what passes the filter is listed.")] = None,
    *,
    mode: Annotated[str, typer.Option(help="hybrid, semantic or keyword.")] = "hybrid",
    filter: Filters = None,
    limit: Limit = 10,
    as_of: AsOf = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each hit stands where it stands.")] = False,
    cursor: Cursor = None,
) -> None:
    """Find memories by meaning, by word, or both."""
    async with asked.open() as client:
        found = await client.search(
            query,
            mode=mode,  # pyright: ignore[reportArgumentType]  # checked by the query
            filters=read_json(filter, "--filter"),
            limit=limit,
            as_of=moment(as_of, "--as-of"),
            explain=explain,
            cursor=cursor,
        )
    if asked.as_json:
        asked.json(found.to_dict())
        return
    for number, hit in enumerate(found, start=1):
        typer.echo("\n".join(hit_lines(number, hit)))
    for warning in found.warnings:
        typer.echo(f"note: {warning}", err=True)
    if not len(found):
        typer.echo("nothing found")
    _more(found.cursor)


async def list_(
    asked: Asked, *, filter: Filters = None, limit: Limit = 50, as_of: AsOf = None, cursor: Cursor = None
) -> None:
    """List memories, latest change first."""
    async with asked.open() as client:
        page = await client.list(
            filters=read_json(filter, "--filter"), limit=limit, as_of=moment(as_of, "--as-of"), cursor=cursor
        )
    if asked.as_json:
        asked.json(page.to_dict())
        return
    for memory in page:
        typer.echo(memory_line(memory))
    _more(page.cursor)


async def count(asked: Asked, *, filter: Filters = None, as_of: AsOf = None) -> None:
    """Count memories."""
    async with asked.open() as client:
        number = await client.count(filters=read_json(filter, "--filter"), as_of=moment(as_of, "--as-of"))
    asked.show({"count": number}, f"{number:,}")


async def history(asked: Asked, memory_id: Id, *, limit: Limit = 20, cursor: Cursor = None) -> None:
    """Show the records of a memory, newest first."""
    async with asked.open() as client:
        page = await client.history(memory_id, limit=limit, cursor=cursor)
    if not len(page):
        raise NotFoundError(f"there is no memory {memory_id!r} here")
    if asked.as_json:
        asked.json(page.to_dict())
        return
    for memory in page:
        typer.echo(record_line(memory))
    _more(page.cursor)


async def at(asked: Asked, memory_id: Id, time: Annotated[str, typer.Argument(metavar="TIME")]) -> None:
    """Show a memory as it was at a moment, as JSON."""
    then = moment(time, "TIME")
    assert then is not None
    async with asked.open() as client:
        memory = await client.at_time(memory_id, then)
    if memory is None:
        raise NotFoundError(f"there was no memory {memory_id!r} at {then.isoformat()}")
    asked.json(memory.to_dict())


async def revert(asked: Asked, memory_id: Id, record_id: Annotated[str, typer.Argument(metavar="RECORD_ID")]) -> None:
    """Append a record with the content of an earlier one."""
    async with asked.open() as client:
        memory = await client.revert(memory_id, record_id)
    asked.show(memory.to_dict(), f"now {memory_line(memory)}")


def _more(cursor: str | None) -> None:
    if cursor is not None:
        typer.echo(f"more: --cursor {cursor}")
