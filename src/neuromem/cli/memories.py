"""`neuromem add`, `list`, `get`, `history`, `update`, `delete`, `revert`: memories one by one."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memground.errors import InvalidInputError, NotFoundError
from neuromem.cli.shared import (
    MEMORY,
    Asked,
    AsOf,
    Limit,
    Origin,
    Types,
    Where,
    command,
    read_filter,
    read_object,
    read_texts,
    view_of,
)
from neuromem.cli.times import local, optional_moment

if TYPE_CHECKING:
    from neuromem.types import Memory

MemoryId = Annotated[str, typer.Argument(metavar="ID", help="A memory's id, or its first characters (four or more).")]
Type = Annotated[str | None, typer.Option("--type", "-t", metavar="TYPE", help="fact, episodic, or a name of yours.")]
Importance = Annotated[int | None, typer.Option("--importance", "-i", help="1 to 10.")]
Metadata = Annotated[str | None, typer.Option(metavar="JSON", help='An object, such as \'{"topic": "work"}\'.')]
ValidFrom = Annotated[str | None, typer.Option(metavar="TIME", help="Since when it is true in the world.")]
ValidTo = Annotated[str | None, typer.Option(metavar="TIME", help="Until when it is true in the world.")]
KnownAt = Annotated[str | None, typer.Option(metavar="TIME", help="When it became known, if not now.")]

# Below this a version is its place in the history (1 is the oldest): real ones count nanoseconds since 1970.
_PLACES = 1_000_000


def register(app: typer.Typer) -> None:
    for function in (add, list_, get, history, update, delete, revert):
        command(app, panel=MEMORY)(function)


async def add(
    asked: Asked,
    text: Annotated[str, typer.Argument(help="What to remember; - reads one memory a line from stdin.")],
    *,
    type_: Type = None,
    importance: Importance = None,
    metadata: Metadata = None,
    valid_from: ValidFrom = None,
    valid_to: ValidTo = None,
    known_at: KnownAt = None,
    origin: Origin = "cli",
) -> None:
    """Remember something."""
    from neuromem.types import MemoryType, NewMemory

    common: dict[str, Any] = {
        "memory_type": MemoryType.GENERAL if type_ is None else type_,
        "metadata": read_object(metadata, "--metadata"),
        "importance": importance,
        "valid_from": optional_moment(valid_from, "--valid-from"),
        "valid_to": optional_moment(valid_to, "--valid-to"),
        "known_at": optional_moment(known_at, "--known-at"),
    }
    new = [NewMemory(line, **common) for line in read_texts(text)]
    async with asked.open() as nm:
        added = await nm.add_memories(asked.user, new, origin=origin)
    if asked.as_json:
        return asked.print_json({"memories": [memory.to_dict() for memory in added]})
    for memory in added:
        asked.say(f"remembered {_brief(memory)}")


async def list_(
    asked: Asked,
    *,
    limit: Limit = 50,
    cursor: Annotated[str | None, typer.Option(help="Where to go on, as the listing before said.")] = None,
    where: Where = None,
    types: Types = None,
    as_of: AsOf = None,
) -> None:
    """List memories, the last written first."""
    known, chosen = optional_moment(as_of, "--as-of"), read_filter(where)
    async with asked.open() as nm:
        page = await view_of(nm, known).list_memories(
            asked.user, cursor=cursor, limit=limit, where=chosen, memory_types=types
        )
    if asked.as_json:
        return asked.print_json({"as_of": known, **page.to_dict()})
    from neuromem.cli import render

    asked.as_of_line(known)
    if not page.items:
        asked.say(f"no memories{asked.whose}")
    now = known or datetime.now(UTC)
    asked.draw(render.memory_table(page.items, now))
    if page.cursor:
        asked.say(f"more: neuromem list --cursor {page.cursor}{asked.options()}")


async def get(asked: Asked, memory_id: MemoryId, *, as_of: AsOf = None) -> None:
    """Show one memory whole."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        reader = view_of(nm, known)
        key = await reader.find_memory_id(asked.user, memory_id)
        memory = await reader.get_memory(asked.user, key)
    if memory is None:
        raise NotFoundError(
            f"memory {key} is not known {'then' if known else 'any more'}; "
            f"its past: neuromem history {key}{asked.options()}"
        )
    if asked.as_json:
        return asked.print_json({"as_of": known, **memory.to_dict()})
    from neuromem.cli import render

    asked.as_of_line(known)
    asked.draw(render.memory_details(memory))


async def history(asked: Asked, memory_id: MemoryId, *, as_of: AsOf = None) -> None:
    """List all versions of a memory, the newest first."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        reader = view_of(nm, known)
        versions = await reader.history(asked.user, await reader.find_memory_id(asked.user, memory_id))
    if asked.as_json:
        return asked.print_json({"as_of": known, "versions": [version.to_dict() for version in versions]})
    from neuromem.cli import render

    asked.as_of_line(known)
    asked.say(f"memory {versions[0].memory_id}")
    asked.draw(render.version_table(versions))


async def update(
    asked: Asked,
    memory_id: MemoryId,
    text: Annotated[str | None, typer.Argument(help="The new words.")] = None,
    *,
    type_: Type = None,
    importance: Importance = None,
    metadata: Metadata = None,
    valid_from: ValidFrom = None,
    valid_to: ValidTo = None,
    origin: Origin = "cli",
) -> None:
    """Change a memory. The earlier version stays in its history."""
    given = {
        "content": text,
        "memory_type": type_,
        "importance": importance,
        "metadata": read_object(metadata, "--metadata"),
        "valid_from": optional_moment(valid_from, "--valid-from"),
        "valid_to": optional_moment(valid_to, "--valid-to"),
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise InvalidInputError("nothing to update; pass new words, or an option such as --valid-to")
    async with asked.open() as nm:
        key = await nm.find_memory_id(asked.user, memory_id)
        memory = await nm.update_memory(asked.user, key, **changes, origin=origin)
    asked.show(memory.to_dict(), f"now {_brief(memory)}")


async def delete(asked: Asked, memory_id: MemoryId, *, origin: Origin = "cli") -> None:
    """Forget a memory from now on. Earlier moments still know it, and revert brings it back."""
    async with asked.open() as nm:
        key = await nm.find_memory_id(asked.user, memory_id)
        versions = await nm.history(asked.user, key)
        await nm.delete_memory(asked.user, key, origin=origin)
    back = f"neuromem revert {key} {len(versions)}{asked.options()}"
    asked.show(
        {"memory_id": key, "deleted": True, "revert": back}, f"forgotten {_brief(versions[0])}\nbring it back: {back}"
    )


async def revert(
    asked: Asked,
    memory_id: MemoryId,
    version: Annotated[int, typer.Argument(help="Its number in the history: 1 is the oldest.")],
    *,
    origin: Origin = "cli",
) -> None:
    """Make a memory what it was in an earlier version, also one that was forgotten."""
    async with asked.open() as nm:
        key = await nm.find_memory_id(asked.user, memory_id)
        if 0 < version < _PLACES:
            versions = await nm.history(asked.user, key)
            if version > len(versions):
                raise NotFoundError(f"memory {key} has {len(versions)} versions, none is number {version}")
            version = versions[-version].version
        memory = await nm.revert(asked.user, key, version, origin=origin)
    asked.show(memory.to_dict(), f"now {_brief(memory)}")


def _brief(memory: "Memory") -> str:
    from neuromem.cli import render

    until = f" (until {local(memory.valid_to)})" if memory.valid_to else ""
    return f"{render.short(memory.memory_id)}  {render.one_line(memory.content)}{until}"
