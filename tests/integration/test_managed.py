"""A PostgreSQL as a provider rents it out: no administrator's rights, no extension but pgvector, TLS."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from memground.embedding import LocalEmbedding
from memground.postgres.embedded import EmbeddedPostgres
from neuromem import ConfigurationError, MemoryStoreError, NeuroMemory, UnavailableError
from support import law_digest
from support.calls import READS, WRITES, call, settle
from support.command import command
from support.embeddings import HashEmbedding
from support.pgbouncer import pgbouncer
from support.storages import FolderStorage
from support.tls import TlsServer, tls_server


async def made_by_an_administrator(server: EmbeddedPostgres, database: str, *statements: str) -> str:
    """A database in which `statements` were run, and its address for a login that may only create schemas there."""
    await server.ensure_database(database)
    connection = await asyncpg.connect(server.url(database))
    login = f"plain_{database}"
    await connection.execute(f"CREATE ROLE {login} LOGIN NOSUPERUSER")
    for statement in (f"GRANT CREATE ON DATABASE {database} TO {login}", *statements):
        await connection.execute(statement)
    await connection.close()
    return server.url(database).replace("postgres@", f"{login}@")


@pytest.fixture(scope="module")
async def rented(server: EmbeddedPostgres) -> str:
    return await made_by_an_administrator(server, "rented", "CREATE EXTENSION vector")


@pytest.mark.seed("8.2", "a rented PostgreSQL with pgvector is all that is deployed")
@pytest.mark.seed("9.3", "a rented PostgreSQL and the package are the whole system")
async def test_the_whole_mind_with_a_plain_login_and_pgvector_alone(
    rented: str, embedding: LocalEmbedding, user: str
) -> None:
    async with NeuroMemory(rented, embedding, schema="whole") as nm:
        await nm.ingest(user, "user", "I moved to Porto last week.", speaker="Anna")
        await nm.add_memory(user, "flight TP-1364 leaves at noon")
        await nm.wait_idle(timeout=30)
        assert (await nm.recall(user, "Where does Anna live?")).merged[0].content == "I moved to Porto last week."
        assert (await nm.search(user, "TP-1364"))[0].memory.content == "flight TP-1364 leaves at noon"


async def test_every_call_works_with_a_plain_login(rented: str, user: str, storage: FolderStorage) -> None:
    llm = law_digest.model(("porto",))
    async with NeuroMemory(
        rented, HashEmbedding(), llm, storage, schema="calls", auto_extract=False, background=False
    ) as mind:
        world = await settle(mind, user)
        for name, arguments in READS.items():
            await call(mind, name, arguments(world))
        for number, (name, arguments) in enumerate(WRITES.items()):
            await call(mind, name, arguments(await settle(mind, f"{user}-{number}")))


@pytest.mark.seed("9.2", "monitoring: one PostgreSQL tells everything")
async def test_the_doctor_tells_what_is_there(rented: str) -> None:
    async with NeuroMemory(rented, HashEmbedding(), schema="examined"):
        pass
    told = (await asyncio.to_thread(command, "doctor", "--json", "--database-url", rented, "--schema", "examined")).json
    states = {check["name"]: (check["state"], check["found"]) for check in told["checks"]}
    assert states["pgvector"][0] == "ok"
    assert states["keyword engine"] == ("ok", "BM25 over each user's own words (GIN)")
    assert states["schema"][0] == "ok"
    assert "pooler" not in states


async def test_without_pgvector_and_without_the_right_to_create_it(server: EmbeddedPostgres) -> None:
    url = await made_by_an_administrator(server, "bare")
    with pytest.raises(ConfigurationError, match=r"offers no extension 'vector'|may not create the extension"):
        await NeuroMemory(url, HashEmbedding()).init()
    told = await asyncio.to_thread(command, "doctor", "--json", "--database-url", url)
    assert told.code == 1 or told.json["checks"]


async def test_a_login_that_may_create_nothing_is_told_so_and_needs_nothing_later(server: EmbeddedPostgres) -> None:
    url = await made_by_an_administrator(
        server, "kept_small", "CREATE EXTENSION vector", "REVOKE CREATE ON DATABASE kept_small FROM plain_kept_small"
    )
    with pytest.raises(ConfigurationError, match=r"this login may not create or change schema 'neuromem'"):
        await NeuroMemory(url, HashEmbedding()).init()
    # Somebody else makes the schema; the program's login gets the rights the how-to names.
    async with NeuroMemory(server.url("kept_small"), HashEmbedding()):
        pass
    rights = (
        "GRANT USAGE ON SCHEMA neuromem TO plain_kept_small",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA neuromem TO plain_kept_small",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA neuromem TO plain_kept_small",
    )
    administrator = await asyncpg.connect(server.url("kept_small"))
    for right in rights:
        await administrator.execute(right)
    await administrator.close()
    async with NeuroMemory(url, HashEmbedding()) as mind:
        await mind.ingest("anna", "user", "I moved to Porto")
        await mind.wait_idle(10)
        assert [hit.content for hit in (await mind.recall("anna", "Porto")).merged] == ["I moved to Porto"]


async def test_an_older_pgvector_compares_all_rows_and_the_doctor_says_so(server: EmbeddedPostgres) -> None:
    """0.7 has no iterative scans. What the server says of its version counts; the library here is a newer one."""
    older = "UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'"
    url = await made_by_an_administrator(server, "older", "CREATE EXTENSION vector", older)
    async with NeuroMemory(url, HashEmbedding()) as mind:
        await mind.add_memories("anna", [f"memory {n}" for n in range(50)])
        hits = await mind.search("anna", "memory 7", explain=True)
        assert hits[0].memory.content == "memory 7"
    told = (await asyncio.to_thread(command, "doctor", "--json", "--database-url", url)).json
    found = next(check for check in told["checks"] if check["name"] == "pgvector")
    assert (found["state"], found["found"]) == ("warn", "0.7.4")


@pytest.fixture(scope="module")
async def encrypted(server: EmbeddedPostgres, database_url: str) -> AsyncIterator[TlsServer]:
    async with tls_server(server.socket_dir) as encrypted:
        yield encrypted


def address(server: TlsServer, options: str, *, host: str = "localhost", password: str = "s3cret") -> str:
    return f"postgresql://tenant:{password}@{host}:{server.port}/minds?{options}"


@pytest.mark.parametrize("mode", ["require", "prefer", "verify-ca", "verify-full"])
async def test_tls_in_every_mode(encrypted: TlsServer, mode: str, user: str) -> None:
    options = f"sslmode={mode}" + (f"&sslrootcert={encrypted.certificate}" if mode.startswith("verify") else "")
    async with NeuroMemory(address(encrypted, options), HashEmbedding(), schema="encrypted") as mind:
        await mind.add_memory(user, "plays the cello")
        assert (await mind.search(user, "cello"))[0].memory.content == "plays the cello"
        assert "s3cret" not in mind._db.location


async def complaint(url: str) -> MemoryStoreError:
    with pytest.raises(MemoryStoreError) as caught:
        await NeuroMemory(url, HashEmbedding()).init()
    assert "s3cret" not in str(caught.value)
    return caught.value


async def test_tls_that_cannot_be_trusted_is_refused(encrypted: TlsServer) -> None:
    stranger = await complaint(address(encrypted, f"sslmode=verify-full&sslrootcert={encrypted.other}"))
    assert isinstance(stranger, ConfigurationError)
    assert "certificate" in str(stranger)
    missing = await complaint(address(encrypted, "sslmode=verify-full&sslrootcert=/nowhere/root.crt"))
    assert "/nowhere/root.crt" in str(missing)
    plain = await complaint(address(encrypted, "sslmode=disable"))
    assert "SSL required" in str(plain)
    wrong = await complaint(address(encrypted, "sslmode=require", password="s3cret-not"))
    assert isinstance(wrong, ConfigurationError)
    assert "refused the login" in str(wrong)


async def test_a_server_without_tls_is_refused_where_it_is_required(server: EmbeddedPostgres) -> None:
    async with pgbouncer(server.socket_dir) as plain:
        error = await complaint(f"{plain.url('minds')}?sslmode=require")
    assert isinstance(error, UnavailableError)
    assert "SSL" in str(error)
