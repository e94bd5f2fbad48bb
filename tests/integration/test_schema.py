"""The migrations make exactly what the models say, and what the seed asks for."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateSchema

from memground.errors import ConfigurationError
from memground.postgres.embedded import EmbeddedPostgres
from memground.postgres.engine import make_engine
from memground.postgres.schema import VERSION_TABLE, extension, migrate, revision
from neuromem import NeuroMemory
from neuromem.migrations import MIGRATIONS
from neuromem.models import build_tables
from support.embeddings import HashEmbedding

type Connection = asyncpg.Connection[asyncpg.Record]

COLUMNS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
           pg_get_expr(d.adbin, d.adrelid), a.attnum, a.attstorage::text
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, contype::text, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = $1::regnamespace
"""
INDEXES = """
    SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisunique, i.indisprimary, i.indisvalid
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = $1::regnamespace
"""
OTHERS = """
    SELECT relname, relkind::text FROM pg_class WHERE relnamespace = $1::regnamespace
"""


@pytest.fixture(scope="module")
async def url(server: EmbeddedPostgres) -> str:
    await server.ensure_database("schemas")
    return server.url("schemas")


@pytest.fixture(scope="module")
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(url)
    async with engine.begin() as connection:
        assert await extension(connection, "vector")
    yield engine
    await engine.dispose()


@pytest.fixture(scope="module")
async def catalog(url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def described(catalog: Connection, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    """All there is in a schema, but its name and the table of versions."""

    def plain(value: Any) -> Any:
        return value.replace(f"{schema}.", "") if isinstance(value, str) else value

    found: dict[str, list[tuple[Any, ...]]] = {}
    for query in (COLUMNS, CONSTRAINTS, INDEXES, OTHERS):
        rows = [tuple(plain(value) for value in row.values()) for row in await catalog.fetch(query, schema)]
        found[query] = sorted(row for row in rows if not any(VERSION_TABLE in str(value) for value in row))
    return found


@pytest.mark.seed("9.2", "migration: one step makes all tables")
@pytest.mark.parametrize("dims", [32, 384, 3072, 4100])
async def test_migrating_makes_what_the_models_say(engine: AsyncEngine, catalog: Connection, dims: int) -> None:
    migrated, created = f"m_{dims}", f"c_{dims}"
    await migrate(engine, MIGRATIONS, migrated, {"dims": dims})
    async with engine.begin() as connection:
        await connection.execute(CreateSchema(created))
        await connection.run_sync(build_tables(dims, created).metadata.create_all)
    by_scripts, by_models = await described(catalog, migrated), await described(catalog, created)
    for query, rows in by_models.items():
        assert by_scripts[query] == rows
    assert len({row[0] for row in by_models[COLUMNS]}) == 13
    # In the row as long as it fits there, however long the text beside it: a scan reads it at once.
    vector = (f"halfvec({dims})", "m" if dims <= 2_000 else "e")
    kept = {row[:2]: (row[2], row[-1]) for row in by_models[COLUMNS] if row[1] == "embedding"}
    assert kept == {("embeddings", "embedding"): vector, ("conversation_embeddings", "embedding"): vector}


async def test_the_head_is_the_newest_script() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS.location))
    assert scripts.get_heads() == [MIGRATIONS.head]
    assert scripts.get_bases() == ["0001"]


async def test_a_current_schema_is_left_alone(engine: AsyncEngine) -> None:
    for _ in range(2):
        await migrate(engine, MIGRATIONS, "left alone", {"dims": 32})
        async with engine.connect() as connection:
            assert await revision(connection, "left alone") == MIGRATIONS.head


