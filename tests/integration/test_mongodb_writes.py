"""Writes to MongoDB: many at once, with replies lost, the server killed and frozen. Nothing twice, nothing lost."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dev.servers.mongodb import MongoServer
from pymongo import MongoClient

from memground.errors import UnavailableError
from omnimem import Memory, Scope
from omnimem.storage.base import Change, Work
from omnimem.storage.mongodb import MongoDatabase, MongoOutbox, MongoRecords
from omnimem.testing.conformance import record
from support.lossy_proxy import lossy_proxy
from support.mongo import mongo_database


async def create(records: MongoRecords, memory_id: str) -> None:
    await records.write(lambda work: records.insert(work, [record(memory_id)]))


async def update(records: MongoRecords, memory_id: str, name: str) -> None:
    """Appends a record that says which one it follows."""

    async def body(work: Work) -> None:
        latest = await records.lock(work, memory_id, Scope())
        assert latest is not None
        given = {"record_id": name, "version": latest.version + 1, "metadata": {"after": latest.record_id}}
        await records.supersede(work, Memory.stored(**{**vars(latest), **given}))

    await records.write(body)


async def life(records: MongoRecords, memory_id: str) -> Sequence[Memory]:
    """All records, which must be one chain with one end."""
    async with records.reading() as work:
        stored = await records.of_memories(work, [memory_id])
        found = [each.memory for each in stored]
        assert [memory.is_latest for memory in found] == [False] * (len(found) - 1) + [True]
        assert [each.superseded_time is None for each in stored] == [memory.is_latest for memory in found]
        assert [memory.metadata["after"] for memory in found[1:]] == [memory.record_id for memory in found[:-1]]
        assert all(a.version < b.version for a, b in pairwise(found))
        assert await records.get(work, memory_id, Scope()) == found[-1]
    return found


async def test_64_updates_at_once_of_two_clients(mongo: MongoServer) -> None:
    async with mongo_database(mongo.url) as one, mongo_database(mongo.url, name=one.name) as other:
        stores = [MongoRecords(one), MongoRecords(other)]
        await create(stores[0], "m")
        began = time.monotonic()
        await asyncio.gather(*(update(stores[n % 2], "m", f"r{n}") for n in range(64)))
        seconds = time.monotonic() - began
        assert len(await life(stores[1], "m")) == 65
        assert seconds < 30


async def test_transactions_that_want_several_memories_never_wait_for_each_other_for_ever(mongo: MongoServer) -> None:
    async with mongo_database(mongo.url) as database:
        records = MongoRecords(database)
        for memory_id in ("a", "b"):
            await create(records, memory_id)

        async def both(first: str, second: str, name: str) -> None:
            async def body(work: Work) -> None:
                for memory_id in (first, second):
                    latest = await records.lock(work, memory_id, Scope())
                    assert latest is not None
                    given = {"record_id": f"{name}{memory_id}", "version": latest.version + 1}
                    given |= {"metadata": {"after": latest.record_id}}
                    await records.supersede(work, Memory.stored(**{**vars(latest), **given}))

            await records.write(body)

        await asyncio.gather(*(both(*("ab" if n % 2 else "ba"), f"r{n}") for n in range(12)))
        assert len(await life(records, "a")) == len(await life(records, "b")) == 13


@pytest.mark.parametrize("lost", ["request", "reply"])
@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("words", [b"commitTransaction", b"insert", b"memory_locks"])
async def test_what_is_lost_on_the_way_happens_once(mongo: MongoServer, lost: str, times: int, words: bytes) -> None:
    async with mongo_database(mongo.url) as database, lossy_proxy(mongo.port) as proxy:
        near = MongoRecords(database)
        await create(near, "m")
        url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
        async with mongo_database(url, name=database.name) as far:
            proxy.lose(lost, words, times)  # type: ignore[arg-type]
            await update(MongoRecords(far), "m", "next")
        assert proxy.times == 0
        assert [memory.record_id for memory in await life(near, "m")] == ["m@0", "next"]


async def test_an_answer_that_never_comes_is_said_to_be_unknown(mongo: MongoServer) -> None:
    async with mongo_database(mongo.url) as database, lossy_proxy(mongo.port) as proxy:
        near, queue = MongoRecords(database), MongoOutbox(database)
        await create(near, "m")
        url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
        async with mongo_database(url, name=database.name, timeout=2) as far:
            records, outbox = MongoRecords(far), MongoOutbox(far)

            async def body(work: Work) -> None:
                await records.insert(work, [record("new")])
                await outbox.record(work, [Change("put", "new", "new@0")])

            for lost, expected in (("request", False), ("reply", True)):
                proxy.lose(lost, b"commitTransaction", 1_000_000)  # type: ignore[arg-type]
                began = time.monotonic()
                with pytest.raises(UnavailableError, match="did not say whether the write was kept: read it again"):
                    await records.write(body)
                assert time.monotonic() - began < 8
                proxy.times = 0
                async with near.reading() as work:
                    assert (await near.get(work, "new", Scope()) is not None) is expected
                assert len(await queue.due(10)) == int(expected)
            await update(records, "m", "next")
        assert len(await life(near, "m")) == 2


@pytest.fixture
def own_mongo(tmp_path_factory: pytest.TempPathFactory) -> MongoServer:
    return MongoServer()


async def test_killed_amid_writes_it_keeps_what_it_acknowledged(own_mongo: MongoServer) -> None:
    with own_mongo as server:
        async with mongo_database(server.url, timeout=60) as database:
            records = MongoRecords(database)
            names = [f"m{n}" for n in range(6)]
            for memory_id in names:
                await create(records, memory_id)
            acknowledged: dict[str, list[str]] = {memory_id: [] for memory_id in names}
            unknown: list[str] = []
            stop = asyncio.Event()

            async def write(memory_id: str) -> None:
                for n in range(10_000):
                    if stop.is_set():
                        return
                    name = f"{memory_id}#{n}"
                    try:
                        await update(records, memory_id, name)
                        acknowledged[memory_id].append(name)
                    except UnavailableError:
                        unknown.append(name)

            async def read() -> None:
                while not stop.is_set():
                    try:
                        async with records.reading() as work:
                            for memory_id in names:
                                assert await records.get(work, memory_id, Scope()) is not None
                    except UnavailableError:
                        pass
                    await asyncio.sleep(0.01)

            running = asyncio.gather(*map(write, names), read())
            for _ in range(2):
                await asyncio.sleep(1.0)
                server.kill()
                await asyncio.to_thread(server.start)
            await asyncio.sleep(1.0)
            stop.set()
            await running
            assert sum(map(len, acknowledged.values())) > 20
            for memory_id in names:
                kept = [memory.record_id for memory in await life(records, memory_id)]
                assert set(acknowledged[memory_id]) <= set(kept)
                assert set(kept) <= {f"{memory_id}@0", *acknowledged[memory_id], *unknown}
                assert len(kept) == len(set(kept))


async def test_frozen_it_is_unavailable_in_time_and_then_goes_on(own_mongo: MongoServer) -> None:
    with own_mongo as server:
        async with mongo_database(server.url, timeout=2) as database:
            records = MongoRecords(database)
            await create(records, "m")
            server.freeze()
            try:
                for call in (update(records, "m", "lost"), _read(database)):
                    began = time.monotonic()
                    with pytest.raises(UnavailableError, match=f"127.0.0.1:{server.port}"):
                        await call
                    assert time.monotonic() - began < 6
            finally:
                server.thaw()
            await asyncio.sleep(1.5)  # what it had begun for us holds the memory until it hears that we gave up
            await update(records, "m", "next")
            found = [memory.record_id for memory in await life(records, "m")]
            assert found in (["m@0", "next"], ["m@0", "lost", "next"])


async def _read(database: MongoDatabase) -> None:
    async with MongoRecords(database).reading() as work:
        await MongoRecords(database).get(work, "m", Scope())


class PausableMongo(MongoServer):
    """A server that can be told to go on writing while what it wrote cannot be read at a moment yet."""

    def command(self, program: Path, data: Path) -> list[str]:
        return [*super().command(program, data), "--setParameter", "enableTestCommands=1"]


async def test_a_change_is_not_relayed_before_the_truth_can_be_read() -> None:
    """Whoever worked it off would find no record, and take it for deleted."""
    with PausableMongo() as server, closing(MongoClient[Any](server.url)) as client:
        async with mongo_database(server.url) as database:
            records, outbox = MongoRecords(database), MongoOutbox(database)

            async def body(work: Work) -> None:
                await records.insert(work, [record("m")])
                await outbox.record(work, [Change("put", "m", "r")])

            client.admin.command("configureFailPoint", "disableSnapshotting", mode="alwaysOn")
            writing = asyncio.create_task(records.write(body))
            while not (await outbox.status()).waiting:
                await asyncio.sleep(0.01)
            due = await outbox.due(10)
            async with records.reading() as work:
                there = await records.of_memories(work, ["m"])
            assert (due, there, writing.done()) == ([], [], False)
            client.admin.command("configureFailPoint", "disableSnapshotting", mode="off")
            client.other.things.insert_one({})  # the next write has the server look how far it is
            await writing
            assert await outbox.due(10) == [Change("put", "m", "r")]
            async with records.reading() as work:
                assert await records.of_memories(work, ["m"]) != []
