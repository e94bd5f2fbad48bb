"""`neuromem graph`: things, and how they relate."""

from typing import Annotated

import typer

from memground.errors import InvalidInputError, NotFoundError
from neuromem.cli.shared import MEMORY, Asked, AsOf, Limit, Origin, ValidAt, command, view_of
from neuromem.cli.times import optional_moment

Name = Annotated[str, typer.Argument(help="What it is called, by any of its names.")]
OfType = Annotated[str | None, typer.Option("--type", "-t", metavar="TYPE", help="Which of those that are called so.")]


def register(app: typer.Typer) -> None:
    graph = typer.Typer(help="Things and how they relate.")
    for function in (relate, neighbors, path, facts, list_):
        command(graph)(function)
    app.add_typer(graph, name="graph", rich_help_panel=MEMORY)


async def relate(
    asked: Asked,
    subject: Annotated[str, typer.Argument(help="Who or what.")],
    relation: Annotated[str, typer.Argument(help="Such as 'lives in'.")],
    object_: Annotated[str, typer.Argument(metavar="OBJECT", help="Whom or what.")],
    *,
    subject_type: Annotated[str, typer.Option(help="What kind of thing the subject is.")] = "entity",
    object_type: Annotated[str, typer.Option(help="What kind of thing the object is.")] = "entity",
    valid_from: Annotated[str | None, typer.Option(metavar="TIME", help="Since when it is true.")] = None,
    valid_to: Annotated[str | None, typer.Option(metavar="TIME", help="Until when it is true.")] = None,
    origin: Origin = "cli",
) -> None:
    """Note how two things relate. Where only one can hold at a time (lives in, works at), the one before ends."""
    from neuromem import Triple

    start, end = optional_moment(valid_from, "--valid-from"), optional_moment(valid_to, "--valid-to")
    said = Triple(subject, relation, object_, subject_type, object_type, valid_from=start, valid_to=end)
    async with asked.open() as nm:
        told = await nm.apply_extraction(asked.user, triples=[said], origin=origin)
    if told.dropped:
        raise InvalidInputError(f"not noted, because it tells of a person's {told.dropped[0].reason}")
    done = told.triples
    if asked.as_json:
        return asked.print_json(done.to_dict())
    from neuromem.cli import render

    groups = {"noted": done.stored, "ended": done.ended, "changed": done.changed, "known already": done.unchanged}
    for word, edges in groups.items():
        for edge in edges:
            asked.say(f"{word}: {render.state(edge)}")


async def neighbors(
    asked: Asked,
    name: Name,
    *,
    type_: OfType = None,
    relation: Annotated[
        list[str] | None, typer.Option("--relation", "-r", help="Only along this relation; may be repeated.")
    ] = None,
    limit: Limit = 50,
    as_of: AsOf = None,
    valid_at: ValidAt = None,
) -> None:
    """Show what a thing is related to, the last noted first."""
    known, valid = optional_moment(as_of, "--as-of"), optional_moment(valid_at, "--valid-at")
    async with asked.open() as nm:
        graph = view_of(nm, known).graph
        nodes = [node for node in await graph.find_nodes(asked.user, name) if type_ in (None, node.node_type)]
        if not nodes:
            raise NotFoundError(f"nothing goes by {name!r} in the graph{asked.whose}; see: neuromem graph list")
        found = await graph.get_neighbors(asked.user, type_, name, edge_types=relation, valid_at=valid, limit=limit)
    if asked.as_json:
        return asked.print_json({"as_of": known, "valid_at": valid, "neighbors": [item.to_dict() for item in found]})
    from rich.tree import Tree

    from neuromem.cli import render

    asked.as_of_line(known)
    tree = Tree(render.thing(nodes[0].name, nodes[0].node_type))
    for item in found:
        tree.add(render.relation(item.edge, item.name, item.node_type, item.direction == "out", known))
    asked.draw(tree)


