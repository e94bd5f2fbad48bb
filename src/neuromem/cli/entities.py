"""`neuromem entity`: all that is known about one thing."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from neuromem.cli.shared import MEMORY, Asked, AsOf, Limit, ValidAt, command, view_of
from neuromem.cli.times import optional_moment

if TYPE_CHECKING:
    from rich.text import Text

    from neuromem.types import EntityProfile, GraphFact, Memory, Message


def register(app: typer.Typer) -> None:
    command(app, panel=MEMORY)(entity)


async def entity(
    asked: Asked,
    name: Annotated[str, typer.Argument(help="What it is called, by any of its names.")],
    *,
    limit: Limit = 10,
    as_of: AsOf = None,
    valid_at: ValidAt = None,
) -> None:
    """Show all that is known about somebody or something: relations, memories and turns that name it."""
    known, valid = optional_moment(as_of, "--as-of"), optional_moment(valid_at, "--valid-at")
    async with asked.open() as nm:
        found = await view_of(nm, known).entity_profile(asked.user, name, valid_at=valid, limit=limit)
    if asked.as_json:
        return asked.print_json({"as_of": known, "valid_at": valid, **found.to_dict()})
    asked.as_of_line(known)
    if not found:
        return asked.say(f"nothing is known about {name}{asked.whose}")
    _draw(asked, found, known or datetime.now(UTC))


def _draw(asked: Asked, found: "EntityProfile", now: datetime) -> None:
    from rich.text import Text
    from rich.tree import Tree

    from neuromem.cli import render

    first, last = found.first_mentioned, found.last_mentioned
    own = {node.node_id for node in found.nodes}
    others = [name for name in found.names if name not in own]
    times = [] if first is None or last is None else [f"mentioned {first.date()} to {last.date()}"]
    title = found.nodes[0].name if found.nodes else found.entity
    kinds = ", ".join(dict.fromkeys(node.node_type for node in found.nodes)) or "not in the graph"
    tree = Tree(render.thing(title, kinds))
    for text in ([f"also called {', '.join(others)}"] if others and found.nodes else []) + times:
        tree.add(Text(render.one_line(text), style="dim"))
    more = "" if found.complete else " or more"
    for what, count, shown in (
        ("relation", found.relation_count, found.relations),
        ("memory", found.memory_count, found.memories),
        ("turn", found.message_count, found.messages),
    ):
        if not count:
            continue
        many = {"memory": "memories"}.get(what, f"{what}s")
        of = f", the latest {len(shown)}" if len(shown) < count else ""
        branch = tree.add(Text(f"{render.counted(count, what, many)}{more}{of}", style="cyan"))
        for item in shown:
            branch.add(_line(item, now))
    asked.draw(tree)


def _line(item: "GraphFact | Memory | Message", now: datetime) -> "Text":
    """What it says; until when, where it has ended."""
    from rich.text import Text

    from neuromem.cli.render import one_line, state
    from neuromem.types import Message

    if isinstance(item, Message):
        return Text(state(item))
    ended = item.valid_to is not None and item.valid_to <= now
    until = f" (until {item.valid_to.date()})" if item.valid_to else ""
    return Text(one_line(item.content) + until, style="strike dim" if ended else "")
