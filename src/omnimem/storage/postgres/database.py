"""The opened database: engine, tables, transactions."""

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from memground.errors import ConfigurationError, InvalidInputError, ModelMismatchError, UnavailableError
from memground.hints import Hints
from memground.postgres.building import dear_indexes, missing
from memground.postgres.embedded import EmbeddedPostgres
from memground.postgres.engine import DRIVER_ERRORS, check_url, open_engine, redact, reporting, sqlstate
from memground.postgres.schema import extension, migrate
from memground.postgres.session import READING, WRITING, Spent, Transaction
from memground.text import check_text
from omnimem.migrations import MIGRATIONS
from omnimem.models.base import name, whole
from omnimem.storage.base import Work
from omnimem.storage.postgres.tables import Tables, build_tables

_log = logging.getLogger("omnimem.storage")

EMBEDDED_SCHEME = "embedded://"
EMBEDDED_DATABASE = "omnimem"
MAX_DIMS = 16_000
"""What a pgvector column holds."""
MAX_POOL = 1_000
_BUILDING_POOL = 4
_UNDEFINED_TABLE = "42P01"
"""Tables of vectors are dropped when the model is changed, and their names never used again."""
_numbers = itertools.count(1)


class PostgresWork(Work, Transaction):
    """A transaction of one database."""

    def __init__(self, engine: AsyncEngine, url: str, begin: str, place: str, spent: Spent) -> None:
        super().__init__(engine, url, begin, spent)
        self.place = place


