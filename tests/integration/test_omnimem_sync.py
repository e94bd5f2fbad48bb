"""The indexes follow the truth: in its transaction or soon after, once, in whatever order changes come."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from memground.embedding import check_texts
from memground.errors import ProviderError
from omnimem import Content, IndexHint, JobPolicy, OmniMemClient, Scope
from omnimem.pipeline.synchronizer import content_hash, vector_texts, words_text
from omnimem.storage.base import KeywordEntry, StoredRecord, Vector, VectorEntry
from omnimem.storage.values import Indexed
from support.embeddings import HashEmbedding

type OpenRecord = Callable[..., Awaitable[OmniMemClient]]
QUICK = JobPolicy(lease=2, poll=0.05, backoff=0.01, attempts=3)


class Counting(HashEmbedding):
    """Notes every text it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.refused: set[str] = set()

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        check_texts(texts)
        if self.refused & set(texts):
            raise ProviderError("the model does not like this text")
        self.texts += texts
        return await super().embed_batch(texts)


@pytest.mark.parametrize("sync", ["inline", "async"])
async def test_unchanged_text_is_not_embedded_again(open_record: OpenRecord, sync: str) -> None:
    model = Counting()
    record = await open_record(model, sync=sync, jobs=QUICK)
    hint = IndexHint(vector_fields=["data.summary"], vector_concat_fields=["metadata.title"])
    memory = await record.create(Content("main", {"summary": "sum"}), metadata={"title": "t"}, index_hint=hint)
    await record.wait_idle(10)
    assert sorted(model.texts) == ["main\nt", "sum"]
    await record.update(memory.memory_id, type="fact")
    await record.update(memory.memory_id, metadata={"title": "t", "more": 1})
    await record.wait_idle(10)
    assert len(model.texts) == 2
    await record.update(memory.memory_id, metadata={"title": "new"})
    await record.wait_idle(10)
    assert model.texts[2:] == ["main\nnew"]
    await record.revert(memory.memory_id, memory.record_id)
    await record.wait_idle(10)
    assert len(model.texts) == 3
    report = await record.verify()
    assert (report.records, report.count) == (5, 0)


async def test_a_model_that_fails_writes_nothing_inline(open_record: OpenRecord) -> None:
    model = Counting()
    model.refused = {"bad"}
    record = await open_record(model)
    with pytest.raises(ProviderError):
        await record.create_many(["good", "bad"])
    assert await record.count() == 0
    memory = await record.create("good")
    with pytest.raises(ProviderError):
        await record.update(memory.memory_id, content="bad")
    assert await record.get(memory.memory_id) == memory
    assert (await record.verify()).count == 0


async def test_asynchronously_writes_wait_for_no_model(open_record: OpenRecord) -> None:
    model = Counting()
    record = await open_record(model, sync="async", jobs=QUICK, background=False)
    memory = await record.create("later to be found")
    assert model.texts == []
    assert await record.get(memory.memory_id) == memory
    assert not (await record.search("found", mode="keyword")).hits
    assert (await record.status()).waiting == 1
    assert await record.work() == 1
    assert len(await record.search("found", mode="keyword")) == 1
    assert (await record.status()).waiting == 0


async def test_hits_of_a_lagging_index_are_the_truth(open_record: OpenRecord) -> None:
    record = await open_record(sync="async", jobs=QUICK, background=False)
    changed, gone = await record.create_many(["red apple", "red car"])
    await record.work()
    await record.update(changed.memory_id, content="green pear")
    await record.delete(gone.memory_id)
    found = await record.search("red apple", explain=True)
    assert [hit.memory.text for hit in found.hits] == ["green pear"]
    explanation = found.hits[0].explanation
    assert explanation is not None
    assert explanation.indexed_record == changed.record_id
    assert "earlier record" in found.warnings[0]
    await record.work()
    assert not (await record.search("red", mode="keyword")).hits
    assert (await record.verify()).count == 0


async def test_one_bad_text_fails_alone_and_is_shown(open_record: OpenRecord) -> None:
    model = Counting()
    model.refused = {"bad"}
    record = await open_record(model, sync="async", jobs=QUICK)
    await record.create_many(["one", "bad", "two", "three"])
    await record.wait_idle(20)
    status = await record.status()
    assert (status.waiting, status.failed) == (0, 1)
    assert "does not like" in str(status.last_error)
    assert (await record.verify()).count == 2
    model.refused = set()
    assert await record.retry_failed() == 1
    await record.wait_idle(10)
    assert (await record.verify()).count == 0


async def test_two_workers_share_the_work(open_record: OpenRecord) -> None:
    models = [Counting(), Counting()]
    jobs = JobPolicy(lease=2, poll=0.02, batch=8)
    records = [await open_record(model, sync="async", jobs=jobs) for model in models]
    memories = await records[0].create_many([f"text {n}" for n in range(60)])
    await asyncio.gather(
        *(records[n % 2].update(m.memory_id, content=f"new {n}") for n, m in enumerate(memories)),
        *(records[n % 2].delete(m.memory_id) for n, m in enumerate(memories) if n % 10 == 0),
        return_exceptions=True,
    )
    await records[0].wait_idle(30)
    report = await records[0].verify()
    assert (report.count, report.differences) == (0, ())


