"""A mind behind a real PgBouncer in transaction mode, which knows no prepared statements of its clients."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from benchmarks.measuring import settled
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from memground.embedding import LocalEmbedding
from memground.postgres import own_index
from memground.postgres.embedded import EmbeddedPostgres
from memground.postgres.engine import make_engine, open_engine
from memground.postgres.pooler import driver_of, is_direct
from neuromem import ConfigurationError, ExtractionPolicy, JobPolicy, NeuroMemory, NewMessage, UnavailableError
from neuromem.providers.llm import OpenAILLM
from neuromem.services.indexing import IndexKeeper
from omnimem import OmniMemClient, Settings
from support import law_digest
from support.calls import READS, WRITES, call, settle
from support.command import command
from support.embedded import short_tmp_dir
from support.embeddings import HashEmbedding
from support.openai_server import OpenAIServer
from support.pgbouncer import PgBouncer, pgbouncer
from support.scripted_model import answer
from support.storages import FolderStorage

type OpenMind = Callable[..., Awaitable[NeuroMemory]]


@pytest.fixture(scope="module")
async def pooler(server: EmbeddedPostgres) -> AsyncIterator[PgBouncer]:
    async with pgbouncer(server.socket_dir) as running:
        yield running


@pytest.fixture
def url(pooler: PgBouncer, database_url: str) -> str:
    """The database most tests share, through the pooler."""
    return pooler.url("minds")


async def left_behind(pooler: PgBouncer) -> list[int]:
    """How many prepared statements and locks lie on each of the server's connections."""
    held = [await asyncpg.connect(pooler.url("minds"), statement_cache_size=0) for _ in range(3)]
    try:
        for connection in held:
            await connection.execute("BEGIN")  # from here on each has a connection of the server's to itself
        asked = (
            "SELECT (SELECT count(*) FROM pg_prepared_statements WHERE name <> '') "
            "+ (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
        )
        return [await connection.fetchval(asked) for connection in held]
    finally:
        for connection in held:
            await connection.close()


async def statements_have_names(connection: AsyncConnection) -> bool:
    await connection.scalar(text("SELECT 17"))
    driver = await driver_of(connection)
    return any(await driver.fetch("SELECT 1 FROM pg_prepared_statements WHERE name <> ''"))


async def test_the_whole_mind_behind_a_pooler(url: str, embedding: LocalEmbedding, schema: str, user: str) -> None:
    async with NeuroMemory(url, embedding, schema=schema) as nm:
        await nm.ingest(user, "user", "I moved to Porto last week.", speaker="Anna")
        await nm.wait_idle(timeout=30)
        found = await nm.recall(user, "Where does Anna live?")
        assert found.merged[0].content == "I moved to Porto last week."
        assert found.merged[0].source == "conversation"


async def test_it_is_found_out_whether_a_pooler_stands_between(database_url: str, url: str) -> None:
    for address, direct in ((database_url, True), (url, False)):
        for _ in range(5):
            engine = await open_engine(address, pool_size=1)
            async with engine.connect() as connection:
                assert await is_direct(await driver_of(connection)) is direct
                assert await statements_have_names(connection) is direct
            await engine.dispose()


async def test_the_address_may_say_it(database_url: str, url: str) -> None:
    said = {
        f"{database_url}&pgbouncer=true": False,
        f"{database_url}&pgbouncer=false": True,
        f"{url}?pgbouncer=1": False,
        f"{url}?pgbouncer=TRUE&sslmode=disable": False,
    }
    for address, named in said.items():
        for engine in (await open_engine(address, pool_size=1), make_engine(address, pool_size=1)):
            async with engine.connect() as connection:
                assert await statements_have_names(connection) is named
            await engine.dispose()
    with pytest.raises(ConfigurationError, match=r"pgbouncer='maybe' .* accepted: pgbouncer=true"):
        await NeuroMemory(f"{url}?pgbouncer=maybe", HashEmbedding()).init()


