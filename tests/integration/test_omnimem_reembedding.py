"""Another embedding model for records: nothing is missing, nothing mixes, and killed anywhere it goes on."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from conftest import OpenRecord
from omnimem import (
    ConfigurationError,
    ConflictError,
    Content,
    IndexHint,
    ModelMismatchError,
    NotFoundError,
    OmniMemClient,
    ProviderError,
    Reembedded,
    Scope,
    Settings,
    SyncMode,
    UnsupportedError,
)
from omnimem.pipeline.reembedding import Reembedding
from omnimem.pipeline.synchronizer import IndexSynchronizer
from omnimem.storage.base import Change, Selection, Storage, StoredRecord, Work
from omnimem.storage.postgres import PostgresVectors
from omnimem.testing.conformance import insert, record
from support.embeddings import HashEmbedding
from support.foreign import foreign_truth
from support.omnimem_reembed_killing import strike

OLD, NEW = HashEmbedding(16, "old"), HashEmbedding(24, "new")


class Careful(HashEmbedding):
    """Remembers what it was asked, may be slow, and may fail."""

    def __init__(self, dims: int = 24, name: str = "new", *, fail_at: int | None = None, seconds: float = 0.0) -> None:
        super().__init__(dims, name)
        self.texts: list[str] = []
        self.fail_at = fail_at
        self.seconds = seconds

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        if self.fail_at is not None and len(self.texts) + len(texts) > self.fail_at:
            raise ProviderError("no credit left")
        await asyncio.sleep(self.seconds)
        self.texts += texts
        return await super().embed_batch(texts)


def another(url: str, schema: str, embedding: HashEmbedding = NEW, **given: Any) -> OmniMemClient:
    """A client with another model, not opened."""
    return OmniMemClient.connect(Settings(url, schema=schema, **given), embedding=embedding)


async def lived(client: OmniMemClient, seed: int = 1, count: int = 30) -> list[datetime]:
    """Memories of two tenants in several versions, with vectors of fields, some deleted; moments in between."""
    chance, ids, moments = random.Random(seed), list[str](), list[datetime]()

    def content() -> Content:
        words = " ".join(f"w{chance.randrange(30)}" for _ in range(4))
        return Content(words, {"notes": [f"n{chance.randrange(9)} w{chance.randrange(30)}" for _ in range(2)]})

    for number in range(count):
        hint = IndexHint(vector_fields=["data.notes[*]"]) if number % 3 == 0 else IndexHint()
        created = await client.create(content(), scope=Scope(tenant_id="ab"[number % 2]), index_hint=hint)
        ids.append(created.memory_id)
        if number % 2:
            await client.update(chance.choice(ids), content=content())
        if number % 7 == 6:
            await client.delete(ids.pop(chance.randrange(len(ids))))
        moments.append(datetime.now(UTC))
    await client.create(Content(data={"nothing": "to embed"}))
    return chance.sample(moments, 4)


async def answers(client: OmniMemClient, moments: list[datetime]) -> list[Any]:
    """Ids and scores of hits by meaning, now and then; by both the ids: words that score alike may change places."""
    found: list[Any] = []
    for as_of in (None, *moments):
        for mode in ("semantic", "hybrid"):
            for scope in (Scope(), Scope(tenant_id="a")):
                for words in ("w3 w5", "n4", "w11 w12 w13"):
                    hits = await client.search(words, mode=mode, as_of=as_of, scope=scope, limit=40)  # pyright: ignore
                    if mode == "semantic":
                        found.append([(hit.memory.record_id, round(hit.score, 3)) for hit in hits])
                    else:
                        found.append({hit.memory.record_id for hit in hits})
    return found


@pytest.mark.parametrize(("seed", "dims"), [(1, 24), (2, 16), (3, 70)])
async def test_it_answers_as_if_it_had_been_the_model_from_the_start(
    open_record: OpenRecord, records_url: str, schema: str, seed: int, dims: int
) -> None:
    old, model = await open_record(OLD), Careful(dims)
    moments = await lived(old, seed)
    with pytest.raises(ModelMismatchError, match=rf"old-16 \(16 .*new-{dims} \({dims} .*omnimem reembed") as refused:
        await open_record(model)
    assert (refused.value.model_id, refused.value.dims) == ("old-16", 16)

    seen: list[tuple[int, int]] = []
    client = another(records_url, schema, model)
    done = await client.reembed(progress=lambda made, total: seen.append((made, total)))
    memories = await old.count()
    assert done == Reembedded("old-16", f"new-{dims}", dims, memories)
    assert (seen[0], seen[-1]) == ((0, memories), (memories, memories))

    fresh = await open_record(model, schema=f"{schema}_fresh")
    await fresh.import_records(old.export())
    async with client:
        assert await answers(client, moments) == await answers(fresh, moments)
        assert (await client.verify()).count == 0
        created = await client.create("w3 after the change")
        await client.update(created.memory_id, content="w5 after the change")
        assert (await client.search("w5 after the change", mode="semantic"))[0].memory.memory_id == created.memory_id
        assert (await client.reembed()).memories == 0
    again = another(records_url, schema, OLD)
    assert (await again.reembed()).model_before == f"new-{dims}"
    async with again:
        assert (await again.verify()).count == 0


async def test_who_has_the_old_model_open_is_refused_and_changes_nothing(
    open_record: OpenRecord, records_url: str, schema: str
) -> None:
    """Also where both models make vectors of one length: nothing but the names tells them apart."""
    old = await open_record(OLD)
    memory = await old.create("lives in Porto")
    await another(records_url, schema, HashEmbedding(16, "other")).reembed()
    for attempt in (
        old.search("Porto"),
        old.create("lives in Oslo"),
        old.update(memory.memory_id, content="lives in Oslo"),
        old.delete(memory.memory_id),
    ):
        with pytest.raises(ModelMismatchError, match="open it again"):
            await attempt
    with pytest.raises(ModelMismatchError, match="other-16"):
        await open_record(OLD)
    new = await open_record(HashEmbedding(16, "other"))
    assert [hit.memory.record_id for hit in await new.search("Porto")] == [memory.record_id]
    assert await new.count() == 1


async def test_others_read_and_write_meanwhile_and_nothing_is_lost(
    open_record: OpenRecord, records_url: str, schema: str
) -> None:
    old = await open_record(OLD)
    for number in range(150):
        await old.create(f"w{number % 30} note {number}")
    alive: dict[str, str] = {}

    async def write(number: int) -> None:
        """Until the model is another one."""
        chance, mine = random.Random(number), list[str]()
        while True:
            try:
                match chance.random():
                    case x if x < 0.5 or not mine:
                        memory = await old.create(f"w{chance.randrange(30)} written meanwhile")
                        mine.append(memory.memory_id)
                        alive[memory.memory_id] = memory.record_id
                    case x if x < 0.8:
                        memory = await old.update(chance.choice(mine), content=f"w{chance.randrange(30)} changed")
                        alive[memory.memory_id] = memory.record_id
                    case _:
                        key = mine.pop(chance.randrange(len(mine)))
                        alive.pop(key)
                        await old.delete(key)
                await old.search("w3", limit=3)
            except ModelMismatchError:
                return

    model = Careful(seconds=0.05)
    client = another(records_url, schema, model)
    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(write(number))
        done = await client.reembed()
    assert done.memories >= 150
    async with client:
        assert (await client.verify()).count == 0
        for memory_id, record_id in alive.items():
            memory = await client.get(memory_id)
            # The last write of each may have been refused, but not half done.
            assert memory is not None
            assert memory.record_id == record_id


async def test_a_worker_with_the_old_model_stops_and_loses_nothing(
    open_record: OpenRecord, records_url: str, schema: str
) -> None:
    old = await open_record(OLD, sync=SyncMode.ASYNC)
    await old.create("first")
    await old.wait_idle(20)
    await another(records_url, schema).reembed()
    new = await open_record(NEW, sync=SyncMode.ASYNC, background=False)
    memory = await new.create("who makes my vector?")
    worker = old._connection.rooms.worker._task
    assert worker is not None
    await asyncio.wait_for(worker, 30)
    assert await new.work() == 1
    assert (await new.search("my vector", mode="semantic"))[0].memory.memory_id == memory.memory_id
    assert (await new.verify()).count == 0


async def test_it_goes_on_where_it_failed_and_can_be_given_up(
    open_record: OpenRecord, records_url: str, schema: str
) -> None:
    old = await open_record(OLD)
    await old.create_many([f"note number {number}" for number in range(200)])
    with pytest.raises(ProviderError, match="no credit left"):
        await another(records_url, schema, Careful(fail_at=130)).reembed()
    with pytest.raises(ConfigurationError, match=r"to new-24 .* half done.*--abandon"):
        await another(records_url, schema, Careful(24, "third")).reembed()
    assert len(await old.search("note", limit=50)) == 50
    rest = Careful()
    assert (await another(records_url, schema, rest).reembed()).memories == 72
    assert len(rest.texts) == 72

    with pytest.raises(ProviderError):
        await another(records_url, schema, Careful(40, "third", fail_at=100)).reembed()
    assert await another(records_url, schema, NEW).reembed(abandon=True) == Reembedded("new-24", "new-24", 24, 0)
    new = await open_record(NEW)
    assert (await new.verify()).count == 0
    database = new._connection.rooms.storage.vectors._database  # pyright: ignore
    async with database.reading() as work:
        tables = await work.execute(
            text("SELECT relname FROM pg_class WHERE relnamespace = CAST(:s AS regnamespace) AND relkind = 'r'"),
            {"s": schema},
        )
        assert {row[0] for row in tables if "vector" in row[0]} == {"memory_vector_index_2", "memory_vector_history_2"}
        names = await work.execute(text(f"SELECT DISTINCT index_name FROM {schema}.memory_index_states"))
        assert {row[0] for row in names} == {"vector_2", "keyword"}


async def test_two_at_once_and_a_bound_client_are_refused(
    open_record: OpenRecord, records_url: str, schema: str
) -> None:
    old = await open_record(OLD)
    await old.create_many([f"note {number}" for number in range(50)])
    first = asyncio.create_task(another(records_url, schema, Careful(seconds=2)).reembed())
    await asyncio.sleep(1)
    with pytest.raises(ConflictError, match="another program is changing"):
        await another(records_url, schema).reembed()
    await first
    with pytest.raises(UnsupportedError):
        await another(records_url, schema).within(Scope(tenant_id="a")).reembed()


@pytest.fixture
async def foreign(records_url: str, schema: str) -> AsyncIterator[Storage]:
    async with foreign_truth(records_url, schema, dims=16, model_id="old-16") as storage:
        yield storage


async def test_a_truth_that_is_elsewhere_is_read_from_there(foreign: Storage, records_url: str, schema: str) -> None:
    """The index in use lags in part; what it is told later is in the new one."""
    synchronizer = IndexSynchronizer(foreign, OLD, "async")
    stored = [
        record(f"m{n}", hour, end=hour + 1 if hour < 2 else None, scope=Scope(tenant_id="a"), metadata={"hour": hour})
        for n in range(100)
        for hour in range(3)
    ]
    await insert(foreign, stored)
    await synchronizer.converge([Change.put(s.memory) for s in stored[:240]], {})

    async def gone(work: Work) -> None:
        await foreign.records.lock(work, "m5", Scope())
        await foreign.records.remove(work, "m5", datetime.now(UTC))

    await foreign.records.write(gone)
    done = await Reembedding(foreign, NEW).run()
    assert done.memories == 80
    async with foreign_truth(records_url, schema, dims=24, model_id="new-24") as changed:
        later = IndexSynchronizer(changed, NEW, "async")
        await later.converge([*(Change.put(s.memory) for s in stored[200:]), Change("delete", "m5")], {})
        ids = await changed.vectors.memory_ids(None, after="", limit=200)
        assert set(ids) == {f"m{n}" for n in range(100)} - {"m5"}
        held = await changed.vectors.contents(None, ids)
        kept: list[StoredRecord] = [s for s in stored if s.memory.memory_id != "m5"]
        assert {key: c.superseded_time for key, c in held.items()} == {
            s.memory.record_id: s.superseded_time for s in kept
        }
        question = await NEW.embed("m7 1")
        selection = Selection(Scope(tenant_id="a"), as_of=stored[1].memory.created_time)
        then = await changed.vectors.candidates(None, question, selection, limit=100)
        assert round({c.record_id: c.score for c in then}["m7@1"], 2) == 1.0
        assert {c.record_id for c in then} == {f"m{n}@1" for n in range(100) if n != 5}
    assert isinstance(foreign.vectors, PostgresVectors)


async def test_killed_anywhere_it_goes_on(open_record: OpenRecord, records_url: str, schema: str) -> None:
    """kill -9, again and again, at random moments; then once to the end."""
    old = await open_record(OLD)
    moments = await lived(old, 7, 60)
    await old.create_many([f"w{number % 30} filling {number}" for number in range(400)])
    records = [record async for record in old.export()]
    await old.close()
    rounds = await strike(records_url, schema, rounds=6, seed=11)
    assert rounds.killed >= 3
    fresh = await open_record(NEW, schema=f"{schema}_fresh")
    await fresh.import_records(records)
    new = await open_record(NEW)
    assert (await new.verify()).count == 0
    assert await answers(new, moments) == await answers(fresh, moments)
    with pytest.raises(NotFoundError):
        await new.delete("mem_none")