def entries(records: list[StoredRecord]) -> tuple[list[VectorEntry], list[KeywordEntry]]:
    vectors, keywords = [], []
    for record in records:
        texts = vector_texts(record.memory)
        words = words_text(record.memory)
        vectors.append(
            VectorEntry(
                Indexed.of(record), {f: Vector(content_hash(t), HashEmbedding()._vector(t)) for f, t in texts.items()}
            )
        )
        keywords.append(KeywordEntry(Indexed.of(record), words, content_hash(words)))
    return vectors, keywords


async def test_changes_in_any_order_lead_to_the_same_index(open_record: OpenRecord) -> None:
    """All orders of four records, each applied twice, one at a time and in pairs; then one deletion at any place."""
    record = await open_record(sync="async", background=False)
    storage = record._connection.rooms.storage
    memory = await record.create("v0")
    for n in range(1, 4):
        await record.update(memory.memory_id, content=f"v{n}")
    async with storage.records.reading() as work:
        records = await storage.records.of_memories(work, [memory.memory_id])
    for size, order in itertools.product((1, 2), itertools.permutations(range(4))):
        await storage.vectors.reset(None, [memory.memory_id])
        await storage.keywords.reset(None, [memory.memory_id])
        for start in range(0, 4, size):
            vectors, keywords = entries([records[n] for n in order[start : start + size]])
            for _ in range(2):
                await storage.vectors.apply(None, vectors)
                await storage.keywords.apply(None, keywords)
        report = await record.verify()
        assert report.differences == (), order
    await storage.vectors.remove(None, [memory.memory_id])
    await storage.vectors.apply(None, entries(records)[0])
    assert await storage.vectors.contents(None, [memory.memory_id]) == {}


async def test_what_differs_is_named_and_repaired(open_record: OpenRecord, records_url: str, schema: str) -> None:
    record = await open_record()
    kept, lost, other = await record.create_many(["kept", "lost", "other"], scope=Scope(user_id="u"))
    await record.update(lost.memory_id, content="lost again")
    connection = await asyncpg.connect(records_url)
    try:
        for table, condition in [
            ("memory_vector_index", lost.memory_id),
            ("memory_keyword_history", lost.memory_id),
        ]:
            await connection.execute(f"delete from {schema}.{table} where memory_id = $1", condition)
        await connection.execute(
            f"update {schema}.memory_keyword_index set content_hash = 'x' where memory_id = $1", other.memory_id
        )
        await connection.execute(f"delete from {schema}.memories where memory_id = $1", kept.memory_id)
    finally:
        await connection.close()
    seen: list[int] = []
    report = await record.verify(progress=lambda done, _: seen.append(done))
    problems = {(d.memory_id, d.index, d.problem) for d in report.differences}
    assert problems == {
        (lost.memory_id, "vector", "has no vectors of the record"),
        (lost.memory_id, "keyword", "has no words of the record"),
        (other.memory_id, "keyword", "has words of another text"),
        (kept.memory_id, "vector", "has a memory that the truth has not"),
        (kept.memory_id, "keyword", "has a memory that the truth has not"),
    }
    assert seen[-1] == 2
    assert (await record.repair()).repaired >= 3
    assert (await record.verify()).count == 0
    assert len(await record.search("lost again", mode="keyword")) == 1


async def test_memories_move_with_ids_and_history(open_record: OpenRecord, schema: str) -> None:
    here = await open_record()
    there = await open_record(schema=f"{schema}_there")
    first = await here.create(Content("one", {"a": [1]}), scope=Scope(tenant_id="t", namespace={"x": "y"}))
    await here.update(first.memory_id, content="two")
    await here.create("three", scope=Scope(tenant_id="u"))
    records: list[dict[str, Any]] = [record async for record in here.export()]
    assert await there.import_records(records) == 3
    assert [record async for record in there.export()] == records
    assert (await there.verify()).count == 0
    assert [hit.memory.text for hit in (await there.search("one", mode="keyword", as_of=first.created_time)).hits] == [
        "one"
    ]
    assert await there.import_records(records, skip_existing=True) == 0
    from omnimem import ConflictError, InvalidInputError

    with pytest.raises(ConflictError, match="id is taken"):
        await there.import_records(records)
    await there.delete(first.memory_id)
    with pytest.raises(ConflictError, match="was deleted here"):
        await there.import_records(records[:2] if records[0]["memory_id"] == first.memory_id else records[1:])
    with pytest.raises(InvalidInputError, match="record 1: its scope"):
        await there.within(Scope(tenant_id="z")).import_records(records)
    with pytest.raises(InvalidInputError, match=r"record 1: .*no field"):
        await there.import_records([{**records[0], "extra": 1}])
