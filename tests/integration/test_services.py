"""Each service, built from what the seed says it depends on and nothing else, does what it is for in a transaction."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from memground.clock import ManualClock
from memground.postgres.session import WRITING
from memground.view import View
from neuromem import ExtractionPolicy, NeuroMemory, NewMemory, NewMessage, Source, Triple
from neuromem.db import Session
from neuromem.providers.llm import CallbackLLM
from neuromem.queries.scope import Scope
from neuromem.services.conversations import ConversationService
from neuromem.services.extraction import MemoryExtractionService
from neuromem.services.graph import GraphService
from neuromem.services.graph_memory import GraphMemoryService
from neuromem.services.kv import KVService
from neuromem.services.memories import MemoryService
from neuromem.services.search import SearchService
from neuromem.services.temporal import TemporalService
from support.embeddings import HashEmbedding
from support.scripted_model import answer

NOW = datetime(2026, 6, 1, tzinfo=UTC)
EMBEDDING = HashEmbedding()


@pytest.fixture(scope="module")
async def mind(database_url: str) -> AsyncIterator[NeuroMemory]:
    async with NeuroMemory(
        database_url, EMBEDDING, schema="services", background=False, clock=ManualClock(NOW)
    ) as mind:
        yield mind


@pytest.fixture
async def session(mind: NeuroMemory) -> AsyncIterator[Session]:
    """A transaction; nothing of it stays."""
    session = mind._db._transaction(WRITING)
    try:
        yield session
    finally:
        await session.close()


@pytest.fixture
def view(mind: NeuroMemory) -> View:
    return View(NOW)


@pytest.mark.seed("6", "SearchService takes a session and an embedding", "SearchService adds memories")
@pytest.mark.seed("6", "SearchService searches by vector")
async def test_search(session: Session, view: View, user: str) -> None:
    service = SearchService(session, EMBEDDING)
    added = await service.add(user, [NewMemory("tea with milk"), NewMemory("a red boat")])
    assert [memory.content for memory in added] == ["tea with milk", "a red boat"]
    scope, vector = Scope(user, view), await EMBEDDING.embed("a red boat")
    near = await service.scored_search(scope, vector, [], limit=9)
    assert [hit.memory for hit in near.hits] == added[::-1]
    assert [hit.explanation.vector_rank for hit in near.hits if hit.explanation] == [1, 2]
    found = await service.search(scope, "tea", limit=1, query_embedding=None, explain=False)
    assert [hit.memory for hit in found] == added[:1]


@pytest.mark.seed("6", "KVService takes a session", "KVService creates, reads, updates and deletes")
@pytest.mark.seed("6", "KVService sets several at once")
async def test_key_values(session: Session, view: View, user: str) -> None:
    service = KVService(session)
    assert (await service.set("notes", user, "city", "Oslo")).value == "Oslo"
    assert await service.get("notes", user, "city", view) == "Oslo"
    await service.set("notes", user, "city", "Porto")
    await service.batch_set("notes", user, {"pet": "Rex", "car": None})
    assert {entry.key: entry.value for entry in await service.list("notes", user, view)} == {
        "car": None,
        "city": "Porto",
        "pet": "Rex",
    }
    assert await service.delete("notes", user, "city")
    assert await service.get("notes", user, "city", view, "nothing") == "nothing"


@pytest.mark.seed("6", "ConversationService takes a session", "ConversationService keeps the messages of sessions")
async def test_conversations(session: Session, view: View, user: str) -> None:
    service = ConversationService(session)
    said = await service.add_messages(user, "s1", [NewMessage("user", "hello"), NewMessage("assistant", "hi")])
    await service.add_messages(user, "s2", [NewMessage("user", "elsewhere")])
    assert [(message.role, message.content) for message in said] == [("user", "hello"), ("assistant", "hi")]
    assert await service.get_session_messages(user, "s1", view) == said
    assert {s.session_id: s.message_count for s in await service.list_sessions(user, view)} == {"s1": 2, "s2": 1}


@pytest.mark.seed("6", "MemoryService takes a session", "TemporalService takes a session")
@pytest.mark.seed("6", "MemoryService: memories of a range of time", "MemoryService: a timeline")
@pytest.mark.seed("6", "TemporalService: memories along time", "TemporalService: filtering by ranges of time")
async def test_memories_along_time(session: Session, view: View, user: str) -> None:
    days = [NewMemory(f"trip {n}", valid_from=NOW - timedelta(days=40 * n)) for n in (3, 2, 1)]
    added = await SearchService(session, EMBEDDING).add(user, days)
    scope, service = Scope(user, view), TemporalService(session)
    assert await MemoryService(session).get(user, added[0].memory_id, view) == added[0]
    assert await service.by_time_range(scope, NOW - timedelta(days=90), NOW, limit=9) == added[1:]
    assert await service.recent(scope, days=50, limit=9) == added[2:]
    months = await service.timeline(scope, "month", UTC)
    assert [(month.start.month, month.count) for month in months] == [(2, 1), (3, 1), (4, 1)]
    (named,) = service.times("which trip in March 2026?", view)
    (march,) = await service.by_time_range(scope, named.start, named.end, limit=9)
    assert march == added[1]


@pytest.mark.seed("6", "GraphService takes a session", "GraphService creates, reads, updates and deletes nodes")
@pytest.mark.seed("6", "GraphService creates, reads and deletes edges")
async def test_graph(session: Session, view: View, user: str) -> None:
    service, anna, porto = GraphService(session), ("person", "anna"), ("place", "porto")
    await service.create_node(user, *anna, {"age": 29})
    await service.update_node(user, *anna, {"age": 30})
    node = await service.get_node(user, *anna, view)
    assert node is not None
    assert node.properties["age"] == 30
    edge = await service.create_edge(user, anna, "lives_in", porto)
    assert [neighbor.edge for neighbor in await service.get_neighbors(user, *anna, view)] == [edge]
    assert (await service.find_path(user, anna, porto, view)).edges == (edge,)
    assert await service.delete_edge(user, anna, "lives_in", porto) == 1
    assert await service.get_neighbors(user, *anna, view) == []
    await service.delete_node(user, *anna)
    assert await service.get_node(user, *anna, view) is None


@pytest.mark.seed("6", "GraphMemoryService takes a session", "GraphMemoryService stores triples")
@pytest.mark.seed("6", "GraphMemoryService detects contradictions", "GraphMemoryService finds facts of entities")
async def test_graph_memory(session: Session, mind: NeuroMemory, user: str) -> None:
    service = GraphMemoryService(session)
    for place, moment in (("Oslo", NOW - timedelta(days=9)), ("Porto", NOW - timedelta(days=1))):
        done = await service.store_triples(
            user, [Triple("Anna", "lives_in", place)], known_from=moment, stamp=session.stamp("test")
        )
    assert ([edge.target_id for edge in done.stored], [edge.target_id for edge in done.ended]) == (["porto"], ["oslo"])
    facts = await service.find_entity_facts(Scope(user, View(NOW)), "Where does Anna live?")
    assert [(fact.content, fact.ended) for fact in facts] == [
        ("Anna lives in Porto", False),
        ("Anna lives in Oslo", True),
    ]


@pytest.mark.seed("6", "MemoryExtractionService takes a session, an embedding and a language model")
@pytest.mark.seed("6", "MemoryExtractionService extracts memories with the language model")
@pytest.mark.seed("5.2", "MemoryExtractionService classifies conversations by it")
async def test_extraction(session: Session, view: View, user: str) -> None:
    async def model(messages: list[dict[str, object]]) -> str:
        return answer({"messages": messages})

    said = await ConversationService(session).add_messages(user, "s1", [NewMessage("user", "fact: likes tea")])
    service, policy = MemoryExtractionService(session, EMBEDDING, CallbackLLM(model)), ExtractionPolicy()
    asked = await service.read(user, "s1", policy, limit=9)
    assert asked is not None
    found = await service._classify_messages(asked, policy)
    sources = [Source("message", message.message_id) for message in said]
    vectors = await service.embed(found)
    done = await service.store(user, found, vectors, session.stamp("test"), sources=sources)
    (memory_id,) = done.added
    memory = await MemoryService(session).get(user, memory_id, view)
    assert memory is not None
    assert (memory.content, memory.memory_type, memory.sources) == ("likes tea", "fact", tuple(sources))
