"""Where a mind may live: several in one process, several processes on one server, beside a host's own tables."""

import asyncio
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from memground.postgres.embedded import EmbeddedPostgres
from neuromem import ConfigurationError, ModelMismatchError, NeuroMemory
from support.embedded import short_tmp_dir
from support.embeddings import HashEmbedding

type OpenMind = Callable[..., Awaitable[NeuroMemory]]
type Execute = Callable[..., Awaitable[list[asyncpg.Record]]]

FACTS = ["lives in Porto near the river", "keeps bees on the roof", "plays the cello badly", "她喜欢吃四川火锅"]


@pytest.fixture(scope="module")
async def execute(server: EmbeddedPostgres) -> AsyncIterator[Execute]:
    """Runs statements as the server's administrator in a database; gives the rows of the last."""
    connections: dict[str, asyncpg.Connection[asyncpg.Record]] = {}

    async def execute(database: str, *statements: str) -> list[asyncpg.Record]:
        await server.ensure_database(database)
        if database not in connections:
            connections[database] = await asyncpg.connect(server.url(database))
        rows: list[asyncpg.Record] = []
        for statement in statements:
            rows = await connections[database].fetch(statement)
        return rows

    yield execute
    for connection in connections.values():
        await connection.close()


async def remembers(mind: NeuroMemory, user: str) -> None:
    """Stores facts and a turn, and finds each by recall."""
    await mind.add_memories(user, FACTS)
    await mind.ingest(user, "user", "the bees swarmed yesterday")
    await mind.wait_idle(20)
    for fact in FACTS:
        assert (await mind.recall(user, fact, include_conversations=False)).merged[0].content == fact
    turns = (await mind.recall(user, "bees swarmed", explain=True)).conversation_results
    assert turns[0].explanation is not None
    assert turns[0].explanation.vector_rank == turns[0].explanation.keyword_rank == 1


@pytest.mark.seed("3.2", "providers are given to the constructor, none is global", "llm and storage may be left out")
@pytest.mark.seed("3.4", "the dimension of vectors is the provider's, known when the program runs")
async def test_minds_of_different_dimensions_live_in_one_process(
    server: EmbeddedPostgres, schema: str, user: str, execute: Execute
) -> None:
    places = {32: "dims_a", 1536: "dims_b", 3072: "dims_a", 4100: "dims_b"}
    async with AsyncExitStack() as stack:
        minds: list[NeuroMemory] = []
        for dims, database in places.items():
            await server.ensure_database(database)
            mind = NeuroMemory(server.url(database), HashEmbedding(dims), schema=f"{schema}_{dims}")
            minds.append(await stack.enter_async_context(mind))
        await asyncio.gather(*(remembers(mind, user) for mind in minds))
    kinds: dict[int, str | None] = {}
    for dims, database in places.items():
        rows = await execute(
            database,
            f"SELECT indexdef FROM pg_indexes WHERE schemaname = '{schema}_{dims}' AND indexname = 'idx_emb_vector'",
        )
        kinds[dims] = rows[0]["indexdef"].split("hnsw ")[1] if rows else None
    index = "(embedding halfvec_cosine_ops) WITH (m='10', ef_construction='80')"
    assert kinds == {
        32: index,
        1536: index,
        3072: index,
        4100: None,  # more than HNSW takes: every search is exact
    }


