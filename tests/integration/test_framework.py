"""What the architecture document says of the frame: a library, asynchronous, on one PostgreSQL, behind facades."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from operator import attrgetter
from typing import Any

import pytest
from benchmarks.measuring import settled
from sqlalchemy import func, select, text

from memground.postgres.embedded import EmbeddedPostgres
from memground.postgres.pooler import driver_of
from neuromem import NeuroMemory, NewMessage
from neuromem.db import Database
from neuromem.services.conversations import ConversationService
from support.calls import READS, WRITES
from support.embeddings import HashEmbedding

type OpenMind = Callable[..., Awaitable[NeuroMemory]]


@pytest.fixture
async def database(database_url: str, schema: str) -> AsyncIterator[Database]:
    async with Database(database_url, dims=8, model_id="toy", schema=schema, pool_size=3) as database:
        yield database


@pytest.mark.seed("2", "Python: async and await all the way")
@pytest.mark.parametrize("name", sorted({*READS, *WRITES}))
def test_every_call_is_awaited(name: str) -> None:
    mind = NeuroMemory("postgresql://localhost/nowhere", HashEmbedding())
    call = attrgetter(name)(mind)
    assert inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


@pytest.mark.seed("2", "PostgreSQL 16 or newer is the one store", "pgvector 0.7 or newer finds vectors")
@pytest.mark.seed("2", "SQLAlchemy 2 over asyncpg")
async def test_what_it_stands_on(open_mind: OpenMind) -> None:
    mind = await open_mind(embedding=HashEmbedding())
    assert (mind._db.engine.dialect.name, mind._db.engine.dialect.driver) == ("postgresql", "asyncpg")
    async with mind._db.read() as session:
        assert int(await session.scalar(text("SELECT current_setting('server_version_num')"))) >= 160_000
        version = await session.scalar(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))
    assert tuple(map(int, version.split("."))) >= (0, 7)


@pytest.mark.seed("3.1", "each call of a facade has a session of its own")
async def test_each_call_is_a_transaction_of_its_own(open_mind: OpenMind, user: str) -> None:
    mind = await open_mind(embedding=HashEmbedding(), pool_size=2)
    for key in ("a", "b"):
        await mind.kv.set("profile", user, key, 1)
    async with mind.transaction() as tx:
        for key in ("c", "d"):
            await tx.kv.set("profile", user, key, 1)
    table = mind._db.tables.key_values.table
    async with mind._db.read() as session:
        rows = await session.execute(
            select(table.c.key, text("xmin::text::bigint")).where(table.c.scope_id == user).order_by(table.c.key)
        )
        a, b, c, d = (row[1] for row in rows)
    assert len({a, b, c}) == 3
    assert c == d
    await settled(mind)
    assert mind._db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.seed("9.1", "vectors, graph, key-values and all other rows lie in one PostgreSQL")
@pytest.mark.seed("9.2", "vectors, graph, conversations and key-values change in one transaction")
async def test_everything_changes_in_one_transaction(open_mind: OpenMind, user: str) -> None:
    mind = await open_mind(embedding=HashEmbedding(), background=False)
    async with mind.transaction() as tx:
        await tx.add_memory(user, "Anna lives in Porto")
        await tx.graph.create_node(user, "person", "Anna")
        await tx.graph.create_node(user, "city", "Porto")
        await tx.graph.create_edge(user, "person", "Anna", "lives_in", "city", "Porto")
        await tx.ingest(user, "user", "I live in Porto")
        await tx.kv.set("profile", user, "city", "Porto")
    by: set[int] = set()
    async with mind._db.read() as session:
        for name in ("embeddings", "graph_nodes", "graph_edges", "conversations", "jobs", "key_values"):
            found = await session.execute(text(f"SELECT xmin::text::bigint FROM {mind._db.schema}.{name}"))
            rows = set(found.scalars())
            assert rows, name
            by |= rows
        vectors = await session.scalar(text(f"SELECT count(embedding) FROM {mind._db.schema}.embeddings"))
    assert (len(by), vectors) == (1, 1)


async def test_a_message_is_one_statement(open_mind: OpenMind, user: str) -> None:
    mind = await open_mind(embedding=HashEmbedding(), background=False, pool_size=1)
    await mind.ingest(user, "user", "the first one")
    sent: list[Any] = []
    async with mind._db.engine.connect() as connection:
        (await driver_of(connection)).add_query_logger(sent.append)
    await mind.ingest(user, "user", "the second one")
    await settled(mind)
    assert [record.query.split()[0] for record in sent] == ["WITH"]
    assert len(await mind.conversations.get_session_messages(user)) == 2
    await mind.ingest(user, "user", "said while the connection still has what was read before")
    assert [m.seq for m in await mind.conversations.get_session_messages(user)] == [1, 2, 3]


async def test_a_message_waits_for_whoever_changes_all_of_its_user(open_mind: OpenMind, user: str) -> None:
    mind = await open_mind(embedding=HashEmbedding(), background=False)
    async with mind._db.session() as session:
        await session.hold(user, alone=True)
        waiting = asyncio.create_task(mind.ingest(user, "user", "waits"))
        await mind.ingest(f"not {user}", "user", "does not wait")
        await asyncio.sleep(0.2)
        assert not waiting.done()
    assert (await waiting).seq == 1


async def test_a_message_that_begins_a_transaction_goes_with_it(open_mind: OpenMind, user: str) -> None:
    mind = await open_mind(embedding=HashEmbedding(), background=False)
    with suppress(ZeroDivisionError):
        async with mind.transaction() as tx:
            await tx.ingest(user, "user", "never said")
            raise ZeroDivisionError
    assert await mind.conversations.list_sessions(user) == []
    assert (await mind.background_status()).waiting == 0


async def test_a_message_within_a_session_that_has_begun_goes_with_it(open_mind: OpenMind, user: str) -> None:
    mind = await open_mind(embedding=HashEmbedding(), background=False)
    with suppress(ZeroDivisionError):
        async with mind._db.session() as session:
            await session.begin()
            await ConversationService(session).add_messages(user, "s", [NewMessage("user", "never said")])
            raise ZeroDivisionError
    assert await mind.conversations.list_sessions(user) == []


async def test_a_message_cancelled_at_any_moment_is_stored_or_not(open_mind: OpenMind, user: str) -> None:
    mind = await open_mind(embedding=HashEmbedding(), background=False, pool_size=1)
    for steps in range(40):
        task = asyncio.create_task(mind.ingest(user, "user", f"message {steps}"))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await mind.ingest(user, "user", f"after {steps}")
    said = await mind.conversations.get_session_messages(user)
    assert [message.seq for message in said] == list(range(1, len(said) + 1))
    assert {f"after {steps}" for steps in range(40)} <= {message.content for message in said}
    assert (await mind.background_status()).waiting == len(said)


@pytest.mark.seed("3.3", "Database(url, pool_size=10)", "session() commits at the end of the block")
@pytest.mark.seed("3.3", "session() rolls back on an error and raises it")
async def test_a_session_commits_or_rolls_back(database: Database) -> None:
    meta = database.tables.meta
    async with database.session() as session:
        await session.execute(meta.insert().values(key="kept", value=1))
    with pytest.raises(ZeroDivisionError):
        await failing(database)
    async with database.read() as session:
        found = (await session.execute(select(meta.c.key).where(meta.c.key.in_(["kept", "dropped"])))).scalars().all()
    assert found == ["kept"]
    assert database.engine.pool.size() == 3  # type: ignore[attr-defined]


async def failing(database: Database) -> None:
    async with database.session() as session:
        await session.execute(database.tables.meta.insert().values(key="dropped", value=1))
        raise ZeroDivisionError


@pytest.mark.seed("3.3", "init() creates the extension vector and all tables", "close() gives the connections back")
@pytest.mark.seed("9.2", "migration: one step makes all tables")
async def test_init_makes_everything_and_close_lets_go(server: EmbeddedPostgres, schema: str) -> None:
    await server.ensure_database("framework")
    database = Database(server.url("framework"), dims=8, model_id="toy", schema=schema)
    await database.init()
    async with database.read() as session:
        made = (
            await session.execute(
                text("SELECT table_name FROM information_schema.tables WHERE table_schema = :schema"),
                {"schema": schema},
            )
        ).scalars()
        tables = database.tables.metadata.sorted_tables
        assert {table.name for table in tables} <= set(made)
        assert await session.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'vector'")) == 1
        me = await session.scalar(select(func.pg_backend_pid()))
    await database.close()
    other = Database(server.url("framework"), dims=8, model_id="toy", schema=schema)
    async with other, other.read() as session:
        left = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        assert await session.scalar(left, {"pid": me}) == 0


@pytest.mark.seed("4", "everything is kept apart by user_id, without tenants")
async def test_every_table_of_users_names_its_user(database: Database) -> None:
    owners = {
        table.name: {"user_id", "scope_id", "owner"} & set(table.c.keys())
        for table in database.tables.metadata.sorted_tables
    }
    assert {name for name, columns in owners.items() if not columns} == {"meta"}
    assert all("tenant_id" not in table.c for table in database.tables.metadata.sorted_tables)