class Database:
    """PostgreSQL with omnimem's tables in one schema, for vectors of one model.

    `url`: a PostgreSQL URL; None or `embedded:///folder` starts (or finds) the embedded server. `truth`: the records
    are here; otherwise the indexes keep what filters may name of them.
    """

    def __init__(
        self, url: str | None, *, dims: int, model_id: str, schema: str, pool_size: int, truth: bool = True
    ) -> None:
        self._number = next(_numbers)
        self.schema = _schema(schema)
        self.dims = whole(dims, "dims", 1, MAX_DIMS)
        self.model_id = name(model_id, "model_id")
        self.tables: Tables = build_tables(self.dims, self.schema, truth=truth)
        self.hints = Hints()
        self._pool_size = whole(pool_size, "pool_size", 1, MAX_POOL)
        self._url = url
        self._folder: Path | None = None
        self._server: EmbeddedPostgres | None = None
        self._engine: AsyncEngine | None = None
        self._plain: AsyncEngine | None = None
        self._spent = Spent()
        self._later = False
        self._opening = asyncio.Lock()
        if isinstance(url, str) and url.startswith(EMBEDDED_SCHEME):
            folder = check_text(url, "database_url").removeprefix(EMBEDDED_SCHEME)
            self._url, self._folder = None, Path(folder).expanduser()
        elif url is not None:
            self._url = check_url(url)

    async def open(self) -> None:
        """Connects, creates or upgrades the schema and checks the model. Does nothing the second time."""
        async with self._opening:
            if self._plain is None:
                await self._open()

    async def _open(self) -> None:
        try:
            url = self._url
            if url is None:
                self._server = await EmbeddedPostgres.open(self._folder)
                await self._server.ensure_database(EMBEDDED_DATABASE)
                url = self._server.url(EMBEDDED_DATABASE)
            self._url_in_use = url
            self._engine = await open_engine(url, pool_size=self._pool_size, application_name="omnimem")
            with reporting(url):
                await self._prepare(self._engine)
            self._plain = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        except BaseException:
            await self._release()
            raise

    async def open_when_reached(self) -> None:
        """Opens now, or where the server is away when it is first used; for indexes whose truth is elsewhere."""
        self._later = True
        try:
            await self.open()
        except UnavailableError as error:
            _log.warning("going on without it for now: %s", error)

    async def close(self) -> None:
        """Gives the connections back; the embedded server stops when nobody else uses it."""
        self._later = False
        await self._release()

    async def _release(self) -> None:
        engine, self._engine, self._plain = self._engine, None, None
        await self._spent.wait()
        if engine is not None:
            await engine.dispose()
        server, self._server = self._server, None
        if server is not None:
            await server.close()

    @property
    def engine(self) -> AsyncEngine:
        if self._engine is None:
            raise ConfigurationError("the database is not open; use `async with OmniMemClient.connect(…) as client:`")
        return self._engine

    @asynccontextmanager
    async def building(self) -> AsyncGenerator[AsyncEngine]:
        """Connections of its own for long work on indexes, which the pool need not spare. Errors as of `reading`."""
        await self._opened()
        engine = await open_engine(self._url_in_use, pool_size=_BUILDING_POOL, application_name="omnimem")
        try:
            with reporting(self._url_in_use), self._knowing_a_change_of_model():
                yield engine
        finally:
            await engine.dispose()

    @property
    def location(self) -> str:
        """The address in use, without a password."""
        url = self._url_in_use if self._engine is not None else self._url
        return "nowhere" if url is None else redact(url)

    async def about(self) -> dict[str, str]:
        """The versions of the server and its parts, and what the tables are for."""
        async with self.reading() as tx:
            server = (await tx.execute(text("SELECT current_setting('server_version')"))).scalar_one()
            vector = text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
            pgvector = (await tx.execute(vector)).scalar_one()
        return {
            "PostgreSQL": server.split()[0],
            "pgvector": pgvector,
            "schema": f"{self.schema}, revision {MIGRATIONS.head}",
            "model": f"{self.model_id}, {self.dims} dimensions",
        }

    @property
    def place(self) -> str:
        """Names what shares a transaction: the stores of this opened database, and no others."""
        return f"postgresql/{self.schema}/{self._number}"

    @asynccontextmanager
    async def reading(self, work: Work | None = None) -> AsyncGenerator[PostgresWork]:
        """The transaction given, or a read-only one on one snapshot."""
        if work is None:
            async with self._working(READING) as own:
                yield own
        else:
            yield self._own(work)

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[PostgresWork]:
        """A transaction that commits at the end of the block, or rolls back on an error."""
        async with self._working(WRITING) as work:
            yield work
            await work.commit()

    @asynccontextmanager
    async def joined(self, work: Work | None) -> AsyncGenerator[PostgresWork]:
        """The transaction given, or one of its own."""
        if work is None:
            async with self.writing() as own:
                yield own
        else:
            yield self._own(work)

    def _own(self, work: Work) -> PostgresWork:
        if not isinstance(work, PostgresWork) or work.place != self.place:
            raise ConfigurationError("a transaction of another store was handed to this one; pass None")
        return work

    @asynccontextmanager
    async def _working(self, begin: str) -> AsyncGenerator[PostgresWork]:
        work = PostgresWork(await self._opened(), self._url_in_use, begin, self.place, self._spent)
        async with self._spent.leaving(work):
            with self._knowing_a_change_of_model():
                yield work

    async def _opened(self) -> AsyncEngine:
        """The engine of transactions begun by hand; opens one that is opened when it is first used."""
        if self._plain is None and not self._later:
            raise ConfigurationError("the database is not open; use `async with OmniMemClient.connect(…) as client:`")
        if self._plain is None:
            await self.open()
        assert self._plain is not None
        return self._plain

    @contextmanager
    def _knowing_a_change_of_model(self) -> Generator[None]:
        try:
            yield
        except (DBAPIError, *DRIVER_ERRORS) as error:
            if sqlstate(error) == _UNDEFINED_TABLE:
                raise ModelMismatchError(
                    f"the embedding model of schema {self.schema!r} was changed while this program had it open "
                    f"({getattr(error, 'orig', error)}); open it again, with the new model"
                ) from error
            raise

    async def _prepare(self, engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            if await extension(connection, "vector") is None:
                raise ConfigurationError(
                    f"PostgreSQL at {redact(self._url_in_use)} offers no extension 'vector'; install pgvector ≥ 0.7"
                )
        await migrate(engine, MIGRATIONS, self.schema, {"dims": self.dims})
        async with engine.begin() as connection:
            await self._check_model(connection)
            await self._check_indexes(connection)

    async def _check_indexes(self, connection: AsyncConnection) -> None:
        t = self.tables
        dear = dear_indexes((t.vectors, t.vector_history, t.keywords, t.keyword_history))
        if gone := await missing(connection, dear):
            _log.warning(
                "%d indexes of schema %r are missing: many memories are being loaded, or that was cut short. Searches "
                "are right but slow; the end of the load makes them, and so does `omnimem repair`",
                len(gone),
                self.schema,
            )

    async def _check_model(self, connection: AsyncConnection) -> None:
        """Records the model in a new database, refuses another model in an old one; finds the tables in use."""
        meta = self.tables.meta
        wanted: dict[str, Any] = {
            "embedding_model": self.model_id, "dims": self.dims, "truth": self.tables.truth
        }  # fmt: skip
        rows = [{"key": key, "value": value} for key, value in wanted.items()]
        query = select(meta.c.key, meta.c.value)
        stored = {row.key: row.value for row in await connection.execute(query)}
        if not stored:
            await connection.execute(upsert(meta).on_conflict_do_nothing(), rows)
            stored = {row.key: row.value for row in await connection.execute(query)}
        if (stored.get("embedding_model"), stored.get("dims")) != (self.model_id, self.dims):
            raise ModelMismatchError(
                f"schema {self.schema!r} holds vectors of {stored.get('embedding_model')} "
                f"({stored.get('dims')} dimensions), but {self.model_id} ({self.dims} dimensions) was given; "
                "open it with the model it was made with, change it by `omnimem reembed`, or use another schema=",
                stored.get("embedding_model"),
                stored.get("dims"),
            )
        if stored.get("truth", True) != self.tables.truth:
            here, meant = ("here", "elsewhere") if stored.get("truth", True) else ("elsewhere", "here")
            raise ConfigurationError(
                f"the records of schema {self.schema!r} are {here}, but settings say that they are {meant}; "
                "use another schema="
            )
        generation = stored.get("generation", 1)
        self.tables = build_tables(self.dims, self.schema, truth=self.tables.truth, generation=generation)


def _schema(value: object) -> str:
    text = name(value, "schema", limit=63)
    if len(text.encode()) > 63:
        raise InvalidInputError(f"schema={text!r} has {len(text.encode())} bytes; PostgreSQL names have at most 63")
    if text.startswith("pg_") or text == "information_schema":
        raise InvalidInputError(f"schema={text!r} belongs to PostgreSQL; choose another name")
    return text
