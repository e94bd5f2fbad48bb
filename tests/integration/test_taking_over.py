"""Connections go from a transaction that has done its work to the next one."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text

from conftest import OpenMind
from memground.errors import UnavailableError
from neuromem import NeuroMemory
from neuromem.db import Session
from support.embeddings import HashEmbedding

PID = text("SELECT pg_backend_pid()")


async def out(mind: NeuroMemory) -> int:
    """How many connections are out of the pool."""
    pool: Any = mind._db.engine.sync_engine.pool
    return pool.checkedout()


async def pid(mind: NeuroMemory) -> int:
    async with mind._db.read() as session:
        return await session.scalar(PID)


@pytest.fixture
async def mind(open_mind: OpenMind) -> NeuroMemory:
    return await open_mind(embedding=HashEmbedding(), background=False)


async def test_the_next_reader_takes_the_connection_and_sees_what_is_new(mind: NeuroMemory) -> None:
    async with mind._db.read() as session:
        first = await session.scalar(PID)
        assert await session.scalar(text("SELECT count(*) FROM " + str(session.tables.embeddings.table))) == 0
    await mind.add_memories("anna", ["likes tea"])
    async with mind._db.read() as session:
        assert await session.scalar(PID) == first
        assert await session.scalar(text("SELECT count(*) FROM " + str(session.tables.embeddings.table))) == 1
        assert await session.scalar(text("SHOW transaction_isolation")) == "repeatable read"


async def test_a_writer_that_follows_a_reader_may_write_and_keeps_its_own_isolation(mind: NeuroMemory) -> None:
    reader = await pid(mind)
    async with mind._db.session() as session:
        assert await session.scalar(PID) == reader
        assert await session.scalar(text("SHOW transaction_read_only")) == "off"
        assert await session.scalar(text("SHOW transaction_isolation")) == "read committed"
        assert await session.scalar(text("SHOW plan_cache_mode")) == "auto"


async def test_without_a_next_one_the_transaction_ends_and_the_pool_has_its_connection_back(mind: NeuroMemory) -> None:
    reader = await pid(mind)
    assert await out(mind) == 1
    await mind._db._spent.wait()
    assert await out(mind) == 0
    async with mind._db.engine.connect() as connection:
        state = text("SELECT state FROM pg_stat_activity WHERE pid = :pid")
        other = await connection.scalar(PID)
        assert other == reader or await connection.scalar(state, {"pid": reader}) == "idle"


async def test_the_event_loop_ends_it_by_itself(mind: NeuroMemory) -> None:
    await pid(mind)
    async with asyncio.timeout(5):
        while await out(mind):
            await asyncio.sleep(0.001)


async def test_readers_at_the_same_time_have_connections_of_their_own(mind: NeuroMemory) -> None:
    async def read() -> int:
        async with mind._db.read() as session:
            found = await session.scalar(PID)
            await asyncio.sleep(0.05)
            assert await session.scalar(PID) == found
            return found

    for _ in range(3):
        assert len(set(await asyncio.gather(*(read() for _ in range(5))))) == 5
    await mind._db._spent.wait()
    assert await out(mind) == 0


async def test_readers_cancelled_at_any_moment_leave_no_connection_out(mind: NeuroMemory) -> None:
    await mind.add_memories("anna", ["likes tea", "lives in Porto"])
    await mind.ingest("anna", "user", "I like tea")
    for step in range(60):
        task = asyncio.create_task(mind.recall("anna", "tea"))
        await asyncio.sleep(step * 0.0002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await mind.recall("anna", "tea")).merged
    await mind._db._spent.wait()
    assert await out(mind) == 0


async def test_a_failed_reader_gives_its_connection_back_before_it_goes_on(mind: NeuroMemory) -> None:
    await mind._db._spent.wait()

    async def fail() -> None:
        async with mind._db.read() as session:
            await session.scalar(PID)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await out(mind) == 0


async def test_a_session_that_is_used_after_its_end_disturbs_nobody(mind: NeuroMemory) -> None:
    kept: list[Session] = []
    async with mind._db.read() as session:
        kept.append(session)
        await session.scalar(PID)
    async with mind._db.session() as writer:
        mine = await writer.scalar(PID)
        assert await kept[0].scalar(PID) != mine
        assert await writer.scalar(text("SHOW transaction_read_only")) == "off"
    await kept[0].close()


async def test_a_connection_that_was_lost_meanwhile_is_replaced(mind: NeuroMemory) -> None:
    reader = await pid(mind)
    async with mind._db.engine.connect() as connection:
        await connection.scalar(text("SELECT pg_terminate_backend(:pid)"), {"pid": reader})
    with suppress(UnavailableError):  # the first one may meet the end of the connection
        await pid(mind)
    assert await pid(mind) != reader
