"""Another embedding model for a schema: nothing is missing, nothing mixes, and killed anywhere it goes on."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from conftest import OpenMind
from neuromem import (
    ConfigurationError,
    ConflictError,
    F,
    InvalidInputError,
    ModelMismatchError,
    NeuroMemory,
    NewMessage,
    ProviderError,
    reembed,
)
from support.embeddings import HashEmbedding
from support.sound import check_sound

OLD, NEW = HashEmbedding(32, "old"), HashEmbedding(48, "new")


class Counting(HashEmbedding):
    """Remembers what it was asked, and can fail."""

    def __init__(self, dims: int = 48, name: str = "new", *, fail_at: int | None = None) -> None:
        super().__init__(dims, name)
        self.texts: list[str] = []
        self.fail_at = fail_at

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        if self.fail_at is not None and len(self.texts) + len(texts) > self.fail_at:
            raise ProviderError("no credit left")
        self.texts += texts
        return await super().embed_batch(texts)


async def settled(mind: NeuroMemory, user: str, count: int = 20) -> datetime:
    """Memories in two versions, some forgotten, and a conversation; returns a moment between the versions."""
    for number in range(count):
        await mind.add_memory(user, f"note {number} about topic{number % 5}")
    said = [NewMessage("user", f"turn {number} about topic{number % 5}", speaker="Anna") for number in range(count)]
    await mind.conversations.add_messages_batch(user, said, session_id="s1")
    await mind.wait_idle(timeout=30)
    between = datetime.now(UTC)
    page = await mind.list_memories(user, limit=count)
    for memory in page.items[:5]:
        await mind.update_memory(user, memory.memory_id, content=f"{memory.content}, corrected")
    await mind.update_memory(user, page.items[6].memory_id, importance=9)
    await mind.delete_memory(user, page.items[7].memory_id)
    return between


async def answers(mind: NeuroMemory, user: str, at: datetime | None) -> list[str]:
    found = await mind.recall(user, "what about topic3", as_of=at, limit=30)
    return [hit.content for hit in found.merged]


async def test_every_vector_of_every_version_is_made_anew(
    open_mind: OpenMind, database_url: str, schema: str, user: str
) -> None:
    old = await open_mind(embedding=OLD)
    between = await settled(old, user)
    await old.close()

    provider = Counting()
    seen: list[tuple[int, int]] = []
    done = await reembed(database_url, provider, schema=schema, progress=lambda *at: seen.append(at))
    assert (done.model_before, done.model, done.dims) == ("old-32", "new-48", 48)
    assert (done.memories, done.messages) == (26, 20)  # 20 and 5 and 1 versions
    assert seen[0] == (0, 46)
    assert seen[-1] == (46, 46)
    assert len(provider.texts) == len(set(provider.texts))  # equal texts are embedded once

    mind = await open_mind(embedding=NEW)
    await check_sound(mind)
    # As a mind that was made with the new model from the start and filled alike.
    fresh = await open_mind(embedding=NEW, schema=f"{schema}_new")
    between_fresh = await settled(fresh, user)
    assert sorted(await answers(mind, user, None)) == sorted(await answers(fresh, user, None))
    assert sorted(await answers(mind, user, between)) == sorted(await answers(fresh, user, between_fresh))
    assert (await answers(mind, user, None))[0] == (await answers(fresh, user, None))[0]
    async with mind._db.read() as session:
        same = text(f"""
            SELECT count(*) FROM {schema}.conversation_embeddings a
            JOIN {schema}.conversations m USING (message_id, version)
            JOIN {schema}_new.conversations n ON (n.seq, n.session_id) = (m.seq, m.session_id)
            JOIN {schema}_new.conversation_embeddings b ON (b.message_id, b.version) = (n.message_id, n.version)
            WHERE a.embedding_2::text = b.embedding::text
        """)
        assert (await session.execute(same)).scalar() == 20

    await mind.ingest(user, "user", "a new turn about topic3")
    memory = await mind.add_memory(user, "a new note about topic3")
    await mind.update_memory(user, memory.memory_id, importance=7)
    await mind.wait_idle(timeout=30)
    assert "a new turn about topic3" in await answers(mind, user, None)
    back = await mind.rollback(user, between)
    await mind.undo(user, origin=back.origin)
    await check_sound(mind)
    assert (await mind.search(user, "note", where=F("importance") == 9))[0].memory.importance == 9


async def test_the_old_model_is_refused_afterwards_and_an_open_mind_says_so(
    open_mind: OpenMind, database_url: str, schema: str, user: str
) -> None:
    """Also where both models make vectors of one length: nothing but the names tells them apart."""
    old = await open_mind(embedding=OLD, background=False)
    await old.add_memory(user, "lives in Porto")
    waiting = await old.ingest(user, "user", "waits for its vector")
    await reembed(database_url, HashEmbedding(32, "other"), schema=schema)
    for attempt in (
        old.search(user, "Porto"),
        old.recall(user, "Porto"),
        old.add_memory(user, "lives in Oslo"),
    ):
        with pytest.raises(ModelMismatchError, match="open it again"):
            await attempt
    with pytest.raises(ModelMismatchError, match="other-32"):
        await open_mind(embedding=OLD)
    mind = await open_mind(embedding=HashEmbedding(32, "other"))
    await mind.wait_idle(timeout=30)
    assert [hit.id for hit in (await mind.recall(user, "vector waits")).merged][:1] == [waiting.message_id]
    assert [hit.memory.content for hit in await mind.search(user, "Porto")] == ["lives in Porto"]


async def test_a_worker_with_the_old_model_stops_and_loses_nothing(
    open_mind: OpenMind, database_url: str, schema: str, user: str
) -> None:
    old = await open_mind(embedding=OLD)
    await reembed(database_url, NEW, schema=schema)
    mind = await open_mind(embedding=NEW, background=False)
    await mind.ingest(user, "user", "who makes my vector?")
    assert old._worker is not None
    embedding = old._worker._loops[0]._task
    assert embedding is not None
    await asyncio.wait_for(embedding, 20)
    assert (await mind.background_status(user)).waiting == 1
    working = await open_mind(embedding=NEW)
    await working.wait_idle(timeout=30)
    await check_sound(mind)


@pytest.mark.parametrize("patience", [0, 3])
async def test_what_others_write_meanwhile_is_not_missed(
    open_mind: OpenMind, database_url: str, schema: str, user: str, patience: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuromem.services.reembedding._PATIENT_ATTEMPTS", patience)
    old = await open_mind(embedding=OLD)
    await settled(old, user, 40)
    written: list[str] = []

    async def write() -> None:
        while True:
            memory = await old.add_memory(user, f"meanwhile {len(written)}")
            await old.ingest(user, "user", f"said meanwhile {len(written)}")
            await old.update_memory(user, memory.memory_id, importance=8)
            written.append(memory.memory_id)
            await asyncio.sleep(0.01)

    writer = asyncio.create_task(write())
    await asyncio.sleep(0.2)
    await reembed(database_url, NEW, schema=schema)
    with pytest.raises(ModelMismatchError):  # the writer's next word
        await asyncio.wait_for(writer, 20)
    mind = await open_mind(embedding=NEW)
    await mind.wait_idle(timeout=30)
    await check_sound(mind)
    assert len(written) > 5
    for number in (0, len(written) - 1):
        found = await mind.search(user, f"meanwhile {number}", limit=3, explain=True)
        assert written[number] in [
            hit.memory.memory_id for hit in found if hit.explanation and hit.explanation.vector_rank
        ]


async def test_a_failed_change_goes_on_where_it_was(
    open_mind: OpenMind, database_url: str, schema: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuromem.services.reembedding._BATCH", 8)
    old = await open_mind(embedding=OLD)
    await settled(old, user)
    told: list[tuple[int, int]] = []
    with pytest.raises(ProviderError, match="no credit"):
        await reembed(database_url, Counting(fail_at=20), schema=schema, progress=lambda *at: told.append(at))
    assert told == [(0, 46), (8, 46), (16, 46)]
    assert await answers(old, user, None)  # the old model still serves
    with pytest.raises(ConfigurationError, match="half done"):
        await reembed(database_url, HashEmbedding(64, "third"), schema=schema)
    told.clear()
    done = await reembed(database_url, NEW, schema=schema, progress=lambda *at: told.append(at))
    assert told[0] == (16, 46)
    assert done.memories + done.messages == 30
    await check_sound(await open_mind(embedding=NEW))


async def test_a_change_can_be_given_up(open_mind: OpenMind, database_url: str, schema: str, user: str) -> None:
    old = await open_mind(embedding=OLD)
    await settled(old, user)
    with pytest.raises(ProviderError):
        await reembed(database_url, Counting(fail_at=0), schema=schema)
    await reembed(database_url, NEW, schema=schema, abandon=True)
    await reembed(database_url, NEW, schema=schema, abandon=True)  # nothing to give up
    await old.add_memory(user, "all is as before")
    await check_sound(old)
    done = await reembed(database_url, HashEmbedding(64, "third"), schema=schema)
    assert done.model == "third-64"
    twice = await reembed(database_url, NEW, schema=schema)
    assert (twice.model_before, twice.model) == ("third-64", "new-48")
    await check_sound(await open_mind(embedding=NEW))
    unchanged = await reembed(database_url, NEW, schema=schema)
    assert (unchanged.memories, unchanged.messages) == (0, 0)


async def test_two_at_once_are_one(open_mind: OpenMind, database_url: str, schema: str, user: str) -> None:
    old = await open_mind(embedding=OLD)
    await settled(old, user)
    outcomes = await asyncio.gather(
        *(reembed(database_url, HashEmbedding(48, "new"), schema=schema) for _ in range(2)), return_exceptions=True
    )
    assert sum(isinstance(outcome, BaseException) for outcome in outcomes) <= 1
    assert all(isinstance(outcome, ConflictError) for outcome in outcomes if isinstance(outcome, BaseException))
    await check_sound(await open_mind(embedding=NEW))


async def test_wrong_asks_are_refused(database_url: str, schema: str) -> None:
    with pytest.raises(ConfigurationError, match="no schema"):
        await reembed(database_url, NEW, schema=schema)
    with pytest.raises(InvalidInputError, match="EmbeddingProvider"):
        await reembed(database_url, "new", schema=schema)  # type: ignore[arg-type]


PROGRAM = """
import asyncio, sys
import neuromem.services.reembedding as module
from neuromem import reembed
from support.embeddings import HashEmbedding

