"""Transactions of the stores in PostgreSQL, and the connections they leave."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import event, func, select, text

from omnimem.storage.postgres import Database


@pytest.fixture
async def database(records_url: str, schema: str) -> AsyncIterator[Database]:
    database = Database(records_url, schema=schema, dims=3, model_id="transactions", pool_size=1)
    await database.open()
    yield database
    await database.close()


async def test_statements_sent_at_once_run_one_after_the_other(database: Database) -> None:
    """In the order they were sent in, whichever way, in one transaction."""
    numbered = text("SELECT 1 FROM pg_sleep(0.05)")
    places: list[int] = []

    async def run(place: int) -> int:
        if place % 2:
            await work.execute(numbered)
        else:
            await work.fetch(select(func.pg_sleep(0.05)), {})
        places.append(place)
        return (await work.execute(select(func.pg_current_xact_id()))).scalar_one()

    async with asyncio.timeout(30):
        async with database.writing() as work:
            assert len(set(await asyncio.gather(*map(run, range(6))))) == 1
        assert places == list(range(6))


async def test_a_read_s_connection_is_taken_over_by_the_next(database: Database) -> None:
    """Who begins before the last read's transaction is ended takes nothing from the pool, and no part of that read."""
    taken: list[Any] = []
    event.listen(database.engine.sync_engine.pool, "checkout", lambda *given: taken.append(given))
    process = select(func.pg_backend_pid(), func.transaction_timestamp())
    async with asyncio.timeout(30):
        seen = set()
        for _ in range(5):
            async with database.reading() as work:
                seen.add(tuple((await work.fetch(process, {}))[0].values()))
        assert len({pid for pid, _ in seen}) == 1
        assert len({begun for _, begun in seen}) == 5, "each is a transaction of its own"
        async with database.writing() as work:
            await work.execute(text("CREATE TEMPORARY TABLE t (n int)"))  # refused where reading went on
        assert len(taken) == 1
