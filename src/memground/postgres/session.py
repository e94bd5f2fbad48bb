"""One transaction on a pool's connection, whose statements run either way: SQLAlchemy's, or as kept text."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from sqlalchemy.engine import Result
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.base import Executable

from memground.postgres.engine import DRIVER_ERRORS, POOLED, reporting
from memground.postgres.prepared import Record, Statement, prepared

WRITING = "BEGIN"
READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL plan_cache_mode = force_generic_plan"
"""Planning kept statements anew would take half as long as running them; they are written for one plan each."""


class Transaction:
    """Takes a connection from the pool at the first statement, not before. Whoever made it closes it.

    `begin`: how it begins. `engine` is in AUTOCOMMIT mode: the transaction is begun by hand, on a connection that
    SQLAlchemy leaves to itself, so that both ways of running statements are in the one transaction. `spent`: where a
    connection may be taken over from, of the same engine.

    Several may run statements at once: they are sent one after the other, and while the server works on one, the next
    one's values are made.
    """

    def __init__(self, engine: AsyncEngine, url: str, begin: str, spent: "Spent | None" = None) -> None:
        self._engine = engine
        self._url = url
        self._begin = begin
        self._spent = spent
        self._connection: AsyncConnection | None = None
        self._driver: Any = None
        self._open = False
        self._turn = asyncio.Lock()

    @classmethod
    def of(cls, other: "Transaction") -> "Transaction":
        """What the other one was, which is left with nothing."""
        transaction = Transaction(other._engine, other._url, other._begin)
        transaction.take_over(other)
        return transaction

    @property
    def connected(self) -> bool:
        """Whether it holds a connection, which is to be given back."""
        return self._connection is not None

    @property
    def begun(self) -> bool:
        """Whether the transaction has run a statement."""
        return self._open

    async def begin(self) -> None:
        """Begins it, unless it is begun."""
        with self._reporting():
            await self._connected()

    async def execute(self, statement: Executable, parameters: Any = None, /) -> Result[Any]:
        """Runs one statement. Raises UnavailableError when the server is gone."""
        with self._reporting():
            async with self._turn:
                return await (await self._connected()).execute(statement, parameters)

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Record]:
        """Runs one of the statements that are built once, the quick way; errors as those of `execute`."""
        with self._reporting():
            async with self._turn:
                await self._connected()
                return await prepared(statement).fetch(self._driver, values)

    async def whole(self, statement: Statement, values: Mapping[str, Any]) -> list[Record]:
        """Runs a statement that is all of a transaction, as `fetch` does, and commits it: in one message, not three.

        Where one has begun it is a part of that, and `commit` is due; so it is behind a pooler, which may lend another
        connection for each of the driver's steps.
        """
        if self._open or self._engine.get_execution_options()[POOLED]:
            return await self.fetch(statement, values)
        with self._reporting():
            async with self._turn:
                await self._connected("")
                found = await prepared(statement).fetch(self._driver, values)
                self._open = False
                return found

    async def portions(
        self, statement: Statement, values: Mapping[str, Any], *, size: int = 1_000_000
    ) -> AsyncGenerator[list[Record]]:
        """The rows of a statement, as those of `fetch`, from a cursor: about `size` bytes of them at a time."""
        with self._reporting():
            await self._connected()
            cursor = await prepared(statement).open(self._driver, values)
        rows = 16
        while True:
            with self._reporting():
                found = await cursor.fetch(rows)
            if not found:
                return
            yield found
            rows = max(1, min(512, size * len(found) // max(1, sum(map(_weight, found)))))

    async def first(self, text: str) -> None:
        """Runs a statement of the program's own, without values; where the transaction begins, together with that."""
        with self._reporting():
            if self._open:
                await self._driver.execute(text)
            else:
                await self._connected(f"{self._begin}; {text}")

    async def commit(self) -> None:
        if self._open:
            with reporting(self._url):
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

    def take_over(self, other: "Transaction") -> None:
        """Takes the connection of another, and the transaction that is open there; the other has none from now on."""
        self._connection, other._connection = other._connection, None
        self._driver, other._driver = other._driver, None
        self._open, other._open = other._open, False

    async def _connected(self, begin: str | None = None) -> AsyncConnection:
        """The connection, with the transaction begun.

        `begin`: what to begin it with instead of its own, "" where the next statement is a transaction by itself.
        """
        before = ""
        if self._connection is None:
            if self._spent is not None and (other := self._spent.take()) is not None:
                self.take_over(other)
                before, self._open = "ROLLBACK" if self._open else "", False
            else:
                self._connection = await self._engine.connect()
                self._driver = (await self._connection.get_raw_connection()).driver_connection
        assert self._connection is not None
        if not self._open:
            self._open = True  # first: who is cancelled while it begins must not leave it to the next one
            if text := "; ".join(part for part in (before, self._begin if begin is None else begin) if part):
                await self._driver.execute(text)
        return self._connection

    @contextmanager
    def _reporting(self) -> Generator[None]:
        """Turns the driver's errors into ours."""
        with reporting(self._url):
            yield


class Spent:
    """Transactions that have read all they were for, or are committed: closed while the caller goes on.

    Whoever begins one before that takes the connection over, and ends what was read there in the same message. So a
    reader waits for the server twice less often, and a writer does not wait for the pool.
    """

    def __init__(self) -> None:
        self._waiting: list[Transaction] = []
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def leaving[T: Transaction](self, transaction: T) -> AsyncGenerator[T]:
        """Closes the transaction at the end of the block: soon, or after an error before that goes on."""
        try:
            yield transaction
        except BaseException:
            await transaction.close()
            raise
        self.add(transaction)

    def add(self, transaction: Transaction) -> None:
        """Has it closed as soon as the event loop comes to it."""
        if transaction.connected:
            left = Transaction.of(transaction)  # who still uses the other one by mistake meets nobody here
            self._waiting.append(left)
            asyncio.get_running_loop().call_soon(self._close, left)

    def take(self) -> Transaction | None:
        """One that is not closed yet."""
        return self._waiting.pop() if self._waiting else None

    async def wait(self) -> None:
        """Waits until all are closed."""
        for transaction in [*self._waiting]:
            self._close(transaction)
        if self._closing:
            await asyncio.wait(self._closing)

    def _close(self, transaction: Transaction) -> None:
        if transaction in self._waiting:
            self._waiting.remove(transaction)
            # Begun at once, so that a cancelled one gives the connection back, too.
            task = asyncio.Task(transaction.close(), loop=asyncio.get_running_loop(), eager_start=True)
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _weight(row: Record) -> int:
    """About how many bytes a row takes."""
    return sum(len(value) if isinstance(value, str | bytes) else 32 for value in row.values())