module._BATCH = 8
told = lambda done, total: print(done, total, flush=True)
asyncio.run(reembed(sys.argv[1], HashEmbedding(48, "new"), schema=sys.argv[2], progress=told))
"""


async def test_killed_anywhere_it_goes_on(open_mind: OpenMind, database_url: str, schema: str, user: str) -> None:
    old = await open_mind(embedding=OLD)
    await settled(old, user, 40)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    begun: list[int] = []
    # Killed at the n-th word of progress, and so many seconds after all vectors are there: indexes, then the switch.
    for lines, pause in ((1, 0.0), (2, 0.0), (4, 0.01), (99, 0.0), (99, 0.02), (99, 0.05), (99, 60.0)):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, database_url, schema, env=environment, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for number in range(lines):
            done, _, total = (await process.stdout.readline()).decode().strip().partition(" ")
            if number == 0 and done:
                begun.append(int(done))
            if done == total:
                break
        try:
            await asyncio.wait_for(process.wait(), pause)
        except TimeoutError:
            with suppress(ProcessLookupError):  # it ended this very moment
                process.send_signal(signal.SIGKILL)
            await process.wait()
    assert process.returncode == 0
    assert begun == sorted(begun)
    assert len(set(begun)) > 2  # each went on from where the one before was killed
    mind = await open_mind(embedding=NEW)
    await check_sound(mind)
    async with mind._db.read() as session:
        rows = (await session.execute(text(f"SELECT content, embedding_2 FROM {schema}.embeddings"))).all()
    assert len(rows) == 46
    for row in rows:
        stored = [float(number) for number in row.embedding_2.strip("[]").split(",")]
        assert stored == pytest.approx(await NEW.embed(row.content), abs=1e-3)
