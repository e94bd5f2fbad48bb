"""Nodes, edges, neighbours and paths: by name, through time, through hubs."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from benchmarks.measuring import counted
from sqlalchemy import text

from memground.clock import ManualClock
from neuromem import NeuroMemory, NotFoundError, Triple
from neuromem.queries import graph as queries
from neuromem.services.graph_memory import GraphMemoryService
from support.embeddings import HashEmbedding
from support.sound import check_sound

START = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(scope="module")
async def mind(database_url: str, clock: ManualClock) -> AsyncIterator[NeuroMemory]:
    async with NeuroMemory(database_url, HashEmbedding(), schema="graph", background=False, clock=clock) as mind:
        yield mind
        await check_sound(mind)


def tick(clock: ManualClock) -> datetime:
    """The moment that has been; a minute later it is."""
    now = clock.now()
    clock.advance(timedelta(minutes=1))
    return now


async def link(mind: NeuroMemory, user: str, *pairs: str, origin: str = "agent") -> None:
    """Edges between things, each written as two letters."""
    said = [Triple(pair[0], "leads to", pair[1], "thing", "thing") for pair in pairs]
    async with mind._db.session() as session:
        await GraphMemoryService(session).store_triples(user, said, stamp=session.stamp(origin))


async def way(mind: NeuroMemory, user: str, ends: str, max_depth: int = 4) -> str:
    found = await mind.graph.find_path(user, "thing", ends[0], "thing", ends[1], max_depth)
    return "".join(name for _, name in found.nodes)


@pytest.mark.seed("4.5", "graph_nodes: id and user_id", "graph_edges: id and user_id")
@pytest.mark.seed("4.5", "graph_nodes: node_type and node_id", "graph_edges: source_type and source_id")
@pytest.mark.seed("4.5", "graph_edges: edge_type", "graph_edges: target_type and target_id")
@pytest.mark.seed("4.5", "graph_nodes: properties", "graph_edges: properties")
@pytest.mark.seed("4.5", "graph_nodes: created_at and updated_at", "graph_edges: created_at and updated_at")
async def test_nodes_and_edges_are_rows_of_two_tables(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    now = clock.now()
    await mind.graph.create_node(user, "person", "Anna", {"age": 29})
    await mind.graph.create_edge(user, "person", "Anna", "lives_in", "place", "Porto", {"since": 2019})
    times = "created_at, updated_at"
    async with mind._db.read() as session:
        nodes = await session.execute(
            text(f"SELECT id, node_type, node_id, properties, {times} FROM graph.graph_nodes WHERE user_id = :user"),
            {"user": user},
        )
        edges = await session.execute(
            text(
                "SELECT id, source_type, source_id, edge_type, target_type, target_id, properties, "
                f"{times} FROM graph.graph_edges WHERE user_id = :user"
            ),
            {"user": user},
        )
    (anna, porto), (edge,) = sorted(map(tuple, nodes), key=lambda row: row[2]), map(tuple, edges)
    assert anna[1:] == ("person", "anna", {"name": "Anna", "age": 29}, now, now)
    assert porto[1:] == ("place", "porto", {"name": "Porto"}, now, now)
    assert edge[1:] == ("person", "anna", "lives_in", "place", "porto", {"since": 2019}, now, now)
    assert len({anna[0], porto[0], edge[0]}) == 3


@pytest.mark.seed("4.5", "the graph is walked by SQL over these tables, without Apache AGE or Cypher")
async def test_the_graph_is_walked_by_sql_alone(mind: NeuroMemory, user: str) -> None:
    await link(mind, user, "ab", "bc", "cd")
    async with counted(mind) as sent:
        assert await way(mind, user, "ad") == "abcd"
    walks = [statement for statement, _ in sent.sent if "graph_edges" in statement]
    assert len(walks) == 1, "one statement, however long the way"
    assert "WITH RECURSIVE" in walks[0]
    async with mind._db.read() as session:
        extensions = set((await session.execute(text("SELECT extname FROM pg_extension"))).scalars())
    assert "age" not in extensions
    assert "cypher" not in walks[0].lower()


async def test_a_node_from_create_to_delete(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    made = await mind.graph.create_node(user, "Person", "Anna Smith", {"age": 29, "aliases": ["Annie", "A. Smith"]})
    assert (made.node_type, made.node_id, made.name) == ("person", "anna smith", "Anna Smith")
    assert made.aliases == ("a. smith", "annie")
    first = tick(clock)
    for name in ("ANNA_SMITH", "anna-smith", "Ａｎｎａ  Ｓｍｉｔｈ", "annie", "A. Smith"):
        assert await mind.graph.get_node(user, "person", name) == made, name
    assert await mind.graph.get_node(user, "place", "annie") is None

    changed = await mind.graph.update_node(user, "person", "Annie", {"age": 30, "city": "Porto"})
    assert changed.properties == {"name": "Anna Smith", "aliases": ["a. smith", "annie"], "age": 30, "city": "Porto"}
    assert (await mind.graph.create_node(user, "person", "annie", {"age": 30})) == changed
    second = tick(clock)
    gone = await mind.graph.update_node(user, "person", "Annie", {"city": None, "aliases": None})
    assert gone.properties == {"name": "Anna Smith", "age": 30}
    assert await mind.graph.get_node(user, "person", "Annie") is None
    assert (await mind.as_of(second).graph.find_nodes(user, "Annie"))[0].properties == changed.properties
    tick(clock)

    await mind.graph.delete_node(user, "person", "anna smith")
    assert await mind.graph.get_node(user, "person", "anna smith") is None
    with pytest.raises(NotFoundError, match="anna smith"):
        await mind.graph.update_node(user, "person", "anna smith", {})
    then = await mind.as_of(first).graph.get_node(user, "person", "annie")
    assert then is not None
    assert then.properties["age"] == 29
    tick(clock)
    again = await mind.graph.create_node(user, "person", "Anna Smith")
    assert again.version > gone.version
    versions = await mind.graph.node_history(user, "person", "Anna Smith")
    assert [version.properties.get("age") for version in versions] == [None, 30, 30, 29]


async def test_an_edge_from_create_to_delete(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    await mind.graph.create_node(user, "person", "Anna", {"aliases": ["Annie"]})
    edge = await mind.graph.create_edge(user, "person", "Annie", "livesIn", "place", "New_York", {"since": 2019})
    assert (edge.source_id, edge.edge_type, edge.target_id) == ("anna", "lives_in", "new york")
    assert await mind.graph.create_edge(user, "person", "anna", "lives_in", "place", "new york") == edge
    first = tick(clock)
    ended = await mind.graph.update_edge(user, edge.edge_id, {"sure": True}, valid_to=START)
    assert ended.properties == {"since": 2019, "sure": True}
    assert ended.valid_to == START
    tick(clock)

    def seen(found: list) -> list[tuple[str, str, str]]:  # type: ignore[type-arg]
        return [(n.direction, n.node_id, n.name) for n in found]

    at = mind.graph.get_neighbors
    assert seen(await at(user, "place", "new york")) == [("in", "anna", "Anna")]
    assert seen(await at(user, None, "annie", direction="out")) == [("out", "new york", "New_York")]
    assert seen(await at(user, None, "annie", direction="in")) == []
    assert seen(await at(user, "person", "annie", edge_types=["knows", "Lives In"])) != []
    assert seen(await at(user, "person", "annie", edge_types=["knows"])) == []
    assert seen(await at(user, "person", "annie", valid_at=START)) == []
    assert seen(await at(user, "person", "annie", valid_at=START - timedelta(days=1))) != []
    past = mind.as_of(first).graph
    assert seen(await past.get_neighbors(user, "person", "annie", valid_at=START)) != []

    assert await mind.graph.delete_edge(user, "person", "Annie", "lives_in", "place", "New York") == 1
    assert await at(user, "place", "new york") == []
    with pytest.raises(NotFoundError, match="lives_in"):
        await mind.graph.delete_edge(user, "person", "Annie", "lives_in", "place", "New York")
    assert [version.valid_to for version in await mind.graph.edge_history(user, edge.edge_id)] == [START, None]
    assert [version.known_to for version in await past.edge_history(user, edge.edge_id)] == [None]


async def test_deleting_a_node_ends_its_edges_and_undo_brings_all_back(
    mind: NeuroMemory, clock: ManualClock, user: str
) -> None:
    await link(mind, user, "ab", "bc", "ca")
    tick(clock)
    await mind.graph.delete_node(user, "thing", "b", origin="slip")
    assert (await mind.stats(user)).graph_edges == 1
    tick(clock)
    done = await mind.undo(user, origin="slip")
    assert done.restored == {"graph_node": 1, "graph_edge": 2}
    assert await way(mind, user, "ac") == "ac"
    assert (await mind.stats(user)).graph_edges == 3


async def test_rollback_and_diff_speak_of_the_graph(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    await link(mind, user, "ab")
    there = tick(clock)
    await link(mind, user, "bc")
    await mind.graph.update_node(user, "thing", "a", {"colour": "red"})
    await mind.graph.delete_edge(user, "thing", "a", "leads_to", "thing", "b")
    now = clock.now()
    found = await mind.diff(user, there, now)
    assert {(c.kind, c.after.to_dict().get("node_id", c.after.to_dict().get("target_id"))) for c in found.learned} == {  # type: ignore[union-attr]
        ("graph_node", "c"),
        ("graph_edge", "c"),
    }
    assert [(c.kind, c.after.properties) for c in found.changed] == [("graph_node", {"name": "a", "colour": "red"})]  # type: ignore[union-attr]
    assert [c.kind for c in found.forgotten] == ["graph_edge"]
    tick(clock)
    done = await mind.rollback(user, there)
    assert await way(mind, user, "ab") == "ab"
    assert await way(mind, user, "bc") == ""
    tick(clock)
    await mind.undo(user, origin=done.origin)
    assert await way(mind, user, "bc") == "bc"


async def test_two_users_have_nothing_to_do_with_each_other(mind: NeuroMemory, user: str) -> None:
    other = f"{user}-other"
    await link(mind, user, "ab")
    await link(mind, other, "bc")
    await mind.graph.create_node(other, "thing", "z", {"aliases": ["a"]})
    assert await way(mind, user, "ac") == await way(mind, other, "ab") == ""
    assert [n.node_id for n in await mind.graph.get_neighbors(user, "thing", "b")] == ["a"]
    assert [n.node_id for n in await mind.graph.find_nodes(user, "a")] == ["a"]
    assert [f.content for f in await mind.graph.find_entity_facts(user, "what of b, a and z?")] == ["a leads to b"]


HOSTILE = [
    "'; DROP TABLE graph_nodes; --", "%", "_%_", "a/b", "/", "\\", "{}", '{"a": 1}', "$1", "\U0001f600", "\u202etxt",
    "ﷺ", "NULL", "a" * 255, "new\nline", "İstanbul", "ǅ", "🏳️‍🌈",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_names_are_names(mind: NeuroMemory, user: str, name: str) -> None:
    node = await mind.graph.create_node(user, "thing", name, {"aliases": [f"x{name[:200]}"]})
    await mind.graph.create_edge(user, "thing", name, "leads to", "thing", "b")
    await mind.graph.create_edge(user, "thing", "b", "leads to", "thing", f"{name[:200]} 2")
    assert await mind.graph.get_node(user, "thing", name) == node
    assert await mind.graph.get_node(user, "thing", f"x{name[:200]}") == node
    assert await mind.graph.get_node(user, "thing", node.node_id) == node
    found = await mind.graph.find_path(user, "thing", name, None, f"{name[:200]} 2")
    assert [edge.target_id for edge in found.edges][:1] == ["b"]
    assert (await mind.graph.list_nodes(user, prefix=name)).items


async def test_nodes_are_listed_page_by_page(mind: NeuroMemory, user: str) -> None:
    for name in ("b", "a", "c", "ab"):
        await mind.graph.create_node(user, "thing", name)
    await mind.graph.create_node(user, "person", "a")
    seen: list[tuple[str, str]] = []
    cursor = None
    while True:
        page = await mind.graph.list_nodes(user, cursor=cursor, limit=2)
        seen += [(node.node_id, node.node_type) for node in page.items]
        if (cursor := page.cursor) is None:
            break
    assert seen == [("a", "person"), ("a", "thing"), ("ab", "thing"), ("b", "thing"), ("c", "thing")]
    assert [n.node_id for n in (await mind.graph.list_nodes(user, node_type="Thing", prefix="A")).items] == ["a", "ab"]


async def test_a_path_is_a_shortest_one_whichever_way_edges_point(mind: NeuroMemory, user: str) -> None:
    await link(mind, user, "ab", "bc", "cd", "de", "ef", "ae", "xy")
    assert await way(mind, user, "ac") == "abc"
    assert await way(mind, user, "ca") == "cba"
    assert await way(mind, user, "ad") == "aed"
    assert await way(mind, user, "bf") == "baef"
    assert await way(mind, user, "bf", 2) == ""
    assert await way(mind, user, "aa") == "a"
    assert await way(mind, user, "ax") == await way(mind, user, "a?") == await way(mind, user, "??") == ""
    found = await mind.graph.find_path(user, "thing", "b", "thing", "f")
    assert [(edge.source_id, edge.target_id) for edge in found.edges] == [("a", "b"), ("a", "e"), ("e", "f")]
    assert found.complete


async def test_cycles_and_loops_end(mind: NeuroMemory, user: str) -> None:
    letters = "abcdefgh"
    await link(mind, user, "aa", *(x + y for x in letters for y in letters), "hi")
    assert await way(mind, user, "ai", 10) == "ahi"
    assert await way(mind, user, "az", 10) == ""
    beside_a = await mind.graph.get_neighbors(user, "thing", "a", limit=1_000)
    assert len(beside_a) == len({item.edge.edge_id for item in beside_a}) == 15  # a loop is one edge
    for direction in ("out", "in"):
        found = await mind.graph.get_neighbors(user, "thing", "a", direction=direction, limit=1_000)
        assert [item.node_id for item in found].count("a") == 1


async def test_a_path_is_as_of_a_moment_and_of_what_was_true(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    await link(mind, user, "ab", "bz")
    first = tick(clock)
    await link(mind, user, "az")
    second = tick(clock)
    edge = (await mind.graph.get_neighbors(user, "thing", "a", direction="out", limit=1))[0].edge
    await mind.graph.update_edge(user, edge.edge_id, valid_to=second)
    for view, valid_at, expected in (
        (mind.graph, None, "az"),
        (mind.graph, clock.now(), "abz"),
        (mind.graph, second - timedelta(seconds=1), "az"),
        (mind.as_of(second).graph, clock.now(), "az"),
        (mind.as_of(first).graph, None, "abz"),
        (mind.as_of(START - timedelta(days=1)).graph, None, ""),
    ):
        found = await view.find_path(user, "thing", "a", "thing", "z", valid_at=valid_at)
        assert "".join(name for _, name in found.nodes) == expected


async def test_among_equally_short_ways_one_that_still_holds_is_taken(mind: NeuroMemory, user: str) -> None:
    await link(mind, user, "ab", "bz")
    ended = await mind.graph.create_edge(user, "thing", "a", "led_to", "thing", "b", valid_to=START)
    found = await mind.graph.find_path(user, "thing", "a", "thing", "b")
    assert found.edges[0].edge_id != ended.edge_id


@pytest.fixture(scope="module")
async def hub(mind: NeuroMemory) -> str:
    """A user in whose graph 10,000 things hang on one, some of them on others."""
    user = "hub-owner"
    said = [Triple(f"leaf {n}", "hangs on", "the hub", "thing", "thing") for n in range(10_000)]
    said += [Triple(f"leaf {n}", "leads to", f"end {n}", "thing", "thing") for n in range(0, 10_000, 10)]
    said += [Triple("the hub", "lives in", "Porto", "thing", "place"), Triple("far", "leads to", "off")]
    async with mind._db.session() as session:
        stored = await GraphMemoryService(session).store_triples(user, said, stamp=session.stamp("agent"))
    assert len(stored.stored) == 11_002
    return user


async def test_a_hub_of_ten_thousand_edges_is_walked_through(mind: NeuroMemory, hub: str) -> None:
    found = await mind.graph.find_path(hub, "thing", "end 10", "thing", "end 9990")
    assert [name for _, name in found.nodes] == ["end 10", "leaf 10", "the hub", "leaf 9990", "end 9990"]
    assert found.complete
    assert not await mind.graph.find_path(hub, "thing", "end 10", None, "off", 10)
    assert len(await mind.graph.get_neighbors(hub, "thing", "the hub", limit=7)) == 7
    facts = await mind.graph.find_entity_facts(hub, "is leaf 77 on the hub in Porto?", limit=5)
    assert {fact.content for fact in facts if fact.named == 2} == {"leaf 77 hangs on the hub", "the hub lives in Porto"}
    assert len(facts) == 5


async def test_a_search_that_is_cut_off_says_so(mind: NeuroMemory, hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MOST_STEPPED", 500)
    built = getattr(queries.path, "__wrapped__")  # noqa: B009 - the statement as it is built, not the one that is kept
    monkeypatch.setattr(queries, "path", built)
    assert not (await mind.graph.find_path(hub, "thing", "the hub", None, "far", 3)).complete
    found = await mind.graph.find_path(hub, "thing", "the hub", "place", "Porto")
    assert found or not found.complete
