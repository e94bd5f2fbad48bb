"""Triples become edges: what is known stays, what changes ends, and both can be asked as of any moment."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memground.clock import ManualClock
from neuromem import GraphRules, InvalidInputError, NeuroMemory, NotFoundError, Source, StoredTriples, Triple
from neuromem.services.background import BackgroundWorker
from neuromem.services.graph_memory import GraphMemoryService
from support.calls import state
from support.embeddings import HashEmbedding
from support.sound import check_sound

START = datetime(2025, 1, 1, tzinfo=UTC)
OSLO, PORTO, KYOTO = (Triple("Anna", "lives in", place, "person", "place") for place in ("Oslo", "Porto", "Kyoto"))


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(scope="module")
async def mind(database_url: str, clock: ManualClock) -> AsyncIterator[NeuroMemory]:
    async with NeuroMemory(database_url, HashEmbedding(), schema="triples", background=False, clock=clock) as mind:
        yield mind
        while await BackgroundWorker(mind._db, HashEmbedding()).work_once():
            pass
        await check_sound(mind)


@pytest.fixture(autouse=True)
def later(clock: ManualClock) -> None:
    clock.advance(timedelta(days=1))


async def store(mind: NeuroMemory, user: str, *triples: Triple, **options: Any) -> StoredTriples:
    rules = options.pop("rules", None)
    async with mind._db.session() as session:
        stamp = session.stamp(options.pop("origin", "extraction"))
        return await GraphMemoryService(session, rules).store_triples(user, triples, stamp=stamp, **options)


async def told(on: Any, user: str, query: str = "Anna", **options: Any) -> list[str]:
    """The facts in words; ended ones in brackets."""
    found = await on.graph.find_entity_facts(user, query, **options)
    return [f"({fact.content})" if fact.ended else fact.content for fact in found]


def counts(done: StoredTriples) -> tuple[int, int, int, int]:
    return len(done.stored), len(done.ended), len(done.changed), len(done.unchanged)


def at(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)


async def test_restating_changes_nothing_however_it_is_written(
    mind: NeuroMemory, clock: ManualClock, user: str
) -> None:
    sure = Triple("Anna", "has hobby", "Chess", confidence=0.6)
    assert counts(await store(mind, user, OSLO, sure)) == (2, 0, 0, 0)
    before = await state(mind)
    clock.advance(timedelta(hours=1))
    again = [
        Triple("ANNA", "livesIn", "oslo", "user", "city"),
        Triple("anna ", "has-hobby", "ＣＨＥＳＳ", confidence=0.5),
    ]
    assert counts(await store(mind, user, *again)) == (0, 0, 0, 2)
    assert await state(mind) == before
    surer = await store(mind, user, Triple("Anna", "has hobby", "chess", confidence=0.9))
    assert counts(surer) == (0, 0, 1, 0)
    assert surer.changed[0].properties == {"confidence": 0.9}
    assert counts(await store(mind, user, OSLO, OSLO, KYOTO, KYOTO)) == (1, 1, 0, 0)


@pytest.mark.seed("6", "GraphMemoryService detects contradictions")
async def test_a_single_valued_relation_that_changes_ends_the_old_edge(
    mind: NeuroMemory, clock: ManualClock, user: str
) -> None:
    await store(mind, user, OSLO)
    first = clock.now()
    clock.advance(timedelta(days=30))
    done = await store(mind, user, PORTO)
    assert counts(done) == (1, 1, 0, 0)
    moved = clock.now()
    assert (done.ended[0].target_id, done.ended[0].valid_to) == ("oslo", moved)
    assert (done.stored[0].target_id, done.stored[0].valid_from, done.stored[0].valid_to) == ("porto", moved, None)
    clock.advance(timedelta(days=1))
    assert await told(mind, user) == ["Anna lives in Porto", "(Anna lives in Oslo)"]
    assert await told(mind, user, valid_at=first) == ["Anna lives in Oslo"]
    assert await told(mind, user, valid_at=moved) == ["Anna lives in Porto"]
    assert await told(mind.as_of(first), user) == ["Anna lives in Oslo"]
    assert await told(mind.as_of(moved - timedelta(microseconds=1)), user, valid_at=moved) == ["Anna lives in Oslo"]


async def test_an_end_is_the_beginning_of_what_follows(mind: NeuroMemory, user: str) -> None:
    await store(mind, user, OSLO)
    done = await store(mind, user, Triple("Anna", "lives in", "Porto", valid_from=at(2024)))
    assert done.stored[0].valid_to is not None  # told of 2024, before Oslo was known to hold: it is what came before
    done = await store(mind, user, Triple("Anna", "lives in", "Kyoto", valid_from=at(2026)))
    assert done.ended[0].target_id == "oslo"
    assert done.ended[0].valid_to == done.stored[0].valid_from == at(2026)


async def test_there_and_back_ends_where_it_began(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    for place in (OSLO, PORTO, OSLO):
        await store(mind, user, place)
        clock.advance(timedelta(days=1))
    assert await told(mind, user) == ["Anna lives in Oslo", "(Anna lives in Porto)", "(Anna lives in Oslo)"]
    edges = [n.edge for n in await mind.graph.get_neighbors(user, "person", "Anna", valid_at=clock.now())]
    assert [edge.target_id for edge in edges] == ["oslo"]
    assert len(await mind.graph.edge_history(user, edges[0].edge_id)) == 1


async def test_there_and_back_within_one_message(mind: NeuroMemory, user: str) -> None:
    done = await store(mind, user, OSLO, PORTO, OSLO)
    assert await told(mind, user, valid_at=done.stored[-1].known_from) == ["Anna lives in Oslo"]


async def test_a_multi_valued_relation_keeps_all(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    await store(mind, user, Triple("Anna", "friend", "Ben"), Triple("Anna", "friend", "Cleo"))
    clock.advance(timedelta(minutes=1))
    done = await store(mind, user, Triple("Anna", "friend", "Dora"), Triple("Anna", "friend", "Ben"))
    assert counts(done) == (1, 0, 0, 1)
    assert await told(mind, user) == ["Anna friend Dora", "Anna friend Ben", "Anna friend Cleo"]


async def test_which_relations_are_single_valued_can_be_set(mind: NeuroMemory, user: str) -> None:
    rules = GraphRules(frozenset({"favourite colour"}))
    await store(mind, user, Triple("Anna", "favourite colour", "red"), OSLO, rules=rules)
    done = await store(mind, user, Triple("Anna", "favouriteColour", "blue"), PORTO, rules=rules)
    assert [edge.target_id for edge in done.ended] == ["red"]


async def test_the_past_is_told_without_ending_the_present(mind: NeuroMemory, user: str) -> None:
    await store(mind, user, OSLO)
    was = Triple("Anna", "lives in", "Kyoto", valid_from=at(2010), valid_to=at(2012))
    assert counts(await store(mind, user, was)) == (1, 0, 0, 0)
    assert counts(await store(mind, user, was)) == (0, 0, 0, 1)
    assert await told(mind, user) == ["Anna lives in Oslo", "(Anna lives in Kyoto)"]
    assert await told(mind, user, "Kyoto", valid_at=at(2011)) == ["Anna lives in Kyoto"]


async def test_a_told_end_ends_an_edge(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    await store(mind, user, Triple("Anna", "owns", "a boat"))
    done = await store(mind, user, Triple("Anna", "owns", "A boat", valid_to=clock.now() - timedelta(hours=1)))
    assert counts(done) == (0, 1, 0, 0)
    assert await told(mind, user) == ["(Anna owns a boat)"]


async def test_what_is_to_come_ends_the_present_when_it_comes(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    await store(mind, user, OSLO)
    june = clock.now() + timedelta(days=100)
    await store(mind, user, Triple("Anna", "lives in", "Porto", valid_from=june))
    assert await told(mind, user, valid_at=clock.now()) == ["Anna lives in Oslo"]
    assert await told(mind, user, valid_at=june) == ["Anna lives in Porto"]
    assert counts(await store(mind, user, OSLO)) == (0, 0, 0, 1)


async def test_two_of_the_same_moment_are_a_correction(mind: NeuroMemory, user: str) -> None:
    since = at(2020)
    wrong = Triple("Anna", "lives in", "Oslo", valid_from=since)
    right = Triple("Anna", "lives in", "Porto", valid_from=since)
    await store(mind, user, wrong)
    done = await store(mind, user, right)
    assert counts(done) == (1, 1, 0, 0)
    assert await told(mind, user) == ["Anna lives in Porto"]


async def test_edges_name_their_sources_and_are_known_when_these_were(
    mind: NeuroMemory, clock: ManualClock, user: str
) -> None:
    message = await mind.ingest(user, "user", "I moved to Oslo", timestamp=clock.now() - timedelta(hours=5))
    clock.advance(timedelta(hours=1))
    done = await store(mind, user, OSLO, sources=[Source("message", message.message_id, {"part": 1})])
    assert done.stored[0].known_from == message.known_from < done.stored[0].recorded_at
    assert await told(mind.as_of(message.known_from), user) == ["Anna lives in Oslo"]
    assert await mind.as_of(message.known_from).graph.get_node(user, "person", "Anna") is not None
    fact = (await mind.graph.find_entity_facts(user, "Anna"))[0]
    assert fact.sources == (Source("message", message.message_id, {"part": 1}),)
    with pytest.raises(NotFoundError):
        await store(mind, f"{user}-other", OSLO, sources=[message.message_id])


async def test_what_was_told_earlier_and_read_later_finds_its_place(
    mind: NeuroMemory, clock: ManualClock, user: str
) -> None:
    """Two conversations are read in the wrong order: as of every moment it is as if in the right one."""
    first, second = clock.now(), clock.now() + timedelta(days=10)
    clock.set(second + timedelta(days=1))
    hobby = Triple("Anna", "hobby", "chess")
    await store(mind, user, PORTO, hobby, known_from=second)
    await store(mind, user, OSLO, hobby, known_from=first)
    assert await told(mind, user) == ["Anna hobby chess", "Anna lives in Porto", "(Anna lives in Oslo)"]
    between = mind.as_of(second - timedelta(seconds=1))
    assert sorted(await told(between, user)) == ["Anna hobby chess", "Anna lives in Oslo"]
    assert await between.graph.get_node(user, "person", "Anna") is not None
    assert await between.graph.get_node(user, "place", "Porto") is None
    assert await told(mind.as_of(first - timedelta(seconds=1)), user) == []


async def test_names_mean_what_they_meant(mind: NeuroMemory, user: str) -> None:
    await mind.graph.create_node(user, "person", "Anna Smith", {"aliases": ["Anna", "安娜"]})
    await store(
        mind, user, OSLO, Triple("安娜", "likes", "火锅", "user"), Triple("Anna Smith", "likes", "tea", "human")
    )
    assert (await mind.stats(user)).graph_nodes == 4
    found = ["Anna Smith likes tea", "Anna Smith likes 火锅", "Anna Smith lives in Oslo"]
    for query in ("what does Anna like?", "安娜喜欢什么", "anna_smith"):
        assert sorted(await told(mind, user, query)) == found
    await mind.graph.create_node(user, "cat", "Anna")
    done = await store(mind, user, Triple("Anna", "likes", "fish", "cat"))
    assert (done.stored[0].source_type, done.stored[0].source_id) == ("cat", "anna")


async def test_facts_between_two_that_are_named_come_first(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    await store(mind, user, OSLO, Triple("Anna", "friend", "Ben"), Triple("Ben", "lives in", "Kyoto"))
    clock.advance(timedelta(minutes=1))
    await store(mind, user, *(Triple("Anna", "likes", f"dish {n}") for n in range(30)))
    found = await mind.graph.find_entity_facts(user, "Is Anna in OSLO?", limit=3)
    assert (found[0].content, found[0].named) == ("Anna lives in Oslo", 2)
    assert [fact.named for fact in found[1:]] == [1, 1]
    assert await told(mind, user, "planning in oslophobia") == []
    assert await told(mind, user, "?") == []


async def test_who_asks_about_me_asks_about_the_user(mind: NeuroMemory, user: str) -> None:
    await store(mind, user, Triple("user", "works at", "Initech"))
    assert await told(mind, user, "Where do I work?") == ["user works at Initech"]
    assert await told(mind, user, "我在哪里工作") == ["user works at Initech"]


async def test_names_may_be_given_instead_of_a_text(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    from memground.view import View
    from neuromem.queries.scope import Scope

    await store(mind, user, OSLO)
    async with mind._db.read() as session:
        service, scope = GraphMemoryService(session), Scope(user, View(clock.now()))
        assert [f.content for f in await service.find_entity_facts(scope, names=["ANNA"])] == ["Anna lives in Oslo"]
        assert await service.find_entity_facts(scope, names=["Ben"]) == []


async def test_undo_takes_an_extraction_back_and_the_old_edge_holds_again(
    mind: NeuroMemory, clock: ManualClock, user: str
) -> None:
    await store(mind, user, OSLO)
    clock.advance(timedelta(days=1))
    await store(mind, user, PORTO, origin="mistaken")
    clock.advance(timedelta(days=1))
    await mind.undo(user, origin="mistaken")
    assert await told(mind, user) == ["Anna lives in Oslo"]
    assert (await mind.graph.find_nodes(user, "Porto")) == []
    clock.advance(timedelta(days=1))
    assert counts(await store(mind, user, OSLO)) == (0, 0, 0, 1)


async def test_a_node_that_another_writer_s_edge_needs_stays_by_its_name_when_its_own_is_undone(
    mind: NeuroMemory, clock: ManualClock, user: str
) -> None:
    await mind.graph.create_node(user, "place", "New_York", {"aliases": ["Big Apple"], "size": 8}, origin="first")
    await store(mind, user, Triple("Anna", "lives in", "New_York", "person", "place"), origin="first")
    clock.advance(timedelta(days=1))
    await store(mind, user, Triple("Ben", "likes", "the Big Apple", "person", "place"), origin="other")
    await store(mind, user, Triple("Ben", "likes", "Big Apple", "person", "place"), origin="second")
    clock.advance(timedelta(days=1))
    done = await mind.undo(user, origin="first")
    assert (done.ended, done.restored) == ({"graph_edge": 1, "graph_node": 1}, {})  # Anna, and where she lives
    assert await told(mind, user, "Ben") == ["Ben likes New_York", "Ben likes the Big Apple"]
    node = await mind.graph.get_node(user, "place", "New York")
    assert node is not None
    assert (node.name, node.aliases, node.properties) == ("New_York", (), {"name": "New_York"})
    assert await mind.graph.find_nodes(user, "Anna") == []

    clock.advance(timedelta(days=1))
    await mind.undo(user, origin=done.origin)
    assert await told(mind, user) == ["Anna lives in New_York"]
    node = await mind.graph.get_node(user, "place", "New York")
    assert node is not None
    assert (node.aliases, node.properties["size"]) == (("big apple",), 8)


async def test_a_node_makes_room_for_the_one_that_comes_back(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    await mind.graph.create_node(user, "place", "Porto", {"size": 1})
    there = clock.now()
    clock.advance(timedelta(days=1))
    await mind.graph.delete_node(user, "place", "Porto")
    clock.advance(timedelta(days=1))
    await mind.graph.create_node(user, "place", "Porto", {"size": 2})
    await store(mind, user, PORTO)
    clock.advance(timedelta(days=1))
    back = await mind.rollback(user, there)
    clock.advance(timedelta(days=1))
    await mind.undo(user, origin=back.origin)
    node = await mind.graph.get_node(user, "place", "Porto")
    assert node is not None
    assert node.properties == {"name": "Porto", "size": 2}
    assert await told(mind, user) == ["Anna lives in Porto"]


async def test_undoing_a_rollback_leaves_no_node_where_there_was_none(
    mind: NeuroMemory, clock: ManualClock, user: str
) -> None:
    """Two edges without a node: what is told late of a time before it was deleted, and what an undo brings back."""

    async def reads() -> tuple[Any, ...]:
        nodes = [(node.name, node.properties) for node in (await mind.graph.list_nodes(user)).items]
        return nodes, await told(mind, user), await told(mind, user, "Ben"), await mind.graph.find_nodes(user, "Oslo")

    await store(mind, user, OSLO, origin="first")
    there = clock.now()
    clock.advance(timedelta(days=1))
    await mind.graph.delete_edge(user, "person", "Anna", "lives_in", "place", "Oslo", origin="second")
    clock.advance(timedelta(days=1))
    await mind.graph.delete_node(user, "place", "Oslo", origin="third")
    clock.advance(timedelta(days=1))
    await store(mind, user, Triple("Ben", "likes", "Oslo", "person", "place"), known_from=there, origin="first")
    clock.advance(timedelta(days=1))
    await mind.undo(user, origin="second")
    before = await reads()
    assert before[1:] == (["Anna lives in oslo"], ["Ben likes oslo"], [])

    for _ in range(2):  # the second at the same instant
        back = await mind.rollback(user, there)
        assert [node.name for node in await mind.graph.find_nodes(user, "Oslo")] == ["Oslo"]
        await mind.undo(user, origin=back.origin)
        assert await reads() == before

    clock.advance(timedelta(days=1))
    back = await mind.rollback(user, there)
    clock.advance(timedelta(days=1))
    await store(mind, user, Triple("Eve", "likes", "Oslo", "person", "place"), origin="other")
    await mind.undo(user, origin=back.origin)
    assert [node.name for node in await mind.graph.find_nodes(user, "Oslo")] == [
        "Oslo"
    ]  # which this edge is written on


async def test_a_node_goes_with_the_last_edge_that_needs_it(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    await store(mind, user, OSLO, origin="first")
    clock.advance(timedelta(days=1))
    await store(mind, user, Triple("Ben", "likes", "Oslo"), origin="second")
    clock.advance(timedelta(days=1))
    for origin in ("first", "second", "first"):
        await mind.undo(user, origin=origin)
        clock.advance(timedelta(days=1))
    assert (await mind.stats(user)).graph_nodes == 0


async def test_an_edge_that_another_has_changed_keeps_its_sources_when_its_writer_is_undone(
    mind: NeuroMemory, clock: ManualClock, user: str
) -> None:
    message = await mind.ingest(user, "user", "chess is nice", origin="phone")
    said = Triple("Anna", "hobby", "chess", confidence=0.5)
    await store(mind, user, said, sources=[message.message_id], origin="first")
    clock.advance(timedelta(days=1))
    await store(mind, user, Triple("Anna", "hobby", "chess"), origin="second")
    clock.advance(timedelta(days=1))
    await mind.undo(user, origin="first")
    fact = (await mind.graph.find_entity_facts(user, "Anna"))[0]
    assert (fact.confidence, [source.id for source in fact.sources]) == (1.0, [message.message_id])


async def test_many_writers_at_once_make_one_graph(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    """What a name means and what ends what is decided by all there is, so a user's graph has one writer at a time."""
    there = clock.now()
    clock.advance(timedelta(minutes=1))
    said = [Triple("Anna", "hobby", "chess"), Triple("Anna", "friend", "Ben"), OSLO]  # OSLO says what Anna is
    await asyncio.gather(
        *(mind.apply_extraction(user, triples=said) for _ in range(6)),
        *(mind.graph.create_node(user, "person", "Anna", {"aliases": ["Annie"]}) for _ in range(3)),
        *(mind.graph.create_edge(user, "person", "Anna", "owns", "boat", "Gull") for _ in range(3)),
    )
    found = await mind.stats(user)
    assert (found.graph_nodes, found.graph_edges) == (5, 4)
    await asyncio.gather(
        *(mind.apply_extraction(user, triples=[Triple("Anna", "lives in", f"town {n}")]) for n in range(6)),
        mind.rollback(user, there),
        mind.apply_extraction(user, triples=said),
    )
    clock.advance(timedelta(minutes=1))
    holding = await mind.graph.get_neighbors(user, None, "Anna", edge_types=["lives in"], valid_at=clock.now())
    assert len(holding) <= 1


