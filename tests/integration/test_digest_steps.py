"""What becomes of memories in a digest, step by step, with the calls of both models as their server counts them."""

import json
import tracemalloc
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from benchmarks.measuring import counted
from sqlalchemy import text

from memground.embedding import OpenAIEmbedding
from neuromem import DigestResult, Memory, NeuroMemory, NewMemory
from neuromem.extraction.asking import instructions
from neuromem.extraction.policy import HygieneRules
from neuromem.extraction.reflecting import Feelings, Insights
from neuromem.providers.llm import OpenAILLM
from neuromem.services.reflection import ReflectionService
from support.embeddings import HashEmbedding
from support.openai_server import CHAT, Call, OpenAIServer, vector_of
from support.reflecting_model import answer, answering, blocks_of

EMBEDDINGS = "/v1/embeddings"
DIMS = 8
SAID = ["Drank #tea", "Bought #tea", "Planted a #tree", "Climbed a #tree", "Likes rain"]
FELT = {"emotion": {"valence": 0.5, "arousal": 0.4, "label": "joy"}}
INSIGHTS = ["Often speaks of tea", "Often speaks of tree"]


@pytest.fixture(scope="module")
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(dims=DIMS, chat=answer) as models:
        yield models


@pytest.fixture(scope="module")
async def mind(database_url: str, models: OpenAIServer) -> AsyncIterator[NeuroMemory]:
    async with NeuroMemory(
        database_url,
        OpenAIEmbedding(models.key, base_url=models.base_url, dims=DIMS),
        OpenAILLM(models.key, base_url=models.base_url),
        schema=f"digest_steps_{uuid.uuid4().hex[:8]}",
        background=False,
    ) as mind:
        yield mind


@dataclass(frozen=True)
class Digested:
    """What was told, the one digest of it, and what the models were asked for it."""

    told: list[Memory]
    done: DigestResult
    calls: list[Call]

    def asked(self, path: str) -> list[dict[str, Any]]:
        return [call.body for call in self.calls if call.path == path]


@pytest.fixture(scope="module")
async def digested(mind: NeuroMemory, models: OpenAIServer) -> Digested:
    told = await mind.add_memories("anna", [NewMemory(said, "fact", FELT) for said in SAID])
    before = len(models.calls)
    done = await mind.digest("anna")
    return Digested(told, done, models.calls[before:])


async def stored(mind: NeuroMemory, statement: str) -> list[tuple[Any, ...]]:
    async with mind._db.read() as session:
        found = await session.execute(text(statement.format(schema=mind._db.schema)))
        return [tuple(row) for row in found]


@pytest.mark.seed("7.4", "_generate_insights gives the model instructions and the recent memories")
async def test_the_model_is_given_instructions_and_the_memories(digested: Digested) -> None:
    first, _ = digested.asked(CHAT)
    assert [part["role"] for part in first["messages"]] == ["system", "user"]
    assert first["messages"][0]["content"] == instructions("digest", "en")
    assert {memory["text"] for memory in blocks_of(first)["memories"]} == set(SAID)


@pytest.mark.seed("7.4", "recent memories are read, 50 unless asked otherwise")
async def test_fifty_memories_are_read(mind: NeuroMemory, models: OpenAIServer) -> None:
    await mind.add_memories("many", [f"thing {number}" for number in range(60)])
    done = await mind.digest("many")
    assert (done.read, done.unread) == (50, 10)
    assert len(blocks_of(models.calls[-1].body)["memories"]) == 50


@pytest.mark.seed("7.4", "the insights there are are read, so that none comes twice")
async def test_known_insights_are_shown_and_not_stored_again(
    mind: NeuroMemory, models: OpenAIServer, user: str
) -> None:
    await mind.add_memories(user, SAID)
    first = await mind.digest(user)
    await mind.add_memories(user, ["More #tea", "Even more #tea"])
    second = await mind.digest(user)
    asked = [call for call in models.calls if call.path == CHAT][-1]
    assert {insight["text"] for insight in blocks_of(asked.body)["insights"]} == set(INSIGHTS)
    assert (len(first.insights), second.insights, len(second.restated)) == (2, (), 1)
    assert (await mind.stats(user)).memories["insight"] == 2


@pytest.mark.seed("7.4", "the model's answer is insights: patterns and summaries")
@pytest.mark.seed("6", "ReflectionService generates insights")
async def test_its_answer_is_insights(mind: NeuroMemory, models: OpenAIServer, user: str) -> None:
    await mind.add_memories(user, SAID)
    told = {"insights": [{"content": "a", "category": "pattern"}, {"content": "b", "category": "summary"}]}
    models.chat = answering(digest=told)
    async with mind._db.read() as session:
        service = ReflectionService(session, mind._embedding, mind._context.llm)
        material = await service.read(user, limit=50)
        assert material is not None
        found = await service._generate_insights(material)
    models.chat = answer
    assert isinstance(found, Insights)
    assert [(insight.content, insight.category) for insight in found.found] == [("a", "pattern"), ("b", "summary")]


