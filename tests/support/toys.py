"""Tables of a test's own, beside no application: for the mechanisms of memground."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import MetaData, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from memground.postgres.engine import Query, make_engine
from memground.postgres.schema import extension


@asynccontextmanager
async def toy_tables(url: str, metadata: MetaData, *, pool_size: int = 5) -> AsyncGenerator[AsyncEngine]:
    """An engine on a database that has pgvector and, while the block runs, the tables."""
    engine = make_engine(url, pool_size=pool_size)
    async with engine.begin() as connection:
        await extension(connection, "vector")
        await connection.run_sync(metadata.create_all)
    try:
        yield engine
    finally:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.drop_all)
        await engine.dispose()


async def rows_of(connection: AsyncConnection, statement: Query, **values: Any) -> list[tuple[int, float]]:
    """What an arm found: (id, score)."""
    return [(row.id, row.score) for row in await connection.execute(statement, values)]


async def plan_of(connection: AsyncConnection, statement: Query, **values: Any) -> str:
    """EXPLAIN of a statement, with its parameters as they are bound."""

    def explained(_: object, __: object, sql: str, parameters: object, *rest: object) -> tuple[str, object]:
        return f"EXPLAIN {sql}", parameters

    event.listen(connection.sync_connection, "before_cursor_execute", explained, retval=True)
    try:
        return "\n".join(row[0] for row in await connection.execute(statement, values))
    finally:
        event.remove(connection.sync_connection, "before_cursor_execute", explained)
