"""Doing what only one may do at a time: under a name, or with tables that others use."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import Table, func, select, text
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from memground.errors import ConflictError, UnavailableError
from memground.postgres.engine import TIMED_OUT, advisory_key, reporting, sqlstate

_LOCK_WAIT = "500ms"  # shorter than PostgreSQL's deadlock_timeout: whoever works goes first
_LOCK_TRIES = 60
_PAUSE = 0.5


@asynccontextmanager
async def alone(engine: AsyncEngine, url: str, name: str, taken: str) -> AsyncGenerator[None]:
    """Keeps other programs from doing the same while the block runs; the lock ends with this program's connection.

    Raises ConflictError, saying `taken`, where another one does it now.
    """
    with reporting(url):
        async with engine.connect() as connection:
            if not await connection.scalar(select(func.pg_try_advisory_xact_lock(advisory_key(name)))):
                raise ConflictError(taken)
            # Waits as long as the work takes. Needs no snapshot, and ends that of the statement before: an index that
            # is built concurrently would wait for it for ever.
            await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            yield


async def locking[T](engine: AsyncEngine, tables: Sequence[Table], act: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Runs `act` in a transaction that has tables for itself, and lets go whenever others would wait for long.

    Raises UnavailableError where others never leave the tables alone.
    """
    for _ in range(_LOCK_TRIES):
        try:
            async with engine.begin() as connection:
                await connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'"))
                if tables:
                    names = ", ".join(map(quoted_name, tables))
                    await connection.execute(text(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE"))
                return await act(connection)
        except DBAPIError as error:
            if sqlstate(error) != TIMED_OUT:
                raise
            await asyncio.sleep(_PAUSE)
    where = f" {', '.join(map(quoted_name, tables))}" if tables else ""
    raise UnavailableError(f"other programs never left the tables{where} alone; run it again later")


def quoted_name(table: Table) -> str:
    """A table's name as statements take it, with its schema."""
    return asyncpg.dialect().identifier_preparer.format_table(table)
