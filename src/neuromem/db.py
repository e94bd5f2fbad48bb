"""The opened database: engine, tables, transactions."""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Result
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.base import Executable

from memground.clock import Clock, Stamp, SystemClock
from memground.errors import ConfigurationError, ModelMismatchError
from memground.postgres.embedded import EmbeddedPostgres, default_data_dir
from memground.postgres.engine import DRIVER_ERRORS, Query, check_url, locking, open_engine, redact, reporting, sqlstate
from memground.postgres.prepared import Record, prepared
from memground.postgres.schema import extension, migrate, revision
from memground.postgres.versioned import lock_name
from memground.text import check_text
from neuromem import checks
from neuromem.migrations import MIGRATIONS
from neuromem.models import Tables, build_tables

_log = logging.getLogger("neuromem")

DEFAULT_SCHEMA = "neuromem"
EMBEDDED_DATABASE = "neuromem"
MAX_DIMS = 16_000
"""What a pgvector column holds."""
MAX_POOL = 1_000
_UNDEFINED_COLUMN = "42703"
EMBEDDED_SCHEME = "embedded://"
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL plan_cache_mode = force_generic_plan"
"""Planning recall's statements anew would take half as long as running them; they are written for one plan each."""


class Hints:
    """What was found out and holds for a while. It may change what a read costs, never what it answers."""

    _SECONDS, _MOST = 60.0, 10_000

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[float, Any]] = {}

    def get(self, key: Hashable) -> Any:
        """What was noted in the last minute, or None."""
        until, value = self._known.get(key, (0.0, None))
        return value if until > asyncio.get_running_loop().time() else None

    def note(self, key: Hashable, value: Any) -> None:
        if len(self._known) >= self._MOST:
            self.clear()
        self._known[key] = asyncio.get_running_loop().time() + self._SECONDS, value

    def clear(self) -> None:
        self._known.clear()


