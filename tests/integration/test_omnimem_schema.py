"""omnimem's migrations make exactly what its tables say, and what the architecture document asks for."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateSchema

from memground.errors import ConfigurationError
from memground.postgres.engine import make_engine
from memground.postgres.schema import VERSION_TABLE, extension, migrate
from omnimem import OmniMemClient, Scope, Settings
from omnimem.migrations import MIGRATIONS
from omnimem.storage.postgres.tables import VIEW, build_tables
from support.embeddings import HashEmbedding

type Connection = asyncpg.Connection[asyncpg.Record]

QUERIES = (
    """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
           pg_get_expr(d.adbin, d.adrelid), a.attnum, a.attstorage::text
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
    """,
    """
    SELECT conrelid::regclass::text, conname, contype::text, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = $1::regnamespace
    """,
    """
    SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisunique, i.indisprimary, i.indisvalid
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = $1::regnamespace
    """,
    "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = $1::regnamespace",
)


@pytest.fixture
async def engine(records_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(records_url)
    async with engine.begin() as connection:
        assert await extension(connection, "vector")
    yield engine
    await engine.dispose()


@pytest.fixture
async def catalog(records_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(records_url)
    yield connection
    await connection.close()


async def described(catalog: Connection, schema: str) -> list[list[tuple[Any, ...]]]:
    """All there is in a schema, but its name, the table of versions and the view."""

    def plain(value: Any) -> Any:
        return value.replace(f"{schema}.", "") if isinstance(value, str) else value

    found: list[list[tuple[Any, ...]]] = []
    for query in QUERIES:
        rows = [tuple(plain(value) for value in row.values()) for row in await catalog.fetch(query, schema)]
        hidden = (VERSION_TABLE, VIEW)
        found.append(sorted(row for row in rows if not any(name in str(value) for value in row for name in hidden)))
    return found


@pytest.mark.parametrize("dims", [32, 3072, 4100])
async def test_migrating_makes_what_the_tables_say(engine: AsyncEngine, catalog: Connection, dims: int) -> None:
    migrated, created = f"om_{dims}", f"oc_{dims}"
    await migrate(engine, MIGRATIONS, migrated, {"dims": dims})
    async with engine.begin() as connection:
        await connection.execute(CreateSchema(created))
        await connection.run_sync(build_tables(dims, created).metadata.create_all)
    for by_scripts, by_tables in zip(
        await described(catalog, migrated), await described(catalog, created), strict=True
    ):
        assert by_scripts == by_tables
    columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2"
    in_view = {row[0] for row in await catalog.fetch(columns, migrated, VIEW)}
    assert in_view == {column.name for column in build_tables(dims, migrated).keywords_ever.columns}


async def test_the_head_is_the_newest_script() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS.location))
    assert scripts.get_heads() == [MIGRATIONS.head]
    assert scripts.get_bases() == ["0001"]


async def test_any_name_of_a_schema_works(records_url: str) -> None:
    settings = Settings(records_url, schema='Odd "name" :x%')
    async with OmniMemClient.connect(settings, embedding=HashEmbedding()) as client:
        memory = await client.create("in an odd place")
        await client.update(memory.memory_id, content="still in an odd place")
        assert len(await client.search("odd", as_of=memory.created_time)) == 1
        assert (await client.verify()).count == 0
    for wrong in ("pg_mine", "information_schema", "x" * 64):
        with pytest.raises((ConfigurationError, ValueError)):
            await OmniMemClient.connect(Settings(records_url, schema=wrong), embedding=HashEmbedding())


async def test_memories_are_stored_flat(record: OmniMemClient, catalog: Connection) -> None:
    memory = await record.create("text", scope=Scope(user_id="u", namespace={"project": "o", "env": "prod"}))
    row = await catalog.fetchrow("SELECT * FROM omnimem.memories WHERE memory_id = $1", memory.memory_id)
    assert row is not None
    assert row["is_latest"]
    assert (row["scope_tenant_id"], row["scope_user_id"], row["scope_app_id"]) == (record.scope.tenant_id, "u", None)
    assert row["scope_tags"] == ["ns.env:prod", "ns.project:o"]
    assert (row["text"], row["version"], row["created_time"]) == ("text", memory.version, memory.created_time)
    vectors = await catalog.fetch("SELECT * FROM omnimem.memory_vector_index WHERE memory_id = $1", memory.memory_id)
    assert [(v["field_name"], v["record_id"], v["scope_user_id"]) for v in vectors] == [("text", memory.record_id, "u")]
