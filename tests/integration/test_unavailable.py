"""A server that is down at start or goes away in a call, and a model that fails in the background."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import product

import asyncpg
import pytest
from sqlalchemy import literal, select, text

from memground.postgres.embedded import EmbeddedPostgres
from neuromem import (
    ConfigurationError,
    JobPolicy,
    MemoryStoreError,
    NeuroMemory,
    NewMessage,
    UnavailableError,
)
from neuromem.db import Database
from support.calls import state
from support.embedded import short_tmp_dir
from support.embeddings import HashEmbedding

type OpenMind = Callable[..., Awaitable[NeuroMemory]]


async def complaint(url: str) -> MemoryStoreError:
    """What opening a mind there raises, within five seconds."""
    with pytest.raises(MemoryStoreError) as caught:
        await asyncio.wait_for(NeuroMemory(url, HashEmbedding()).init(), 5)
    return caught.value


@pytest.fixture(scope="module")
async def own_server() -> AsyncIterator[EmbeddedPostgres]:
    """A server that tests may break; whoever opens its folder afterwards starts it anew."""
    with short_tmp_dir() as folder:
        server = await EmbeddedPostgres.open(folder / "pg")
        await server.ensure_database("minds")
        yield server
        await server.close()


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost:1/minds",
        "postgresql://u:secret@127.0.0.1:1/minds?sslmode=disable",
        "postgresql://nowhere.invalid/minds",
        "postgresql:///minds?host=/tmp/no-such-folder",
    ],
)
async def test_a_server_that_is_down_is_unavailable(url: str) -> None:
    error = await complaint(url)
    assert isinstance(error, UnavailableError)
    assert "cannot be reached" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("let_in", [b"", b"R\0\0\0\x08\0\0\0\0"], ids=["at-once", "after-the-login"])
async def test_a_server_that_is_being_stopped_is_unavailable(let_in: bytes) -> None:
    """PostgreSQL may end a connection with these words before it has ever been used."""
    said = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(let_in + b"E" + (len(said) + 4).to_bytes(4) + said)
        writer.close()

    async with await asyncio.start_server(end, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await complaint(f"postgresql://127.0.0.1:{port}/minds?sslmode=disable")
    assert isinstance(error, UnavailableError)
    assert "terminating connection" in str(error)


@pytest.mark.parametrize(
    "url",
    ["postgresql://[", "postgresql://localhost:x/minds", "postgresql://a\x00b/minds", "postgresql://u:s3cret@h:x/m"],
)
async def test_an_address_that_cannot_be_read_is_a_configuration_error(url: str) -> None:
    error = await complaint(url)
    assert isinstance(error, ConfigurationError)
    assert "s3cret" not in str(error)


async def test_a_login_that_is_refused_is_a_configuration_error(own_server: EmbeddedPostgres) -> None:
    rules = own_server.data_dir / "pgdata" / "pg_hba.conf"
    rules.write_text(f"local all locked scram-sha-256\n{rules.read_text()}")
    await execute(own_server.url(), "CREATE ROLE locked LOGIN PASSWORD 'right'", "SELECT pg_reload_conf()")
    url = own_server.url("minds")
    cases = {
        url.replace("postgres@", "locked:wrong@"): "refused the login",
        url.replace("postgres@", "nobody_here@"): "refused the login",
        url.replace("/minds?", "/elsewhere?"): '"elsewhere" does not exist',
        url + "&sslmode=maybe": "sslmode",
        url + "&no_such_setting=1": "no_such_setting",
        url.replace("postgres@", "locked:right@"): "vector",  # may log in, but not install the extension
    }
    for address, says in cases.items():
        error = await complaint(address)
        assert isinstance(error, ConfigurationError), address
        assert says in str(error)
        assert "wrong" not in str(error)
        assert "right" not in str(error)


async def test_a_server_that_dies_in_the_middle_of_a_call(own_server: EmbeddedPostgres) -> None:
    url = own_server.url("minds")
    async with NeuroMemory(url, HashEmbedding(), background=JobPolicy(poll=0.1)) as mind:
        await mind.add_memory("anna", "before the storm")
        blocker = await asyncpg.connect(url)
        await blocker.execute("BEGIN; LOCK TABLE neuromem.embeddings IN ACCESS EXCLUSIVE MODE")
        caught_in_it = [
            asyncio.create_task(mind.add_memory("anna", "during the storm")),
            asyncio.create_task(mind.recall("anna", "storm")),
        ]
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while await blocker.fetchval(waiting) < len(caught_in_it):
            await blocker.execute("SELECT pg_stat_clear_snapshot()")  # else who connects later is not seen
            await asyncio.sleep(0.01)
        os.kill(int((own_server.data_dir / "pgdata" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        for task in caught_in_it:
            with pytest.raises(UnavailableError):
                await asyncio.wait_for(task, 10)
        with pytest.raises(UnavailableError):
            await asyncio.wait_for(mind.recall("anna", "storm"), 5)

        again = await EmbeddedPostgres.open(own_server.data_dir)  # starts it anew
        try:
            # The same mind goes on, its background worker too.
            found = await mind.recall("anna", "storm")
            assert [hit.content for hit in found.merged] == ["before the storm"]
            await mind.ingest("anna", "user", "after the storm")
            await mind.wait_idle(10)
            assert (await mind.background_status()).failed == 0
        finally:
            await again.close()


async def test_a_transaction_cancelled_at_any_moment_leaves_nothing_behind(database_url: str, schema: str) -> None:
    async def write(database: Database) -> None:
        async with database.session() as session:
            await session.hold("anna")
            await session.execute(text("SELECT 1"))

    async with Database(database_url, dims=8, model_id="toy", schema=schema, pool_size=1) as database:
        for steps, again in product(range(60), (None, 0, 2)):  # cancelled once, or once more while it rolls back
            task = asyncio.create_task(write(database))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            if again is not None:
                for _ in range(again):
                    await asyncio.sleep(0)
                task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            async with database.engine.begin() as connection:  # of the same pool
                assert (
                    await connection.scalar(
                        text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
                    )
                    == 0
                )


async def interrupted(database: Database, killer: "asyncpg.Connection[asyncpg.Record]", steps: int) -> None:
    """A transaction whose connection is ended by the server, `steps` turns of the loop before its next statement."""
    async with database.session() as session:
        await killer.execute("SELECT pg_terminate_backend($1)", await session.scalar(text("SELECT pg_backend_pid()")))
        for _ in range(steps):
            await asyncio.sleep(0)
        await session.fetch(select(literal(steps)), {})
        await session.fetch(select(literal(steps)), {})  # the first may still have been answered


async def test_a_connection_that_ends_at_any_moment_of_a_transaction(database_url: str, schema: str) -> None:
    """The driver has another word for it between the server's last message and the end of the connection."""
    killer = await asyncpg.connect(database_url)
    async with Database(database_url, dims=8, model_id="toy", schema=schema, pool_size=1) as database:
        for steps in range(40):
            with pytest.raises(UnavailableError):
                await interrupted(database, killer, steps)
            async with database.session() as session:
                assert await session.scalar(text("SELECT 1")) == 1  # the pool gives a new one
    await killer.close()


class Squeamish(HashEmbedding):
    """Refuses texts with "poison", until it is well."""

    well = False

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        if not self.well and any("poison" in text for text in texts):
            raise RuntimeError("poison")
        return await super().embed_batch(texts)


async def test_one_bad_text_among_64_fails_alone_and_can_be_retried(open_mind: OpenMind, user: str) -> None:
    provider = Squeamish()
    mind = await open_mind(embedding=provider, background=JobPolicy(attempts=1, backoff=0))
    said = [NewMessage("user", f"message {i}" + (" poison" if i == 64 else "")) for i in range(1, 65)]
    await mind.conversations.add_messages_batch(user, said)
    await mind.wait_idle(10)
    status = await mind.background_status(user)
    assert (status.waiting, status.failed) == (0, 1)
    assert status.last_error is not None
    assert "RuntimeError: poison" in status.last_error
    assert (await state(mind))["conversation_embeddings"][0] == 63

    provider.well = True
    assert await mind.retry_failed(user) == 1
    await mind.wait_idle(10)
    assert (await mind.background_status(user)).failed == 0
    assert (await state(mind))["conversation_embeddings"][0] == 64