@pytest.mark.seed("7.4", "each insight is embedded", 'insights are stored in embeddings, memory_type="insight"')
async def test_insights_are_embedded_and_stored(mind: NeuroMemory, digested: Digested) -> None:
    (request,) = digested.asked(EMBEDDINGS)
    assert request["input"] == INSIGHTS
    rows = await stored(
        mind,
        "SELECT content, embedding::text FROM {schema}.embeddings "
        "WHERE user_id = 'anna' AND memory_type = 'insight' ORDER BY content",
    )
    assert [content for content, _ in rows] == INSIGHTS
    for content, vector in rows:
        assert json.loads(vector) == pytest.approx(vector_of(content, DIMS), abs=1e-3)
    sources = {insight.content: {source.id for source in insight.sources} for insight in digested.done.insights}
    ids = [memory.memory_id for memory in digested.told]
    assert sources == {INSIGHTS[0]: set(ids[:2]), INSIGHTS[1]: set(ids[2:4])}


@pytest.mark.seed("6", "ReflectionService takes a session, an embedding and a language model")
@pytest.mark.seed("6", "ReflectionService updates the emotion profile")
async def test_the_service_in_a_transaction_of_one_s_own(mind: NeuroMemory, user: str) -> None:
    await mind.add_memories(user, [NewMemory(said, "fact", FELT) for said in SAID])
    async with mind._db.session() as session:
        service = ReflectionService(session, mind._embedding, mind._context.llm, rules=HygieneRules())
        material = await service.read(user, limit=50)
        assert material is not None
        assert isinstance(await service._update_emotion_profile(material), Feelings)
        done = await service.store(user, material, await service.reflect(material))
        assert await service.read(user, limit=50) is None
    assert (await mind.emotion_profile(user)) == done.emotion
    rows = await stored(mind, f"SELECT latest_state FROM {{schema}}.emotion_profiles WHERE user_id = '{user}'")
    assert rows == [("Lately felt joy",)]


@pytest.mark.seed("7.4", "a digest costs two calls of the language model and embeds N texts")
@pytest.mark.seed("7.5", "digest: N embeddings, two calls of the language model, when the program calls it")
async def test_what_a_digest_costs(mind: NeuroMemory, models: OpenAIServer, digested: Digested) -> None:
    """N texts go in one batch; without news there is no call at all."""
    assert digested.done.llm_calls == 2
    assert (len(digested.asked(CHAT)), len(digested.asked(EMBEDDINGS))) == (2, 1)
    before = len(models.calls)
    assert (await mind.digest("anna")).llm_calls == 0
    assert len(models.calls) == before


async def test_hooks_say_what_the_calls_were_for(database_url: str, models: OpenAIServer, user: str) -> None:
    purposes: list[str] = []
    llm = OpenAILLM(models.key, base_url=models.base_url)
    async with NeuroMemory(
        database_url,
        HashEmbedding(),
        llm,
        schema="digest_hooks",
        on_llm_call=lambda call: purposes.append(call.purpose),
    ) as mind:
        await mind.add_memories(user, [NewMemory(said, "fact", FELT) for said in SAID])
        await mind.digest(user)
    assert purposes == ["digest", "emotion"]


_MANY = """
    INSERT INTO {schema}.embeddings (id, memory_id, version, known_from, recorded_at, origin, created_at, user_id,
                                     content, memory_type, metadata_, importance, event_at, words)
    SELECT gen_random_uuid(), gen_random_uuid(), n, now(), now(), 'agent', now(), '{user}',
           'thing ' || n || repeat(' and what else there is to say of it', 20), 'fact',
           '{{"emotion": {{"valence": 0.5, "arousal": 0.4, "label": "joy"}}}}', 5,
           now() - n * interval '1 minute', '{{}}'
    FROM generate_series(1, {count}) n
"""


async def test_ten_thousand_memories_keep_memory_flat(database_url: str, models: OpenAIServer, user: str) -> None:
    """What is held grows by 16 bytes a memory, and no more rows are fetched than are read."""
    llm = OpenAILLM(models.key, base_url=models.base_url)
    async with NeuroMemory(
        database_url, HashEmbedding(8), llm, schema="digest_many", auto_extract=False, background=False
    ) as mind:
        peaks: dict[int, int] = {}
        for count in (60, 100, 10_000):  # the first builds statements and connects to the models
            who = f"{user}-{count}"
            async with mind._db.session() as session:
                await session.execute(text(_MANY.format(schema="digest_many", user=who, count=count)))
            tracemalloc.start()
            async with counted(mind) as sent:
                done = await mind.digest(who)
            peaks[count] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert (done.read, done.read + done.unread) == (50, count)
            assert len(sent.sent) < 60
        assert peaks[10_000] < peaks[100] + 1_000_000, peaks
        assert (await mind.digest(who)).read == 0