PROGRAM = """
    import asyncio, sys
    from neuromem import NeuroMemory
    from support.embeddings import HashEmbedding

    async def main(url, name):
        async with NeuroMemory(url, HashEmbedding()) as mind:
            await mind.ingest("anna", "user", "greetings from " + name)
            for _ in range(400):
                said = await mind.conversations.get_session_messages("anna")
                found = await mind.recall("anna", "greetings")
                if len(said) == len(found.merged) == 2 and (await mind.background_status()).waiting == 0:
                    break
                await asyncio.sleep(0.05)
            print(sorted(message.content for message in said), [message.seq for message in said])

    asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_start_at_once_on_one_new_folder() -> None:
    """Both create the cluster, the database and the tables, one after the other; both see what the other writes."""
    with short_tmp_dir() as folder:
        programs = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", textwrap.dedent(PROGRAM), f"embedded://{folder}/data", name),
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            for name in ("left", "right")
        ]
        try:
            outputs = await asyncio.wait_for(asyncio.gather(*(program.communicate() for program in programs)), 60)
        finally:
            for program in programs:
                if program.returncode is None:
                    program.kill()
    expected = "['greetings from left', 'greetings from right'] [1, 2]\n"
    assert [(out.decode(), err.decode()) for out, err in outputs] == [(expected, "")] * 2


async def test_many_first_starts_at_once(database_url: str, schema: str, user: str) -> None:
    minds = [NeuroMemory(database_url, HashEmbedding(), schema=schema, pool_size=2) for _ in range(4)]
    try:
        await asyncio.gather(*(mind.init() for mind in minds))
        await minds[0].add_memory(user, "lives in Porto")
        assert [(await mind.recall(user, "Porto")).merged[0].content for mind in minds] == ["lives in Porto"] * 4
    finally:
        for mind in minds:
            await mind.close()


HOSTS = ("documents", "conversations", "embeddings", "jobs", "meta", "alembic_version")


async def test_a_host_application_s_tables_of_the_same_names_stay_untouched(
    server: EmbeddedPostgres, user: str, execute: Execute
) -> None:
    for table in HOSTS:
        await execute(
            "host",
            f"CREATE TABLE public.{table} (id int PRIMARY KEY, version_num text NOT NULL)",
            f"INSERT INTO public.{table} VALUES (1, 'ours')",
        )
    catalog = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public'"
    objects = await execute("host", catalog)
    async with NeuroMemory(server.url("host"), HashEmbedding()) as mind:
        await remembers(mind, user)
    for table in HOSTS:
        assert [tuple(row) for row in await execute("host", f"SELECT * FROM public.{table}")] == [(1, "ours")]
    assert await execute("host", catalog) == objects

    with pytest.raises(ConfigurationError, match="'public'"):
        await NeuroMemory(server.url("host"), HashEmbedding(), schema="public").init()
    assert await execute("host", catalog) == objects


@pytest.mark.parametrize("other", [HashEmbedding(32, "other"), HashEmbedding(64)])
async def test_another_model_is_refused_by_both_names(open_mind: OpenMind, user: str, other: HashEmbedding) -> None:
    mind = await open_mind(embedding=HashEmbedding(32))
    await mind.add_memory(user, "lives in Porto")
    with pytest.raises(ModelMismatchError) as caught:
        await open_mind(embedding=other)
    for said in ("hash-32", "32 dimensions", other.model_id, f"{other.dims} dimensions", mind._db.schema):
        assert said in str(caught.value)
    again = await open_mind(embedding=HashEmbedding(32))
    assert (await again.recall(user, "Porto")).merged[0].content == "lives in Porto"


@pytest.mark.parametrize("name", ['My "Schema", it\'s 50%', "%(x)s a.b:c\\d", "select", "日本語", "x" * 63])
async def test_odd_schema_names_work(database_url: str, name: str, user: str) -> None:
    for start in ("first", "second"):
        async with NeuroMemory(database_url, HashEmbedding(), schema=name) as mind:
            await mind.add_memory(user, f"{start} start in {name}")
            await mind.ingest(user, "user", f"{start} turn")
            await mind.wait_idle(10)
    async with NeuroMemory(database_url, HashEmbedding(), schema=name) as mind:
        assert len((await mind.recall(user, "start turn")).merged) == 4


BY_WORD = {"keeping a bee": FACTS[1], "cellos": FACTS[2], "火锅": FACTS[3], "她想吃什么火锅": FACTS[3]}


async def test_pgvector_is_all_a_server_needs(server: EmbeddedPostgres, user: str, execute: Execute) -> None:
    """As on a managed server: pgvector is there, and the login owns its database but is no administrator."""
    administrator = ["CREATE EXTENSION vector", "CREATE ROLE tenant LOGIN", "ALTER DATABASE managed OWNER TO tenant"]
    await execute("managed", *administrator)
    url = server.url("managed").replace("postgres@", "tenant@")
    async with NeuroMemory(url, HashEmbedding()) as mind:
        await mind.ingest(user, "user", "我在学陶艺")
        await remembers(mind, user)
        for query, fact in BY_WORD.items():
            hits = {hit.memory.content: hit.explanation for hit in await mind.search(user, query, explain=True)}
            explanation = hits[fact]
            assert explanation is not None
            assert explanation.keyword_rank == 1
        assert (await mind.recall(user, "陶艺")).conversation_results[0].message.content == "我在学陶艺"
    extensions = await execute("managed", "SELECT extname FROM pg_extension ORDER BY extname")
    assert [row["extname"] for row in extensions] == ["plpgsql", "vector"]