async def path(
    asked: Asked,
    source: Annotated[str, typer.Argument(metavar="FROM", help="Where the way begins, by any name.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Where it ends.")],
    *,
    depth: Annotated[int, typer.Option(help="Of at most so many steps.")] = 4,
    as_of: AsOf = None,
    valid_at: ValidAt = None,
) -> None:
    """Show a shortest way between two things."""
    known, valid = optional_moment(as_of, "--as-of"), optional_moment(valid_at, "--valid-at")
    async with asked.open() as nm:
        found = await view_of(nm, known).graph.find_path(asked.user, None, source, None, target, depth, valid_at=valid)
    if asked.as_json:
        return asked.print_json({"as_of": known, "valid_at": valid, **found.to_dict()})
    from rich.tree import Tree

    from neuromem.cli import render

    asked.as_of_line(known)
    if not found:
        asked.say(f"no way from {source} to {target} in {render.counted(depth, 'step')}")
    else:
        tree = branch = Tree(render.thing(found.nodes[0][1], found.nodes[0][0]))
        for (kind, name), edge, before in zip(found.nodes[1:], found.edges, found.nodes, strict=False):
            out = (edge.source_type, edge.source_id) == before
            branch = branch.add(render.relation(edge, name, kind, out, known))
        asked.draw(tree)
    if not found.complete:
        asked.say("so much lies within reach that some was left out; there may be a shorter way")


async def facts(
    asked: Asked,
    text: Annotated[str, typer.Argument(help="A question, or names.")],
    *,
    limit: Limit = 20,
    as_of: AsOf = None,
    valid_at: ValidAt = None,
) -> None:
    """Show what the graph says about the things a text names."""
    known, valid = optional_moment(as_of, "--as-of"), optional_moment(valid_at, "--valid-at")
    async with asked.open() as nm:
        found = await view_of(nm, known).graph.find_entity_facts(asked.user, text, valid_at=valid, limit=limit)
    if asked.as_json:
        return asked.print_json({"as_of": known, "valid_at": valid, "facts": [fact.to_dict() for fact in found]})
    from rich.text import Text
    from rich.tree import Tree

    from neuromem.cli import render

    asked.as_of_line(known)
    if not found:
        asked.say(f"nothing is known about what that names{asked.whose}")
    trees: dict[tuple[str, str], Tree] = {}
    for fact in found:
        tree = trees.setdefault(
            (fact.subject_type, fact.subject_id), Tree(render.thing(fact.subject, fact.subject_type))
        )
        until = f" (until {fact.valid_to.date()})" if fact.valid_to else ""
        said = render.one_line(f"{fact.relation.replace('_', ' ')} {fact.object}") + until
        tree.add(Text(said, style="strike dim" if fact.ended else ""))
    for tree in trees.values():
        asked.draw(tree)


async def list_(
    asked: Asked,
    *,
    type_: OfType = None,
    prefix: Annotated[str, typer.Option(help="Only what is called so at the beginning.")] = "",
    limit: Limit = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where the list before ended.")] = None,
    as_of: AsOf = None,
) -> None:
    """List the things the graph knows, by name."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        page = await view_of(nm, known).graph.list_nodes(
            asked.user, node_type=type_, prefix=prefix, cursor=cursor, limit=limit
        )
    if asked.as_json:
        return asked.print_json({"as_of": known, **page.to_dict()})
    from neuromem.cli import render

    asked.as_of_line(known)
    if not page.items:
        asked.say(f"nothing in the graph{asked.whose}")
    table = render.grid({"overflow": "fold"}, {"style": "dim", "no_wrap": True}, {"style": "dim", "overflow": "fold"})
    for node in page.items:
        table.add_row(render.one_line(node.name), node.node_type, render.one_line(", ".join(node.aliases)))
    asked.draw(table)
    if page.cursor:
        asked.say(f"more: neuromem graph list --cursor {page.cursor}{asked.options()}")
