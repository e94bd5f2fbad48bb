"""One transaction on a pool's connection, whose statements run either way: SQLAlchemy's, or as kept text."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy.engine import Result
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.base import Executable

from memground.postgres.engine import DRIVER_ERRORS, reporting
from memground.postgres.prepared import Record, Statement, prepared

WRITING = "BEGIN"
READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL plan_cache_mode = force_generic_plan"
"""Planning kept statements anew would take half as long as running them; they are written for one plan each."""


class Transaction:
    """Takes a connection from the pool at the first statement, not before. Whoever made it closes it.

    `begin`: how it begins. `engine` is in AUTOCOMMIT mode: the transaction is begun by hand, on a connection that
    SQLAlchemy leaves to itself, so that both ways of running statements are in the one transaction.
    """

    def __init__(self, engine: AsyncEngine, url: str, begin: str) -> None:
        self._engine = engine
        self._url = url
        self._begin = begin
        self._connection: AsyncConnection | None = None
        self._driver: Any = None
        self._open = False

    async def execute(self, statement: Executable, parameters: Any = None, /) -> Result[Any]:
        """Runs one statement. Raises UnavailableError when the server is gone."""
        async with reporting(self._url):
            return await (await self._connected()).execute(statement, parameters)

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Record]:
        """Runs one of the statements that are built once, the quick way; errors as those of `execute`."""
        async with reporting(self._url):
            await self._connected()
            return await prepared(statement).fetch(self._driver, values)

    async def first(self, text: str) -> None:
        """Runs a statement of the program's own, without values; where the transaction begins, together with that."""
        async with reporting(self._url):
            if self._open:
                await self._driver.execute(text)
            else:
                await self._connected(text)

    async def commit(self) -> None:
        if self._open:
            async with reporting(self._url):
                await self._driver.execute("COMMIT")
            self._open = False

    async def close(self) -> None:
        """Rolls back what was not committed and gives the connection back."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        usable = not self._open
        try:
            if self._open:
                with suppress(OSError, *DRIVER_ERRORS):
                    await self._driver.execute("ROLLBACK")
                    usable = True
        finally:  # also of who is cancelled while it rolls back
            try:
                if not connection.invalidated and (not usable or self._driver is None or self._driver.is_closed()):
                    with suppress(SQLAlchemyError, OSError, *DRIVER_ERRORS):
                        await connection.exec_driver_sql("SELECT 1")  # fails, so that the pool hears of it
                    await connection.invalidate()
            finally:
                await connection.close()

    async def _connected(self, first: str = "") -> AsyncConnection:
        if self._connection is None:
            self._connection = await self._engine.connect()
            self._driver = (await self._connection.get_raw_connection()).driver_connection
        if not self._open:
            self._open = True  # first: who is cancelled while it begins must not leave it to the next one
            await self._driver.execute(f"{self._begin}; {first}" if first else self._begin)
        return self._connection