BAD: Sequence[tuple[Any, str]] = [
    ([Triple("Anna", "likes", "tea"), Triple("", "likes", "tea")], "subject"),
    ([Triple("Anna", "likes", "tea\x00")], "object"),
    ([Triple("Anna", "likes", "tea", valid_from=START, valid_to=START)], "valid_to"),
    (["Anna likes tea"], "a triple must be a Triple"),
    ("Anna", "triples"),
]


@pytest.mark.parametrize(("triples", "says"), BAD)
async def test_bad_triples_are_refused_and_nothing_is_written(
    mind: NeuroMemory, user: str, triples: Any, says: str
) -> None:
    before = await state(mind)
    async with mind._db.session() as session:
        with pytest.raises(InvalidInputError, match=says):
            await GraphMemoryService(session).store_triples(user, triples, stamp=session.stamp("x"))
    assert await state(mind) == before
    assert counts(await store(mind, user)) == (0, 0, 0, 0)


async def test_very_many_that_came_just_now_are_taken_back_and_brought_back_in_seconds(mind: NeuroMemory) -> None:
    """The server has not counted them yet: with plans for tables as good as empty this took minutes."""
    triples = [Triple(f"P{n % 2_000}", "knows", f"Q{n}", "person", "person") for n in range(6_000)]
    await store(mind, "many", *triples, origin="bulk")
    async with asyncio.timeout(30):
        undone = await mind.undo("many", origin="bulk")
        assert undone.ended == {"graph_node": 8_000, "graph_edge": 6_000}
        again = await mind.undo("many", origin=undone.origin)
        assert again.restored == undone.ended
