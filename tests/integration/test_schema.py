"""The migrations make exactly what the models say, and what the seed asks for."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateSchema

from memground.errors import ConfigurationError
from memground.postgres.arms import KeywordEngine
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
           pg_get_expr(d.adbin, d.adrelid), a.attnum
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
        for name in ("vector", "pg_search"):
            assert await extension(connection, name)
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


@pytest.mark.parametrize("dims", [32, 384, 3072, 4100])
@pytest.mark.parametrize("keywords", KeywordEngine)
async def test_migrating_makes_what_the_models_say(
    engine: AsyncEngine, catalog: Connection, dims: int, keywords: KeywordEngine
) -> None:
    migrated, created = f"m_{keywords}_{dims}", f"c_{keywords}_{dims}"
    await migrate(engine, MIGRATIONS, migrated, {"dims": dims, "keyword_engine": keywords})
    async with engine.begin() as connection:
        await connection.execute(CreateSchema(created))
        await connection.run_sync(build_tables(dims, created, keywords).metadata.create_all)
    by_scripts, by_models = await described(catalog, migrated), await described(catalog, created)
    for query, rows in by_models.items():
        assert by_scripts[query] == rows
    assert len({row[0] for row in by_models[COLUMNS]}) == 13
    assert ("embeddings", "embedding", f"vector({dims})") in {row[:3] for row in by_models[COLUMNS]}


async def test_the_head_is_the_newest_script() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS.location))
    assert scripts.get_heads() == [MIGRATIONS.head]
    assert scripts.get_bases() == ["0001"]


async def test_a_current_schema_is_left_alone(engine: AsyncEngine) -> None:
    attributes = {"dims": 32, "keyword_engine": KeywordEngine.TSVECTOR}
    for _ in range(2):
        await migrate(engine, MIGRATIONS, "left alone", attributes)
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


async def test_the_database_has_the_seed_s_indexes_and_defaults(engine: AsyncEngine, catalog: Connection) -> None:
    """The names of all columns are held by `tests/meta/test_seed_names.py`, against the models."""
    await migrate(engine, MIGRATIONS, "seed", {"dims": 1024, "keyword_engine": KeywordEngine.BM25})
    found = await described(catalog, "seed")
    indexes = {row[0]: row[1] for row in found[INDEXES]}
    assert (
        indexes["idx_emb_vector"]
        == "CREATE INDEX idx_emb_vector ON embeddings USING hnsw (embedding vector_cosine_ops)"
    )
    assert indexes["ix_emb_user"] == "CREATE INDEX ix_emb_user ON embeddings USING btree (user_id)"
    columns = {row[:2]: (row[2], row[6]) for row in found[COLUMNS]}
    assert columns["embeddings", "embedding"] == ("vector(1024)", None)
    assert columns["embeddings", "memory_type"] == ("character varying(50)", "'general'::character varying")
    assert columns["documents", "category"] == ("character varying(100)", "'general'::character varying")
    assert columns["conversation_sessions", "message_count"] == ("integer", "0")
    assert columns["conversations", "extracted"] == ("boolean", "false")
    # Unique among what is current: the seed's UNIQUE, with history beside it.
    assert indexes["uq_kv_name"].endswith("(namespace, scope_id, key) WHERE (known_to IS NULL)")
    assert indexes["uq_session"].endswith("(user_id, session_id)")
