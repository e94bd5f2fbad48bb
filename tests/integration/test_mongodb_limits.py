"""Large memories, many records, many memories at once, JSON of every kind: kept whole or refused with the reason."""

import time
from typing import Any

import bson
import pytest
from dev.servers.mongodb import MongoServer
from hypothesis import given

from memground.clock import nanoseconds
from memground.errors import InvalidInputError
from omnimem import Content, Memory, Scope
from omnimem.storage.base import Change, Selection, StoredRecord, Work
from omnimem.storage.mongodb import MongoDatabase, MongoOutbox, MongoRecords
from omnimem.storage.mongodb.coding import OPTIONS, has_coded_keys, read_value, write_value
from omnimem.storage.mongodb.documents import MAX_BYTES, write_document
from omnimem.testing.conformance import START, record
from support.filters import ODD, ODD_KEYS, agreement, json_objects
from support.mongo import mongo_database


@agreement
@given(json_objects([*ODD_KEYS, "", "%", "%2E", "0", "007", "$", "$set", "a$b"], ODD))
def test_json_comes_back_as_it_was(value: dict[str, Any]) -> None:
    written = write_value(value)
    read = bson.decode(bson.encode({"value": written}), OPTIONS)["value"]
    assert repr(read_value(read)) == repr(value)  # repr tells 4 from 4.0, -0.0 from 0.0 and True from 1
    assert has_coded_keys(written) or repr(read) == repr(value)


async def written(database: MongoDatabase, memory: StoredRecord) -> StoredRecord:
    """What is read of what is written."""
    records = MongoRecords(database)
    await records.write(lambda work: records.insert(work, [memory]))
    async with records.reading() as work:
        (found,) = await records.records(work, [memory.memory.record_id])
    return found


async def updated(database: MongoDatabase, memory: StoredRecord, **fields: Any) -> Memory:
    records = MongoRecords(database)
    moment = memory.memory.version + 1

    async def body(work: Work) -> Memory:
        latest = await records.lock(work, memory.memory.memory_id, Scope())
        assert latest is not None
        successor = Memory.stored(**{**vars(latest), "record_id": f"r{moment}", "version": moment, **fields})
        await records.supersede(work, successor)
        return successor

    return await records.write(body)


async def test_large_memories(mongo: MongoServer) -> None:
    async with mongo_database(mongo.url) as database:
        five = {"parts": ["中" * 1_000 for _ in range(900)], "more": ["é" * 500 for _ in range(100)]}
        large = record("large", content=Content("🙂" * 900_000, five), metadata={"five": five})
        assert await written(database, large) == large
        following = await updated(database, large, metadata={})
        async with MongoRecords(database).reading() as work:
            history = await MongoRecords(database).history(work, "large", Scope(), limit=5)
        assert [memory.record_id for memory in history] == [following.record_id, "large@0"]
        assert history[1].content == large.memory.content


async def test_a_memory_at_the_limit_of_a_document_is_kept_and_one_beyond_it_refused(mongo: MongoServer) -> None:
    async with mongo_database(mongo.url) as database:
        lists = [[0.5] * 1_000] * 900
        rest = MAX_BYTES - len(bson.encode({"lists": lists}))
        pieces = ["y" * 1_000_000 for _ in range(rest // 1_000_000)]

        def filled(more: int) -> StoredRecord:
            stored = record("m", content=Content("x" * more, {"lists": lists}))
            return StoredRecord(Memory.stored(**{**vars(stored.memory), "metadata": {"pieces": pieces}}), None)

        records = MongoRecords(database)
        with pytest.raises(InvalidInputError, match=r"'m' takes [\d,]+ bytes in MongoDB.*keep large data elsewhere"):
            await written(database, filled(1_000_000))
        largest = filled(1 + MAX_BYTES - len(write_document(filled(1)).raw))
        assert len(write_document(largest).raw) == MAX_BYTES
        assert await written(database, largest) == largest
        following = await updated(database, largest, metadata={}, content=Content("small"))
        async with records.reading() as work:
            assert await records.get(work, "m", Scope()) == following
            assert [m.is_latest for m in await records.history(work, "m", Scope(), limit=5)] == [True, False]


async def test_a_thousand_records_of_one_memory(mongo: MongoServer) -> None:
    async with mongo_database(mongo.url) as database:
        records = MongoRecords(database)
        first = record("m").memory
        life: list[StoredRecord] = []
        for turn in range(1_000):
            time_of = START.replace(microsecond=turn)
            fields = {"record_id": f"r{turn}", "version": nanoseconds(time_of), "created_time": time_of}
            memory = Memory.stored(**{**vars(first), **fields, "is_latest": turn == 999})
            life.append(StoredRecord(memory, None if turn == 999 else START.replace(microsecond=turn + 1)))
        await records.write(lambda work: records.insert(work, life))
        async with records.reading() as work:
            assert await records.of_memories(work, ["m"]) == life
            for turn in (0, 1, 500, 999):
                at = await records.at(work, "m", START.replace(microsecond=turn), Scope())
                assert at == life[turn].memory
                then = Selection(as_of=START.replace(microsecond=turn))
                assert await records.select(work, then, limit=5) == [life[turn].memory]
            page = await records.history(work, "m", Scope(), limit=20, before=life[500].memory.version)
            assert [memory.record_id for memory in page] == [f"r{n}" for n in range(499, 479, -1)]
        assert await records.write(lambda work: records.remove(work, "m", START)) == 1_000


async def test_ten_thousand_memories_in_one_transaction(mongo: MongoServer) -> None:
    """With what the outbox keeps of them: many entries of the oplog, one transaction."""
    async with mongo_database(mongo.url) as database:
        records, outbox = MongoRecords(database), MongoOutbox(database)
        new = [record(f"m{n:05}", content=Content("word " * 120), metadata={"n": n}) for n in range(10_000)]
        changes = [Change.put(each.memory) for each in new]

        async def body(work: Work) -> None:
            await records.insert(work, new)
            await outbox.record(work, changes)

        began = time.monotonic()
        await records.write(body)
        assert time.monotonic() - began < 30
        async with records.reading() as work:
            assert await records.count(work, Selection()) == 10_000
        assert (await outbox.status()).waiting == 10_000

        async def failing(work: Work) -> None:
            await records.insert(work, [record(f"n{n}") for n in range(3_000)])
            raise InvalidInputError("on purpose")

        with pytest.raises(InvalidInputError):
            await records.write(failing)
        async with records.reading() as work:
            assert await records.count(work, Selection()) == 10_000
