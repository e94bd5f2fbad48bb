"""Reads never write: PostgreSQL's own counters say so, and it would refuse if one tried."""

from collections.abc import AsyncIterator
from operator import attrgetter
from typing import Any

import asyncpg
import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from memground.postgres.embedded import EmbeddedPostgres
from neuromem import NeuroMemory
from support.calls import PRESENT_ONLY, READS, WRITES, World, call, settle
from support.embeddings import HashEmbedding
from support.storages import FolderStorage

type Counters = dict[str, tuple[int, int, int]]


@pytest.fixture(scope="module")
async def url(server: EmbeddedPostgres) -> str:
    await server.ensure_database("reads")
    return server.url("reads")


@pytest.fixture(scope="module")
async def mind(url: str, storage: FolderStorage) -> AsyncIterator[NeuroMemory]:
    """One connection, so that what it has counted can be flushed from outside the calls."""
    async with NeuroMemory(url, HashEmbedding(), storage=storage, background=False, pool_size=1) as mind:
        yield mind


@pytest.fixture(scope="module")
async def world(mind: NeuroMemory) -> World:
    world = await settle(mind, "anna")
    for number in range(30):  # enough for an index to have something to tidy up
        await mind.add_memory("anna", f"memory {number} about Porto")
    return world


async def counters(mind: NeuroMemory, url: str) -> Counters:
    """Rows inserted, updated and deleted since ever, of every table in the database but PostgreSQL's own catalog."""
    async with mind._db.session() as session:
        await session.execute(text("SELECT pg_stat_force_next_flush()"))
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT schemaname || '.' || relname AS name, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_all_tables "
            "WHERE relid >= 16384"  # PostgreSQL's own, and what holds their long values, have lower ones
        )
    finally:
        await connection.close()
    return {row["name"]: (row["n_tup_ins"], row["n_tup_upd"], row["n_tup_del"]) for row in rows}


async def test_the_counters_see_writes(mind: NeuroMemory, world: World, url: str) -> None:
    before = await counters(mind, url)
    await mind.kv.set("profile", world.user, "seen", "yes")
    await mind.kv.delete("profile", world.user, "seen")
    after = await counters(mind, url)
    changed = {name: after[name] for name in after if after[name] != before[name]}
    inserted, updated, deleted = before["neuromem.key_values"]
    assert changed == {"neuromem.key_values": (inserted + 1, updated + 1, deleted)}


@pytest.mark.parametrize("name", READS)
async def test_a_read_changes_no_row(
    mind: NeuroMemory, world: World, url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = READS[name](world)
    begun: list[str] = []
    transaction = mind._db._transaction

    def noted(begin: str) -> Any:
        begun.append(begin)
        return transaction(begin)

    before = await counters(mind, url)
    monkeypatch.setattr(mind._db, "_transaction", noted)
    await call(mind, name, arguments)
    if name not in PRESENT_ONLY:
        await call(mind.as_of(world.between), name, arguments)
    monkeypatch.undo()
    assert await counters(mind, url) == before
    assert begun
    assert all("REPEATABLE READ READ ONLY" in begin for begin in begun)


async def test_a_read_that_tried_to_write_would_be_refused(mind: NeuroMemory) -> None:
    async with mind._db.read() as session:
        assert await session.scalar(text("SHOW transaction_read_only")) == "on"
        assert await session.scalar(text("SHOW transaction_isolation")) == "repeatable read"
        with pytest.raises(DBAPIError, match="read-only transaction"):
            await session.execute(insert(session.tables.meta).values(key="x", value=1))


async def test_a_view_of_the_past_offers_no_write(mind: NeuroMemory, world: World) -> None:
    past = mind.as_of(world.between)
    for name in WRITES:
        with pytest.raises(AttributeError):
            attrgetter(name)(past)
