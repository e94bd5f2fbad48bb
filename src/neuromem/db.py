"""The opened database: engine, tables, transactions."""

import logging
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.base import Executable

from memground.clock import Clock, Stamp, SystemClock
from memground.errors import ConfigurationError, ModelMismatchError
from memground.hints import Hints
from memground.postgres.embedded import EmbeddedPostgres, default_data_dir
from memground.postgres.engine import (
    DRIVER_ERRORS,
    advisory_key,
    check_url,
    locking,
    open_engine,
    redact,
    reporting,
    sqlstate,
)
from memground.postgres.schema import extension, migrate, revision
from memground.postgres.session import READING, WRITING, Spent, Transaction
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


class Session(Transaction):
    """One transaction, and what the services that share it need to know. Services are given a session first."""

    def __init__(
        self,
        engine: AsyncEngine,
        url: str,
        tables: Tables,
        clock: Clock,
        hints: Hints,
        *,
        begin: str,
        spent: Spent | None = None,
    ) -> None:
        super().__init__(engine, url, begin, spent)
        self.tables = tables
        self.clock = clock
        self.hints = hints
        self.shared = False
        """Whether several calls are to be one transaction: then none of them may end it."""

    async def scalar(self, statement: Executable, parameters: Any = None, /) -> Any:
        return (await self.execute(statement, parameters)).scalar()

    async def hold(self, owner: str, *, alone: bool = False) -> None:
        """Keeps an owner's rows for writing until the transaction ends: with other writers, or `alone`.

        Whoever writes versioned rows does this first. Alone is who changes many at once (rollback, undo): row locks
        would be taken in any order, and deadlock.
        """
        await self.first(locking(self._owner(owner), shared=not alone))

    def key(self, owner: str) -> int:
        """What `hold` locks, for a statement that does it itself."""
        return advisory_key(self._owner(owner))

    def _owner(self, owner: str) -> str:
        return f"{self.tables.schema}/{owner}"

    @asynccontextmanager
    async def apart(self) -> "AsyncGenerator[Session]":
        """A transaction of its own beside this one, on another connection; it commits at the end of the block."""
        session = Session(self._engine, self._url, self.tables, self.clock, self.hints, begin=WRITING)
        try:
            yield session
            await session.commit()
        finally:
            await session.close()

    def stamp(self, origin: str) -> Stamp:
        """Time and writer of the rows an operation writes."""
        return Stamp(self.clock.now(), check_text(origin, "origin", limit=255))

    @contextmanager
    def _reporting(self) -> Generator[None]:
        """Also that another program has changed the model: ModelMismatchError."""
        with reporting(self._url):
            try:
                yield
            except (DBAPIError, *DRIVER_ERRORS) as error:
                if sqlstate(error) == _UNDEFINED_COLUMN:
                    raise ModelMismatchError(
                        f"the embedding model of schema {self.tables.schema!r} was changed while this program had it "
                        f"open ({getattr(error, 'orig', error)}); open it again, with the new model"
                    ) from error
                raise


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
        self._spent = Spent()
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
            with reporting(url):
                self._tables = await self._prepare(engine)
            self._plain = engine.execution_options(isolation_level="AUTOCOMMIT")
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Gives the connections back; the embedded server stops when nobody else uses it."""
        engine, self._engine, self._plain, self._tables = self._engine, None, None, None
        await self._spent.wait()
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
        async with self._spent.leaving(self._transaction(WRITING)) as session:
            yield session
            await session.commit()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Session]:
        """A read-only transaction on one snapshot: all its statements see the same moment."""
        async with self._spent.leaving(self._transaction(READING)) as session:
            yield session

    async def __aenter__(self) -> Self:
        await self.init()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _transaction(self, begin: str) -> Session:
        engine = self._opened(self._plain)
        return Session(engine, self._url_in_use, self.tables, self.clock, self._hints, begin=begin, spent=self._spent)

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