async def test_every_call_works_behind_a_pooler(
    open_mind: OpenMind, url: str, user: str, storage: FolderStorage
) -> None:
    llm = law_digest.model(("porto",))
    mind = await open_mind(url, HashEmbedding(), llm=llm, storage=storage, auto_extract=False, background=False)
    world = await settle(mind, user)
    for name, arguments in READS.items():
        await call(mind, name, arguments(world))
    for number, (name, arguments) in enumerate(WRITES.items()):
        await call(mind, name, arguments(await settle(mind, f"{user}-{number}")))
    async with mind.transaction() as tx:
        await tx.add_memory(user, "in one transaction")
        await tx.kv.set("profile", user, "in", "the same")
    assert [hit.memory.content for hit in await mind.search(user, "transaction", limit=1)] == ["in one transaction"]


@dataclass(frozen=True)
class Answers:
    recalled: tuple[str, ...]
    home: tuple[str, ...]
    back: tuple[str, ...]


async def live(mind: NeuroMemory, user: str) -> Answers:
    """A short life: told something, has it extracted, asks, changes its mind, takes it back."""
    said = [f"fact: {user} owns boat {n}" for n in range(3)]
    await mind.conversations.add_messages_batch(user, [NewMessage("user", text) for text in said])
    await mind.ingest(user, "user", f"{user} -lives_in-> Porto")
    async with asyncio.timeout(60):
        while (await mind.extraction_status(user)).pending or (await mind.background_status(user)).waiting:
            await asyncio.sleep(0.05)
    recalled = await mind.recall(user, "boat", limit=5, memory_types=["fact"], include_conversations=False)
    before = datetime.now(UTC)
    await asyncio.gather(*(mind.kv.set("profile", user, f"key {n}", n) for n in range(3)))
    await mind.graph.create_edge(user, "person", user, "lives_in", "place", "Oslo")
    await mind.rollback(user, before)
    home = [fact.content for fact in await mind.graph.find_entity_facts(user, user)]
    values = await mind.kv.list("profile", user)
    return Answers(
        tuple(sorted(hit.memory.content for hit in recalled.vector_results)),
        tuple(home),
        tuple(item.key for item in values),
    )


async def test_twenty_clients_share_three_connections(
    pooler: PgBouncer, url: str, database_url: str, schema: str
) -> None:
    """Each is a program of its own, with two connections to the pooler; a worker does the rest for all."""
    with OpenAIServer(chat=answer) as models:
        llm = OpenAILLM(models.key, base_url=models.base_url)
        async with NeuroMemory(
            url, HashEmbedding(), llm, schema=schema, background=JobPolicy(poll=0.05), pool_size=4
        ) as worker:
            leave_it = {"extraction": ExtractionPolicy(), "background": False}
            minds = [NeuroMemory(url, HashEmbedding(), schema=schema, pool_size=2, **leave_it) for _ in range(20)]
            await asyncio.gather(*(mind.init() for mind in minds))
            try:
                people = [f"person{n}" for n in range(len(minds))]
                lives = asyncio.gather(*(live(mind, user) for mind, user in zip(minds, people, strict=True)))
                while not lives.done():
                    await worker.wait_idle(60)
                    await asyncio.sleep(0.05)
                for user, lived in zip(people, await lives, strict=True):
                    assert lived.recalled == tuple(f"{user} owns boat {n}" for n in range(3))
                    assert lived.home == (f"{user} lives in Porto",)
                    assert lived.back == ()
            finally:
                await asyncio.gather(*(mind.close() for mind in minds))
            assert (await worker.background_status()).failed == 0
    assert await left_behind(pooler) == [0, 0, 0]


async def test_a_message_is_stored_in_a_transaction(url: str, schema: str, user: str) -> None:
    """Without a pooler it is one statement in none; the driver runs that in two steps, which poolers may part."""
    async with NeuroMemory(url, HashEmbedding(), schema=schema, background=False, pool_size=1) as nm:
        sent: list[Any] = []
        async with nm._db.engine.connect() as connection:
            (await driver_of(connection)).add_query_logger(sent.append)
        await nm.ingest(user, "user", "in a transaction")
        await settled(nm)
        assert (sent[0].query, sent[-1].query) == ("BEGIN", "COMMIT")
        assert len(await nm.conversations.get_session_messages(user)) == 1


