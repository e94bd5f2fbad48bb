"""How recall comes to its answer, step by step, with the calls of both models as their server counts them."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from benchmarks.measuring import Statements, counted

from conftest import OpenMind
from memground.clock import ManualClock
from memground.embedding import OpenAIEmbedding
from memground.view import View
from neuromem import NeuroMemory, RankingProfile, RecallResult, Triple
from neuromem.providers.llm import OpenAILLM
from neuromem.queries.scope import Scope
from neuromem.services.graph_memory import GraphMemoryService
from neuromem.services.search import SearchService
from support.embeddings import HashEmbedding
from support.openai_server import CHAT, OpenAIServer

DIMS = 8
QUESTION = "Where in Porto does Anna live?"
PROFILE = {"city": "Porto"}


@pytest.fixture(scope="module")
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(dims=DIMS) as models:
        yield models


@pytest.fixture(scope="module")
async def mind(database_url: str, models: OpenAIServer) -> AsyncIterator[NeuroMemory]:
    """Anna has memories, turns, relations and a profile."""
    async with NeuroMemory(
        database_url,
        OpenAIEmbedding(models.key, base_url=models.base_url, dims=DIMS),
        OpenAILLM(models.key, base_url=models.base_url),
        schema=f"recalled_{uuid.uuid4().hex[:8]}",  # several workers share the tests, and one may come back to them
        auto_extract=False,
    ) as mind:
        await mind.add_memories("anna", ["Anna lives near the river", "likes tea", "Porto has six bridges"])
        await mind.ingest("anna", "user", "I live in the old town of Porto", session_id="s1")
        await mind.ingest("anna", "user", "and now for something else", session_id="s1")
        await mind.apply_extraction("anna", triples=[Triple("Anna", "lives_in", "Porto")], profile_updates=PROFILE)
        await mind.wait_idle(timeout=20)
        yield mind


type Asked = tuple[RecallResult, Statements, list[tuple[str, object]]]


@pytest.fixture(scope="module")
async def asked(mind: NeuroMemory, models: OpenAIServer) -> Asked:
    """What recall answers, the statements it sends, and the calls of models it makes."""
    models.reset()
    async with counted(mind) as sent:
        result = await mind.recall("anna", QUESTION, explain=True)
    return result, sent, [(call.path, call.body["input"]) for call in models.calls]


@pytest.mark.seed("7.5", "recall: one embedding, no call of the language model")
@pytest.mark.seed("7.3", "the query is embedded", "recall costs one embedding and no call of the language model")
@pytest.mark.seed("7.3", "all of these are read from the database, with no further call")
async def test_the_query_is_embedded_and_nothing_else_is_asked(
    mind: NeuroMemory, asked: Asked, models: OpenAIServer
) -> None:
    _, sent, calls = asked
    assert calls == [("/v1/embeddings", [QUESTION])]
    assert models.count(CHAT) == 0
    said = " ".join(statement for statement, _ in sent.sent)
    for table in ("embeddings", "conversations", "conversation_embeddings", "key_values", "graph_edges"):
        assert f"{mind._db.schema}.{table}" in said


@pytest.mark.seed("7.5", "query_embedding spares the embedding")
async def test_a_vector_of_one_s_own_spares_the_call(mind: NeuroMemory, asked: Asked, models: OpenAIServer) -> None:
    vector = await mind._embedding.embed_query(QUESTION)
    models.reset()
    again = await mind.recall("anna", QUESTION, query_embedding=vector)
    assert models.calls == []
    assert [hit.content for hit in again.merged] == [hit.content for hit in asked[0].merged]


@pytest.mark.seed("7.3", "memories are found by vector and by word: vector_results")
@pytest.mark.seed("6.1", "recall answers vector_results")
async def test_memories_are_found_by_vector_and_by_word(asked: Asked) -> None:
    found = {hit.memory.content: hit.explanation for hit in asked[0].vector_results}
    assert found.keys() == {"Anna lives near the river", "likes tea", "Porto has six bridges"}
    assert {content for content, why in found.items() if why and why.keyword_rank} == found.keys() - {"likes tea"}
    assert sorted(why.vector_rank or 0 for why in found.values() if why) == [1, 2, 3]


@pytest.mark.seed("7.3", "the profile is read from key_values: user_profile")
@pytest.mark.seed("6.1", "recall answers user_profile", "_fetch_user_profile reads the profile's key-values")
async def test_the_profile_is_that_of_the_key_values(mind: NeuroMemory, asked: Asked) -> None:
    assert asked[0].user_profile == PROFILE
    assert {entry.key: entry.value for entry in await mind.kv.list("profile", "anna")} == PROFILE


@pytest.mark.seed("7.3", "turns are found by vector: conversation_results")
@pytest.mark.seed("6.1", "_search_conversations finds turns by vector")
async def test_turns_are_found_by_their_vectors(asked: Asked) -> None:
    found = {hit.message.content: hit.explanation for hit in asked[0].conversation_results}
    assert found.keys() == {"I live in the old town of Porto", "and now for something else"}
    assert sorted(why.vector_rank or 0 for why in found.values() if why) == [1, 2]


@pytest.mark.seed("6.1", "conversations are optional")
async def test_turns_can_be_left_out(mind: NeuroMemory) -> None:
    async with counted(mind) as sent:
        found = await mind.recall("anna", QUESTION, include_conversations=False)
    assert found.conversation_results == ()
    assert {hit.source for hit in found.merged} == {"vector", "graph", "profile"}
    assert not any(f"{mind._db.schema}.conversation_embeddings" in statement for statement, _ in sent.sent)


@pytest.mark.seed("7.3", "relations of entities are found: graph_results")
@pytest.mark.seed("6.1", "recall answers graph_results", "recall answers graph_context")
@pytest.mark.seed("6.1", "_fetch_graph_memories asks GraphMemoryService.find_entity_facts")
async def test_relations_are_the_facts_of_the_entities_named(mind: NeuroMemory, asked: Asked) -> None:
    result = asked[0]
    assert [(fact.subject, fact.relation, fact.object) for fact in result.graph_results] == [
        ("Anna", "lives_in", "Porto")
    ]
    assert result.graph_context == "Anna lives in Porto"
    async with mind._db.read() as session:
        scope = Scope("anna", View(mind._context.clock.now()))
        assert await GraphMemoryService(session).find_entity_facts(scope, QUESTION) == [*result.graph_results]


@pytest.mark.seed("9.2", "recall ranks memories, turns and relations together")
@pytest.mark.seed("7.3", "merged is computed from what was read")
@pytest.mark.seed("6.1", "recall answers merged", "merged is sorted by score")
@pytest.mark.seed("6.1", 'triples come into merged, source="graph"', 'turns come into merged, source="conversation"')
def test_merged_is_one_ranking_of_all_parts(asked: Asked) -> None:
    result = asked[0]
    parts = {
        "vector": {hit.memory.memory_id for hit in result.vector_results},
        "conversation": {hit.message.message_id for hit in result.conversation_results},
        "graph": {fact.edge_id for fact in result.graph_results},
    }
    assert {source: {hit.id for hit in result.merged if hit.source == source} for source in parts} == parts
    assert [hit.content for hit in result.merged if hit.source not in parts] == ["city: Porto"]
    scores = [hit.score for hit in result.merged]
    assert scores == sorted(scores, reverse=True)
    assert {"vector_results", "graph_results", "graph_context", "user_profile", "merged"} <= {
        field.name for field in fields(RecallResult)
    }


@pytest.mark.seed("6.1", "what needs no vector is read while the query is embedded")
async def test_what_needs_no_vector_is_read_while_the_query_is_embedded(open_mind: OpenMind, schema: str) -> None:
    meanwhile: list[str] = []

    class Slow(HashEmbedding):
        """Takes until profile, graph and words are read, which it would wait for in vain if they came later."""

        async def embed_query(self, text: str) -> list[float]:
            async with asyncio.timeout(10):
                while not all(any(f"{schema}.{table}" in said for said in meanwhile) for table in needed):
                    await asyncio.sleep(0.001)
                    meanwhile[:] = [statement for statement, _ in sent.sent]
            return await super().embed_query(text)

    needed = ("key_values.value", "graph_edges.edge_id", "conversations")
    mind = await open_mind(embedding=Slow())
    await mind.ingest("anna", "user", "I live in the old town of Porto")
    await mind.apply_extraction("anna", triples=[Triple("Anna", "lives_in", "Porto")], profile_updates=PROFILE)
    async with counted(mind) as sent:
        await mind.recall("anna", QUESTION)
    rest = " ".join(statement for statement, _ in sent.sent[len(meanwhile) :])
    assert f"{schema}.embeddings" in rest
    assert f"{schema}.conversation_embeddings" in rest


@pytest.mark.seed("6.1", "_fetch_vector_memories asks SearchService.scored_search")
async def test_memories_come_from_the_scored_search(open_mind: OpenMind) -> None:
    clock, ranking = ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), RankingProfile.seed()
    mind = await open_mind(embedding=HashEmbedding(), ranking=ranking, background=False, clock=clock)
    await mind.add_memories("anna", ["Anna lives near the river", "likes tea", "Porto has six bridges"])
    found = (await mind.recall("anna", QUESTION)).vector_results
    async with mind._db.read() as session:
        service, scope = SearchService(session, mind._embedding, ranking), Scope("anna", View(clock.now()))
        vector = await mind._embedding.embed_query(QUESTION)
        scored = await service.scored_search(scope, vector, await service.keyword_arm(scope, QUESTION), limit=9)
    assert [hit.memory for hit in found] == [hit.memory for hit in scored.hits]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in scored.hits])


@pytest.mark.seed("6.1", "the triples form a set")
async def test_a_triple_known_twice_counts_once(open_mind: OpenMind) -> None:
    """There and back: Oslo holds, and held before."""
    mind = await open_mind(embedding=HashEmbedding(), ranking=RankingProfile.seed(), background=False)
    await mind.add_memory("anna", "Anna has a flat in Oslo")
    for place in ("Oslo", "Porto", "Oslo"):
        await mind.apply_extraction("anna", triples=[Triple("Anna", "lives_in", place)])
    found = await mind.recall("anna", "Where does Anna live?", explain=True)
    assert [fact.object for fact in found.graph_results].count("Oslo") == 2
    (hit,) = found.vector_results
    assert hit.explanation is not None
    assert hit.explanation.parts["graph"] == pytest.approx(1.7)  # both ends of the one, one end of the other
