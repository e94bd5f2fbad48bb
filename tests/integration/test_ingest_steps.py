"""What becomes of one message, step by step, with the calls of both models as their server counts them."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text

from memground.embedding import OpenAIEmbedding
from memground.postgres.queue import JobPolicy
from neuromem import ExtractionPolicy, Message, NeuroMemory
from neuromem.extraction.asking import Asked, Turn, instructions
from neuromem.extraction.items import Extraction
from neuromem.providers.llm import OpenAILLM
from neuromem.services.extraction import MemoryExtractionService
from support.openai_server import CHAT, Call, OpenAIServer, vector_of
from support.scripted_model import answer, turns_of

EMBEDDINGS = "/v1/embeddings"
DIMS = 8
FACTS, EPISODES = ["likes tea", "lives in Porto"], ["ran a marathon", "saw a boat"]
SAID = (
    "fact: likes tea. fact: lives in Porto. episode: ran a marathon. episode: saw a boat. city = Porto\n"
    "Anna -lives_in-> Porto"
)


@pytest.fixture(scope="module")
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(dims=DIMS, chat=answer) as models:
        yield models


@pytest.fixture(scope="module")
async def mind(database_url: str, models: OpenAIServer) -> AsyncIterator[NeuroMemory]:
    """As the seed has it: each message is extracted by itself."""
    async with NeuroMemory(
        database_url,
        OpenAIEmbedding(models.key, base_url=models.base_url, dims=DIMS),
        OpenAILLM(models.key, base_url=models.base_url),
        schema=f"steps_{uuid.uuid4().hex[:8]}",  # several workers share the tests, and one may come back to them
        extraction=ExtractionPolicy.per_message(),
        background=JobPolicy(poll=0.02),
    ) as mind:
        yield mind


@dataclass(frozen=True)
class Said:
    """The one message, and what the models were asked until all that follows from it was done."""

    message: Message
    calls: list[Call]

    def asked(self, path: str) -> list[dict[str, Any]]:
        return [call.body for call in self.calls if call.path == path]


@pytest.fixture(scope="module")
async def said(mind: NeuroMemory, models: OpenAIServer) -> Said:
    message = await mind.ingest("anna", "user", SAID, session_id="s1")
    await mind.wait_idle(timeout=20)
    return Said(message, [*models.calls])


async def stored(mind: NeuroMemory, statement: str) -> list[tuple[Any, ...]]:
    """Rows of the tables themselves."""
    async with mind._db.read() as session:
        found = await session.execute(text(statement.format(schema=mind._db.schema)))
        return [tuple(row) for row in found]


@pytest.mark.seed("7.2", "the message is stored in conversations")
async def test_the_message_is_stored_before_any_model_is_asked(
    mind: NeuroMemory, models: OpenAIServer, said: Said
) -> None:
    async with NeuroMemory(
        mind._db._url_in_use, mind._embedding, mind._context.llm, schema=mind._db.schema, background=False
    ) as waiting:
        before = len(models.calls)
        message = await waiting.ingest("bob", "user", "hello", session_id="s1")
        assert await waiting.conversations.get_session_messages("bob", "s1") == [message]
        assert len(models.calls) == before
    columns = "user_id, role, content, session_id"
    rows = await stored(mind, f"SELECT {columns} FROM {{schema}}.conversations ORDER BY user_id")
    assert rows == [("anna", "user", SAID, "s1"), ("bob", "user", "hello", "s1")]


@pytest.mark.seed("7.2", "the message is embedded in the background", "its vector is stored in conversation_embeddings")
async def test_its_vector_is_made_in_the_background(mind: NeuroMemory, said: Said) -> None:
    assert [SAID] in [body["input"] for body in said.asked(EMBEDDINGS)]
    rows = await stored(
        mind, "SELECT message_id, embedding::text FROM {schema}.conversation_embeddings WHERE user_id = 'anna'"
    )
    assert [str(key) for key, _ in rows] == [said.message.message_id]
    assert json.loads(rows[0][1]) == pytest.approx(vector_of(SAID, DIMS), abs=1e-3)


@pytest.mark.seed("7.2", "_classify_messages gives the model instructions and the conversation")
async def test_the_model_is_given_instructions_and_the_conversation(said: Said) -> None:
    (body,) = said.asked(CHAT)
    assert [part["role"] for part in body["messages"]] == ["system", "user"]
    assert body["messages"][0]["content"] == instructions("extract", "en")
    assert [(turn["role"], turn["text"]) for turn in turns_of(body)] == [("user", SAID)]


@pytest.mark.seed("7.2", "the model's answer is facts, episodes, triples and profile updates")
@pytest.mark.seed("5.2", "MemoryExtractionService classifies conversations by it")
async def test_its_answer_is_facts_episodes_triples_and_the_profile(mind: NeuroMemory, said: Said) -> None:
    turn = Turn(said.message.message_id, "user", SAID, said.message.timestamp)
    async with mind._db.read() as session:
        service = MemoryExtractionService(session, mind._embedding, mind._context.llm)
        found = await service._classify_messages(Asked(turns=(turn,)), ExtractionPolicy())
    assert isinstance(found, Extraction)
    assert [fact.item.content for fact in found.facts] == FACTS
    assert [episode.item.content for episode in found.episodes] == EPISODES
    assert [(triple.item.subject, triple.item.relation, triple.item.object) for triple in found.triples] == [
        ("Anna", "lives_in", "Porto")
    ]
    assert [(update.item.key, update.item.value) for update in found.profile_updates] == [("city", "Porto")]


@pytest.mark.seed("7.2", "facts are embedded in a batch", "episodes are embedded in a batch")
async def test_what_was_found_is_embedded_at_once(said: Said) -> None:
    # Which of the two loops asks first is not said.
    assert [body["input"] for body in said.asked(EMBEDDINGS) if body["input"] != [SAID]] == [FACTS + EPISODES]


@pytest.mark.seed("7.2", 'facts are stored in embeddings, memory_type="fact"')
@pytest.mark.seed("7.2", 'episodes are stored in embeddings, memory_type="episodic"')
async def test_facts_and_episodes_are_stored_with_their_vectors(mind: NeuroMemory, said: Said) -> None:
    rows = await stored(
        mind, "SELECT memory_type, content, embedding::text FROM {schema}.embeddings WHERE user_id = 'anna'"
    )
    assert {kind: {content for of, content, _ in rows if of == kind} for kind, _, _ in rows} == {
        "fact": set(FACTS),
        "episodic": set(EPISODES),
    }
    assert len(rows) == 4
    for _, content, vector in rows:
        assert json.loads(vector) == pytest.approx(vector_of(content, DIMS), abs=1e-3)


@pytest.mark.seed("7.2", "triples are stored in graph_nodes and graph_edges")
async def test_triples_become_nodes_and_an_edge(mind: NeuroMemory, said: Said) -> None:
    nodes = await stored(mind, "SELECT node_id FROM {schema}.graph_nodes WHERE user_id = 'anna' ORDER BY node_id")
    edges = await stored(
        mind, "SELECT source_id, edge_type, target_id FROM {schema}.graph_edges WHERE user_id = 'anna'"
    )
    assert (nodes, edges) == ([("anna",), ("porto",)], [("anna", "lives_in", "porto")])


@pytest.mark.seed("7.2", "the profile is updated in key_values")
async def test_the_profile_is_updated(mind: NeuroMemory, said: Said) -> None:
    rows = await stored(mind, "SELECT namespace, key, value FROM {schema}.key_values WHERE scope_id = 'anna'")
    assert rows == [("profile", "city", "Porto")]


@pytest.mark.seed("7.5", "ingest: 1 + N texts embedded, one call of the language model")
@pytest.mark.seed("7.2", "one message costs one call of the language model and embeds 1 + N texts")
async def test_one_message_costs_one_call_and_embeds_itself_and_what_was_found(said: Said) -> None:
    embedded = said.asked(EMBEDDINGS)
    assert len(said.asked(CHAT)) == 1
    assert (sum(len(body["input"]) for body in embedded), len(embedded)) == (1 + len(FACTS + EPISODES), 2)