async def test_large_users_get_their_index_through_a_pooler(
    pooler: PgBouncer, url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_index, "OWN_ROWS", 500)
    async with NeuroMemory(url, HashEmbedding(), schema=schema, background=False) as mind:
        await mind.add_memories("anna", [f"memory {n}" for n in range(700)])
        async with mind._db.session() as session:
            await session.execute(text(f"ANALYZE {schema}.embeddings"))
        keeper = IndexKeeper(mind._db)
        assert await keeper.tend() == ["anna"]
        monkeypatch.setattr(own_index, "OWN_ROWS", 5_000)
        assert await keeper.tend() == []
        async with mind._db.read() as session:
            named = text("SELECT count(*) FROM pg_indexes WHERE schemaname = :s AND indexname LIKE 'own%'")
            assert await session.scalar(named, {"s": schema}) == 0
    assert await left_behind(pooler) == [0, 0, 0]


async def test_a_mind_goes_on_after_the_server_behind_the_pooler_was_started_anew() -> None:
    with short_tmp_dir() as folder:
        first = await EmbeddedPostgres.open(folder / "pg")
        await first.ensure_database("minds")
        async with (
            # Whom a server that is away keeps waiting is told in the end; by itself after two minutes.
            pgbouncer(first.socket_dir, query_wait_timeout=10) as pooler,
            NeuroMemory(pooler.url("minds"), HashEmbedding(), background=JobPolicy(poll=0.1)) as mind,
        ):
            await mind.add_memory("anna", "before the storm")
            os.kill(_postmaster(first.data_dir), signal.SIGKILL)
            with suppress(UnavailableError):  # the killed server's own processes may answer for a moment yet
                await asyncio.wait_for(mind.recall("anna", "storm"), 60)
            again = await EmbeddedPostgres.open(first.data_dir)
            try:
                found = await _once_it_is_back(lambda: mind.recall("anna", "storm"))
                assert [hit.content for hit in found.merged] == ["before the storm"]
                # The pooler has closed some of its clients' connections; each is noticed when it is used.
                await _once_it_is_back(lambda: mind.ingest("anna", "user", "after the storm", external_id="1"))
                await _once_it_is_back(mind.wait_idle)
                assert (await _once_it_is_back(mind.background_status)).failed == 0
            finally:
                await again.close()
        await first.close()


async def _once_it_is_back[T](call: Callable[[], Awaitable[T]]) -> T:
    """What a call gives as soon as the pooler has connected again, which it tries once a second."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except UnavailableError:
                await asyncio.sleep(0.1)


def _postmaster(data_dir: Path) -> int:
    return int((data_dir / "pgdata" / "postmaster.pid").read_text().split()[0])


def test_the_command_line_works_behind_a_pooler(url: str, schema: str, user: str) -> None:
    environment = {"NEUROMEM_DATABASE_URL": url, "NEUROMEM_SCHEMA": schema, "NEUROMEM_USER": user}
    assert command("add", "plays the cello", environment=environment).code == 0
    assert "plays the cello" in command("recall", "cello", environment=environment).out
    checks = {check["name"]: check for check in command("doctor", "--json", environment=environment).json["checks"]}
    assert checks["pooler"]["state"] == "ok"
    assert "in transaction mode" in checks["pooler"]["found"]


def test_a_backup_wants_the_server_s_own_address(url: str, tmp_path: Path) -> None:
    told = command("backup", str(tmp_path / "mind.dump"), "--database-url", url)
    assert told.code == 1
    assert "for backups give the server's own address" in told.err
    assert list(tmp_path.iterdir()) == []


async def test_omnimem_works_behind_a_pooler(pooler: PgBouncer, records_url: str, schema: str) -> None:
    """Reads and writes at once, which get other connections of the server's from one transaction to the next."""
    settings = Settings(pooler.url(records_url.partition("?")[0].rpartition("/")[2]), schema=schema)
    async with OmniMemClient.connect(settings, embedding=HashEmbedding(8)) as client:
        made = await asyncio.gather(*(client.create(f"apple {n}") for n in range(30)))
        for _ in range(5):
            read = await asyncio.gather(*(client.get(memory.memory_id) for memory in made))
            assert [found and found.record_id for found in read] == [memory.record_id for memory in made]
            found = await asyncio.gather(*(client.search("apple", limit=30) for _ in range(10)))
            assert {len(each) for each in found} == {30}
            made = await asyncio.gather(*(client.update(m.memory_id, content="apple again") for m in made))
        assert (await client.verify()).differences == ()