async def test_a_schema_of_a_newer_program_is_refused_and_kept(url: str, engine: AsyncEngine, schema: str) -> None:
    async with NeuroMemory(url, HashEmbedding(), schema=schema) as mind:
        await mind.add_memory("anna", "lives in Porto")
    async with engine.begin() as connection:
        await connection.execute(text(f"UPDATE {schema}.{VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match=rf"'{schema}' was made by a newer version.*upgrade the package"):
        await NeuroMemory(url, HashEmbedding(), schema=schema).init()
    async with engine.begin() as connection:
        assert await revision(connection, schema) == "9999"
        assert await connection.scalar(text(f"SELECT count(*) FROM {schema}.embeddings")) == 1


EARLY = {
    "bm25": """
        CREATE INDEX idx_emb_bm25 ON {s}.embeddings USING bm25 (id, (content::pdb.simple('alias=english')),
            (user_id::pdb.literal), known_from, known_to) WITH (key_field='id', mutable_segment_rows=20);
        CREATE INDEX idx_conv_bm25 ON {s}.conversations USING bm25 (id, content) WITH (key_field='id')""",
    "tsvector": """
        CREATE INDEX idx_emb_bm25 ON {s}.embeddings USING gin (to_tsvector('english'::regconfig, content));
        CREATE INDEX idx_conv_bm25 ON {s}.conversations USING gin (to_tsvector('english'::regconfig, content))""",
}
"""What the first migration, as it once was, made beside what it makes now."""

ROW = "gen_random_uuid(), {key}, 1, '2025-01-01', {end}, '2025-01-01', 'user', {closed}, '2025-01-01', 'anna'"
THEN = datetime(2025, 2, 1, tzinfo=UTC)


async def early_database(engine: AsyncEngine, catalog: Connection, schema: str, keywords: str, model: Any) -> None:
    """A database as an early version left it, with rows that it wrote."""
    await migrate(engine, replace(MIGRATIONS, head="0001"), schema, {"dims": model.dims})
    quoted = f'"{schema}"'

    async def write(table: str, columns: str, values: str, *parameters: Any, ended: bool = False) -> None:
        row = ROW.format(
            key=f"'{uuid.uuid4()}'" if table != "conversation_embeddings" else "$1::uuid",
            end="'2025-03-01'" if ended else "NULL",
            closed="'user'" if ended else "NULL",
        )
        key = "memory_id" if table == "embeddings" else "message_id"
        names = f"id, {key}, version, known_from, known_to, recorded_at, origin, closed_origin, created_at, user_id"
        await catalog.execute(
            f"INSERT INTO {quoted}.{table} ({names}, {columns}) VALUES ({row}, {values})", *parameters
        )

    await catalog.execute(EARLY[keywords].format(s=quoted))
    await catalog.execute(f"CREATE UNLOGGED TABLE {quoted}.crash_witness (since timestamptz NOT NULL)")
    meta = {"keyword_engine": f'"{keywords}"', "embedding_model": f'"{model.model_id}"', "dims": str(model.dims)}
    for item in meta.items():
        await catalog.execute(f"INSERT INTO {quoted}.meta VALUES ($1, $2::text::jsonb)", *item)
    for content, ended in (("keeps bees", False), ("她喜欢四川火锅", False), ("lived in Oslo", True)):
        vector = str(await model.embed(content))
        values = "$1, $2::text::vector, '{}', 5, '2025-01-01'"
        columns = "content, embedding, metadata_, importance, event_at"
        await write("embeddings", columns, values, content, vector, ended=ended)
    said = "session_id, seq, role, speaker, content, metadata_, event_at, question_share"
    await write("conversations", said, "'s1', 1, 'user', 'Zoe', 'the order is TP-1364', '{}', '2025-01-01', 0")
    await write("conversations", said, "'s1', 2, 'user', NULL, 'lighthouse', '{}', '2025-01-01', 0")
    for message_id, content in await catalog.fetch(f"SELECT message_id, content FROM {quoted}.conversations"):
        vector = str(await model.embed(content))
        await write("conversation_embeddings", "embedding", "$2::text::vector", message_id, vector)


@pytest.mark.parametrize(("keywords", "dims"), [("bm25", 32), ("tsvector", 2_100), ("tsvector", 4_100)])
async def test_an_early_database_is_brought_up_to_date(
    url: str, engine: AsyncEngine, catalog: Connection, keywords: str, dims: int
) -> None:
    """Vectors in full precision and an index of words by another engine become what they are in a new database."""
    async with engine.begin() as connection:
        assert await extension(connection, "pg_search")
    model, schema, new = HashEmbedding(dims), f"Early.{keywords} :{dims}%", f"new_{keywords}_{dims}"
    await early_database(engine, catalog, schema, keywords, model)
    async with NeuroMemory(url, model, schema=schema) as mind:
        await mind.add_memory("anna", "plays the cello")
        for view in (mind, mind.as_of(THEN)):
            for query, content in (("bee", "keeps bees"), ("火锅", "她喜欢四川火锅")):
                hit = (await view.search("anna", query, query_embedding=await model.embed(content), explain=True))[0]
                assert hit.memory.content == content
                assert hit.explanation is not None
                assert (hit.explanation.vector_rank, hit.explanation.keyword_rank) == (1, 1)
                assert hit.explanation.vector_score == pytest.approx(1.0, abs=1e-3)
            for query, content in (("TP1364 zoe", "the order is TP-1364"), ("lighthouses", "lighthouse")):
                turn = (await view.recall("anna", query, explain=True)).conversation_results[0]
                assert turn.message.content == content
                assert turn.explanation is not None
                assert turn.explanation.keyword_rank == 1
        ended = [hit.memory.content for hit in await mind.search("anna", "Oslo", as_of=THEN)]
        assert ended[0] == "lived in Oslo"
        assert "lived in Oslo" not in [hit.memory.content for hit in await mind.search("anna", "Oslo")]
    assert await catalog.fetchval(f"SELECT count(*) FROM \"{schema}\".meta WHERE key = 'keyword_engine'") == 0
    await migrate(engine, MIGRATIONS, new, {"dims": dims})
    upgraded, made = await described(catalog, f'"{schema}"'), await described(catalog, new)
    assert upgraded == made


async def test_the_database_has_the_seed_s_indexes_and_defaults(engine: AsyncEngine, catalog: Connection) -> None:
    """The names of all columns are held by `tests/meta/test_seed_names.py`, against the models."""
    await migrate(engine, MIGRATIONS, "seed", {"dims": 1024})
    found = await described(catalog, "seed")
    indexes = {row[0]: row[1] for row in found[INDEXES]}
    # The seed writes VECTOR(1024) and vector_cosine_ops. In half precision a search takes a third of the time and the
    # index half the room; a cosine changes in its fourth digit, and HNSW reaches to 4,000 dimensions instead of 2,000.
    vector = "CREATE INDEX idx_emb_vector ON embeddings USING hnsw (embedding halfvec_cosine_ops)"
    assert indexes["idx_emb_vector"] == f"{vector} WITH (m='10', ef_construction='80')"
    assert indexes["ix_emb_user"] == "CREATE INDEX ix_emb_user ON embeddings USING btree (user_id)"
    columns = {row[:2]: (row[2], row[6]) for row in found[COLUMNS]}
    assert columns["embeddings", "embedding"] == ("halfvec(1024)", None)
    assert columns["embeddings", "memory_type"] == ("character varying(50)", "'general'::character varying")
    assert columns["documents", "category"] == ("character varying(100)", "'general'::character varying")
    assert columns["conversation_sessions", "message_count"] == ("integer", "0")
    assert columns["conversations", "extracted"] == ("boolean", "false")
    # Unique among what is current: the seed's UNIQUE, with history beside it.
    assert indexes["uq_kv_name"].endswith("(namespace, scope_id, key) WHERE (known_to IS NULL)")
    assert indexes["uq_session"].endswith("(user_id, session_id)")