class Session:
    """One transaction. Takes a connection from the pool at the first statement, not before.

    Services are given a session first; several share one to act in one transaction.
    """

    def __init__(
        self, engine: AsyncEngine, url: str, tables: Tables, clock: Clock, hints: Hints, *, begin: str
    ) -> None:
        self.tables = tables
        self.clock = clock
        self.hints = hints
        self._engine = engine
        self._url = url
        self._begin = begin
        self._connection: AsyncConnection | None = None
        self._driver: Any = None
        self._open = False

    async def execute(self, statement: Executable, parameters: Any = None, /) -> Result[Any]:
        """Runs one statement in the transaction.

        Raises UnavailableError when the server is gone, ModelMismatchError when another program has changed the model.
        """
        async with self._reporting():
            return await (await self._connected()).execute(statement, parameters)

    async def fetch(self, statement: Query, values: Mapping[str, Any]) -> list[Record]:
        """Runs one of the statements that are built once, the quick way; errors as those of `execute`."""
        async with self._reporting():
            await self._connected()
            return await prepared(statement).fetch(self._driver, values)

    async def portions(
        self, statement: Query, values: Mapping[str, Any], *, size: int = 1_000_000
    ) -> AsyncGenerator[list[Record]]:
        """The rows of a statement, as those of `fetch`, from a cursor: about `size` bytes of them at a time."""
        async with self._reporting():
            await self._connected()
            cursor = await prepared(statement).open(self._driver, values)
        rows = 16
        while True:
            async with self._reporting():
                found = await cursor.fetch(rows)
            if not found:
                return
            yield found
            rows = max(1, min(512, size * len(found) // max(1, sum(map(_weight, found)))))

    async def scalar(self, statement: Executable, parameters: Any = None, /) -> Any:
        return (await self.execute(statement, parameters)).scalar()

    async def hold(self, owner: str, *, alone: bool = False) -> None:
        """Keeps an owner's rows for writing until the transaction ends: with other writers, or `alone`.

        Whoever writes versioned rows does this first. Alone is who changes many at once (rollback, undo): row locks
        would be taken in any order, and deadlock.
        """
        name = f"{self.tables.schema}/{owner}"
        if self._open:
            await lock_name(self, name, shared=not alone)
        else:  # together with the transaction's begin, which saves waiting for the server once
            async with self._reporting():
                await self._connected(first=locking(name, shared=not alone))

    @property
    def begun(self) -> bool:
        """Whether the transaction has run a statement."""
        return self._open

    @asynccontextmanager
    async def apart(self) -> "AsyncGenerator[Session]":
        """A transaction of its own beside this one, on another connection; it commits at the end of the block."""
        session = Session(self._engine, self._url, self.tables, self.clock, self.hints, begin="BEGIN")
        try:
            yield session
            await session.commit()
        finally:
            await session.close()

    def stamp(self, origin: str) -> Stamp:
        """Time and writer of the rows an operation writes."""
        return Stamp(self.clock.now(), check_text(origin, "origin", limit=255))

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
        """The connection, with the transaction begun (and the statement `first` run, if it begins here)."""
        if self._connection is None:
            self._connection = await self._engine.connect()
            self._driver = (await self._connection.get_raw_connection()).driver_connection
        if not self._open:
            # By hand, on a connection that SQLAlchemy leaves to itself, so that both ways of running statements are in
            # the one transaction.
            self._open = True  # first: who is cancelled while it begins must not leave it to the next one
            await self._driver.execute(f"{self._begin}; {first}" if first else self._begin)
        return self._connection

    @asynccontextmanager
    async def _reporting(self) -> AsyncGenerator[None]:
        async with reporting(self._url):
            try:
                yield
            except (DBAPIError, *DRIVER_ERRORS) as error:
                if sqlstate(error) == _UNDEFINED_COLUMN:
                    raise ModelMismatchError(
                        f"the embedding model of schema {self.tables.schema!r} was changed while this program had it "
                        f"open ({getattr(error, 'orig', error)}); open it again, with the new model"
                    ) from error
                raise


def _weight(row: Record) -> int:
    """About how many bytes a row takes."""
    return sum(len(value) if isinstance(value, str | bytes) else 32 for value in row.values())


class Database:
    """PostgreSQL with neuromem's tables in one schema, for vectors of one model.

    `url`: a PostgreSQL URL; None or `embedded:///folder` starts (or finds) the embedded server. `model_id` and `dims`
    name the embedding model; a database that holds vectors of another is refused.
    """

    def __init__(
        self,
        url: str | None,
        *,
        dims: int,
        model_id: str,
        schema: str = DEFAULT_SCHEMA,
        pool_size: int = 10,
        clock: Clock | None = None,
    ) -> None:
        self.schema = checks.schema(schema)
        self.dims = checks.whole(dims, "dims", 1, MAX_DIMS)
        self.model_id = checks.name(model_id, "model_id")
        checks.whole(pool_size, "pool_size", 1, MAX_POOL)
        self.clock = clock or SystemClock()
        self._url = url
        self._pool_size = pool_size
        self._folder: Path | None = None
        self._server: EmbeddedPostgres | None = None
        self._engine: AsyncEngine | None = None
        self._plain: AsyncEngine | None = None
        self._hints = Hints()
        self._tables: Tables | None = None
        self._as_recorded = False
        if isinstance(url, str) and url.startswith(EMBEDDED_SCHEME):
            folder = check_text(url, "database_url").removeprefix(EMBEDDED_SCHEME)
            self._url, self._folder = None, Path(folder).expanduser()
        elif url is not None:
            self._url = check_url(url)

    @classmethod
    def recorded(cls, url: str | None, *, schema: str = DEFAULT_SCHEMA, pool_size: int = 10) -> Self:
        """A database that exists, with whatever model it has: `dims` and `model_id` are known once it is open."""
        database = cls(url, dims=1, model_id="recorded", schema=schema, pool_size=pool_size)
        database._as_recorded = True
        return database

    async def init(self) -> None:
        """Connects, creates or upgrades the schema and checks the model. Does nothing the second time."""
        if self._tables is not None:
            return
        try:
            if self._url is None:
                self._server = await EmbeddedPostgres.open(self._folder)
                await self._server.ensure_database(EMBEDDED_DATABASE)
                url = self._server.url(EMBEDDED_DATABASE)
            else:
                url = self._url
            engine = await open_engine(url, pool_size=self._pool_size, application_name="neuromem")
            self._engine = engine
            self._url_in_use = url
            async with reporting(url):
                self._tables = await self._prepare(engine)
            self._plain = engine.execution_options(isolation_level="AUTOCOMMIT")
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Gives the connections back; the embedded server stops when nobody else uses it."""
        engine, self._engine, self._plain, self._tables = self._engine, None, None, None
        if engine is not None:
            await engine.dispose()
        server, self._server = self._server, None
        if server is not None:
            await server.close()

    @property
    def tables(self) -> Tables:
        return self._opened(self._tables)

    @property
    def folder(self) -> Path | None:
        """Where an embedded server keeps its data; None of a server by its URL, or where there is no embedded one."""
        if self._url is not None or sys.platform == "win32":
            return None
        return default_data_dir() if self._folder is None else self._folder

    @property
    def engine(self) -> AsyncEngine:
        return self._opened(self._engine)

    @property
    def location(self) -> str:
        """The address in use, without a password."""
        return redact(self._opened(self._url_in_use if self._tables else None))

    def forget_hints(self) -> None:
        """Finds out anew what was noted: something changed that reads may use at once."""
        self._hints.clear()

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session]:
        """A transaction that commits at the end of the block, or rolls back on an error."""
        async with self._using("BEGIN") as session:
            yield session
            await session.commit()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Session]:
        """A read-only transaction on one snapshot: all its statements see the same moment."""
        async with self._using(_READ) as session:
            yield session

    async def __aenter__(self) -> Self:
        await self.init()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def _using(self, begin: str) -> AsyncGenerator[Session]:
        session = Session(
            self._opened(self._plain), self._url_in_use, self.tables, self.clock, self._hints, begin=begin
        )
        try:
            yield session
        finally:
            await session.close()

    async def _prepare(self, engine: AsyncEngine) -> Tables:
        async with engine.begin() as connection:
            if await extension(connection, "vector") is None:
                raise ConfigurationError(
                    f"PostgreSQL at {redact(self._url_in_use)} offers no extension 'vector'; "
                    "install pgvector ≥ 0.7 there"
                )
        if self._as_recorded:
            await self._take_recorded_model(engine)
        await migrate(engine, MIGRATIONS, self.schema, {"dims": self.dims})
        async with engine.begin() as connection:
            return await self._checked(connection)

    async def _checked(self, connection: AsyncConnection) -> Tables:
        """The tables as this database has them; records the model in a new one, refuses another model in an old one."""
        tables = build_tables(self.dims, self.schema)
        meta = tables.meta
        wanted = {"embedding_model": self.model_id, "dims": self.dims}
        stored = await self._stored_meta(connection, meta)
        if not stored:
            rows = [{"key": key, "value": value} for key, value in wanted.items()]
            await connection.execute(upsert(meta).on_conflict_do_nothing(), rows)
            stored = await self._stored_meta(connection, meta)
        if (stored["embedding_model"], stored["dims"]) != (self.model_id, self.dims):
            raise ModelMismatchError(
                f"schema {self.schema!r} holds vectors of {stored['embedding_model']} ({stored['dims']} dimensions), "
                f"but {self.model_id} ({self.dims} dimensions) was given; open it with the model it was made with, "
                "change it by `neuromem reembed`, or use another schema="
            )
        return build_tables(self.dims, self.schema, stored.get("generation", 1))

    async def _take_recorded_model(self, engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            stored: dict[str, Any] = {}
            if await revision(connection, self.schema) is not None:
                stored = await self._stored_meta(connection, build_tables(1, self.schema).meta)
        if not stored:
            raise ConfigurationError(f"there is no schema {self.schema!r} with memories at {redact(self._url_in_use)}")
        self.model_id, self.dims = stored["embedding_model"], stored["dims"]

    @staticmethod
    async def _stored_meta(connection: AsyncConnection, meta: Any) -> dict[str, Any]:
        return {row.key: row.value for row in await connection.execute(select(meta.c.key, meta.c.value))}

    @staticmethod
    def _opened[T](value: T | None) -> T:
        if value is None:
            raise ConfigurationError(
                "the database is not open; use `async with NeuroMemory(...) as nm:` or `await nm.init()`"
            )
        return value
