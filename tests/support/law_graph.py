"""The graph's part of the as-of law: acts that write to it, and reads of it."""

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from neuromem import Fact, Triple
from neuromem.services.graph_memory import GraphMemoryService
from neuromem.types import Source

KINDS = (
    "node",
    "alias",
    "edge",
    "unnode",
    "unedge",
    "edge change",
    "relate",
    "relate",
    "relate past",
    "relate past",
    "move",
    "move",
)
THINGS = ("Porto", "tea", "rain", "Anna", "boat")
TYPES = ("thing", "place")
DAY = timedelta(days=1)


def _thing(number: int) -> tuple[str, str]:
    return TYPES[number // 5 % 2], THINGS[number % 5]


def _ends(act: Any) -> tuple[tuple[str, str], tuple[str, str]]:
    return _thing(act.pick), _thing(act.word)


async def node(life: Any, act: Any) -> Any:
    graph, (kind, name) = life.mind.graph, _thing(act.pick)
    if act.kind == "unnode":
        await graph.delete_node(life.user, kind, name, origin=act.origin)
    elif act.kind == "alias":
        aliases = [f"{name} {act.word % 2}"] if act.word % 3 else None
        await graph.update_node(life.user, kind, name, {"aliases": aliases}, origin=act.origin)
    else:
        await graph.create_node(life.user, kind, name, {"word": act.word % 3}, origin=act.origin)
    return act


async def edge(life: Any, act: Any) -> Any:
    graph, (source, target) = life.mind.graph, _ends(act)
    kind = ("likes", "lives_in")[act.word % 2]
    if act.kind == "unedge":
        await graph.delete_edge(life.user, *source, kind, *target, origin=act.origin)
        return act
    if act.kind == "edge":
        ends = act.past + DAY if act.pick % 3 == 0 else None
        await graph.create_edge(life.user, *source, kind, *target, valid_to=ends, origin=act.origin)
        return act
    beside = await graph.get_neighbors(life.user, *source, direction="out", limit=1)
    if not beside:
        return None
    changes = (
        {"valid_to": act.at},
        {"valid_from": act.past - DAY, "valid_to": None},
        {"properties": {"word": act.word % 3}},
    )
    await graph.update_edge(life.user, beside[0].edge.edge_id, **changes[act.word % 3], origin=act.origin)
    return act


async def relate(life: Any, act: Any) -> Any:
    """What an extraction writes. What became known in the past is of many values: of one, it ends nothing then."""
    (kind, name), (other_kind, other) = _ends(act)
    past = act.kind == "relate past"
    triples = [Triple(name, "likes", other, kind, other_kind)]
    if not past:
        since = act.past if act.word % 4 == 0 else None
        places = [THINGS[(act.word + step) % 5] for step in range(1 + act.pick % 2)]
        triples += [
            Triple(name, "lives in", place, kind, "place", confidence=act.word % 5 / 4, valid_from=since)
            for place in places
        ]
    sources = [] if act.target is None else [Source("message", life.id(act.target))]
    known = None if past and sources else act.known
    async with life.mind._db.session() as session:
        stamp = session.stamp(act.origin)
        service = GraphMemoryService(session)
        done = await service.store_triples(life.user, triples, sources=sources, known_from=known, stamp=stamp)
    if not (done.stored or done.ended or done.changed):
        return None
    return replace(act, known=max(edge.known_from for edge in (*done.stored, *done.ended, *done.changed)))


async def move(life: Any, act: Any) -> Any:
    """Told as a relation, and sometimes as a fact in its words, which ends when the relation does."""
    name, place = THINGS[act.pick % 2], THINGS[act.word % 4]
    fact = f"{name} lives in {place}"
    result = await life.mind.apply_extraction(
        life.user,
        facts=[Fact(fact)] if act.pick % 3 else [],
        triples=[Triple(name, "lives in", place)],
        origin=act.origin,
    )
    life.learned |= dict.fromkeys(result.added, f"told that {fact}")
    return act


ACTS: Mapping[str, Any] = {
    "node": node, "alias": node, "unnode": node, "edge": edge, "unedge": edge, "edge change": edge,
    "relate": relate, "relate past": relate, "move": move,
}  # fmt: skip


def reads(on: Any, user: str, moment: datetime, *, content_only: bool) -> dict[str, Awaitable[Any]]:
    """What the graph says, as results that are still to be awaited."""
    graph = on.graph

    async def listed() -> Any:
        return (await graph.list_nodes(user, limit=1_000)).items

    async def length(one: int, other: int) -> Any:
        # Of equally short ways any may be taken.
        found = await graph.find_path(user, None, THINGS[one], None, THINGS[other])
        return len(found.nodes), found.complete

    found = {
        "nodes": listed(),
        "facts": graph.find_entity_facts(user, "porto tea rain anna boat", limit=1_000),
        "facts about an alias": graph.find_entity_facts(user, "what of Tea 1 and Anna 0?", limit=1_000),
        "facts that hold": graph.find_entity_facts(user, "anna tea", valid_at=moment - DAY, limit=1_000),
        **{f"beside {name}": graph.get_neighbors(user, None, name, limit=1_000) for name in THINGS},
        "beside tea then": graph.get_neighbors(user, None, "tea", valid_at=moment - DAY, limit=1_000),
        **{f"way {one} {other}": length(one, other) for one in range(3) for other in range(one + 1, 5)},
    }
    if not content_only:
        found |= {f"history {k} {n}": graph.node_history(user, k, n) for k in TYPES for n in THINGS[:3]}
    return found
