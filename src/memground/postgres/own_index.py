"""An HNSW index of its own for an owner with many rows.

The index over all rows answers for every owner, but passes the others' rows on its way: for an owner of a fifth of a
million rows it takes 40 ms where one over that owner's rows alone takes 3, and finds more of the nearest. An owner with
few rows needs none; comparing them all takes less.
"""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Float,
    Integer,
    String,
    Table,
    cast,
    func,
    literal,
    literal_column,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.types import UserDefinedType

from memground.postgres.engine import TIMED_OUT, Query, advisory_key, sqlstate
from memground.postgres.pooler import driver_of, is_direct, run_alone
from memground.postgres.statistics import common_owners

_log = logging.getLogger("memground.indexes")

MAX_HNSW = 4_000
"""Dimensions up to which pgvector builds HNSW over half precision."""

OWN_ROWS = 5_000
"""Rows from which on an owner gets an index. Comparing so many takes 2 to 9 ms, as they lie together or apart; asking
an index 1 to 3."""

_OWNERS = 100
"""Owners of a table with an index of their own, at most."""

_MANY_ROWS = 20_000
_FEW_LINKS, _MANY_LINKS = (12, 80), (24, 128)
"""m and ef_construction below so many rows and from there on. Measured on clustered vectors: among 10,000 all are found
with few links, among 50,000 whole clusters are missed now and then, as with pgvector's own 16 and 64."""

_BYTES_A_LINK = 12
_MEMORY = (64, 2_048)
"""Megabytes a build may take, at least and at most: a graph that does not fit is built many times as slowly."""


class _Direction(UserDefinedType[Any]):
    """The type an index needs to be told: of `l2_normalize` alone it would not know the dimensions."""

    cache_ok = True

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def get_col_spec(self, **_: Any) -> str:
        return f"halfvec({self.dims})"


@dataclass(frozen=True)
class OwnIndexes:
    """The indexes over single owners' rows of `column`, a `halfvec(dims)`; `owner` says whose a row is.

    They are over directions (vectors of length 1), whose inner product is the cosine. That the expression is not the
    column's own also keeps the planner from taking the index over all rows for them, and the other way round.
    """

    column: Column[Any]
    owner: Column[Any]
    dims: int

    @property
    def table(self) -> Table:
        assert isinstance(self.column.table, Table)
        return self.column.table

    def nearness(self, vector: ColumnElement[Any]) -> ColumnElement[float]:
        """The expression to order by, so that an owner's own index answers: ascending, the nearest first."""
        return self._direction(self.column).op("<#>", return_type=Float())(self._direction(vector))

    def name(self, owner: ColumnElement[str]) -> ColumnElement[str]:
        """What the owner's index is called. (Were two owners' equal, the second would have none.)"""
        mark = func.to_hex(func.hashtextextended(cast(owner, String), 0), type_=String)
        return literal(self._prefix, String) + mark

    def there(self, owner: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether the owner has an index that is complete."""
        relation = func.to_regclass(self._schema + literal(".", String) + func.quote_ident(self.name(owner)))
        row = select(literal_column("indisvalid", Boolean)).select_from(text("pg_catalog.pg_index"))
        return func.coalesce(row.where(literal_column("indexrelid", Integer) == relation).scalar_subquery(), False)

    async def tend(self, engine: AsyncEngine) -> list[str]:
        """Makes the indexes that are missing and drops those that were left half made or are needed no longer.

        Nobody waits meanwhile: readers and writers of the table go on. Of several programs one works, the others
        return at once; so does this one while another index of the table is made. Returns the owners that got an index.
        """
        if self.dims > MAX_HNSW:
            return []
        async with alone(engine, f"{self.table.fullname}.{self.column.name}") as first:
            if not first:
                return []
            async with engine.connect() as connection:
                return [] if await being_made(connection, [self.table]) else await self._tend(connection)

    async def drop(self, engine: AsyncEngine, owner: str, *, patience: float) -> bool:
        """Drops the owner's index, if there is one; False where others held the table for `patience` seconds."""
        try:
            async with engine.begin() as connection:
                name = await connection.scalar(select(self.name(literal(owner, String))))
                await connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{patience:.3f}s'")
                await connection.exec_driver_sql(f"DROP INDEX IF EXISTS {self._quoted(str(name))}")
        except DBAPIError as error:
            if sqlstate(error) != TIMED_OUT:
                raise
            return False
        return True

    async def _tend(self, connection: AsyncConnection) -> list[str]:
        known = {row.name: row for row in await connection.execute(self._named())}
        there: set[str] = set()
        for index in await self._existing(connection):
            # Of equals each count knows other ones: the index itself tells the rows of an owner who is not known now.
            rows = known[index.name].rows if index.name in known else index.rows
            # One who shrank keeps it until half as many are left: they may grow again. One who grew gets another.
            if index.complete and rows >= OWN_ROWS // 2 and tuple(index.links) >= _links(rows):
                there.add(index.name)
            else:
                await run_alone(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {self._quoted(index.name)}")
        made: list[str] = []
        for row in known.values():
            if row.rows >= OWN_ROWS and row.name not in there and len(there) < _OWNERS:
                await self._make(connection, row.name, row.owner, row.rows)
                there.add(row.name)
                made.append(row.owner)
        return made

    async def _make(self, connection: AsyncConnection, name: str, owner: str, rows: float) -> None:
        _log.info("index for one user's %d rows of %s is being made", rows, self.table.name)
        memory, (m, ef_construction) = building_memory(rows, self.dims), _links(rows)
        # A statement that defines takes no parameters: the server itself quotes the owner.
        value = await connection.scalar(select(func.quote_literal(type_coerce(owner, String))))
        # A setting stays with the connection, which behind a pooler is everybody's: there the server's own must do.
        roomy = await is_direct(await driver_of(connection))
        if roomy:
            await run_alone(connection, f"SET maintenance_work_mem = '{memory}MB'")
        await run_alone(
            connection,
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {self._identifier(name)} ON {self._quoted(self.table.name)} "
            f"USING hnsw ((l2_normalize({self._identifier(self.column.name)})::halfvec({self.dims})) "
            f"halfvec_ip_ops) WITH (m = {m}, ef_construction = {ef_construction}) "
            f"WHERE {self._identifier(self.owner.name)} = {value}",
        )
        if roomy:
            await run_alone(connection, "RESET maintenance_work_mem")

    def _named(self) -> Query:
        """(owner, rows, name of the index) of those the server counts enough rows for to keep an index, most first.

        An owner who is not among the table's most common values is not known there.
        """
        known = common_owners(self.owner, OWN_ROWS // 2).subquery("known")
        named = select(known.c.owner, known.c.rows, self.name(known.c.owner).label("name"))
        return named.order_by(known.c.rows.desc(), known.c.owner)

    async def _existing(self, connection: AsyncConnection) -> Sequence[Any]:
        """(name, complete, rows, links: m and ef_construction) of the indexes there are, as the server counted them."""
        found = await connection.execute(
            text(
                "SELECT c.relname AS name, i.indisvalid AS complete, c.reltuples AS rows, "
                "ARRAY(SELECT option_value::int FROM pg_options_to_table(c.reloptions) ORDER BY option_name DESC) "
                "AS links FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
                "WHERE i.indrelid = to_regclass(:table) AND starts_with(c.relname, :prefix)"
            ),
            {"table": self._quoted(self.table.name), "prefix": self._prefix},
        )
        return found.all()

    @property
    def _prefix(self) -> str:
        return f"own_{self.table.name}_{self.column.name}_"

    @property
    def _schema(self) -> ColumnElement[str]:
        if self.table.schema is None:
            return func.quote_ident(func.current_schema())
        return literal(self._identifier(self.table.schema), String)

    def _direction(self, vector: ColumnElement[Any]) -> ColumnElement[Any]:
        return cast(func.l2_normalize(vector), _Direction(self.dims))

    def _quoted(self, name: str) -> str:
        """The name of a relation of the table's schema."""
        schema = "" if self.table.schema is None else f"{self._identifier(self.table.schema)}."
        return f"{schema}{self._identifier(name)}"

    @staticmethod
    def _identifier(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'


def _links(rows: float) -> tuple[int, int]:
    return _FEW_LINKS if rows < _MANY_ROWS else _MANY_LINKS


def building_memory(rows: float, dims: int) -> int:
    """Megabytes that building a graph over so many rows takes, within what a build may take."""
    graph = rows * (2 * dims + 2 * _MANY_LINKS[0] * _BYTES_A_LINK) / 1e6
    return round(min(max(1.5 * graph, _MEMORY[0]), _MEMORY[1]))


@asynccontextmanager
async def alone(engine: AsyncEngine, name: str) -> AsyncGenerator[bool]:
    """Whether nobody else does this now; holds others off while the block runs.

    The lock is a transaction's of its own: behind a pooler a lock of the connection would stay with somebody else's.
    """
    async with engine.connect() as connection:
        key = {"key": advisory_key(f"own index/{name}")}
        first = bool(await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), key))
        # What was just asked keeps its snapshot until something else is, and the index would wait for it for ever.
        await (await driver_of(connection)).execute("SELECT 1")
        yield first


async def being_made(connection: AsyncConnection, tables: Sequence[Table]) -> bool:
    """Whether the server makes an index of one of the tables now. Two at once on a table would wait for each other."""
    names = [asyncpg.dialect().identifier_preparer.format_table(table) for table in tables]
    made = text(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_progress_create_index "
        "WHERE relid = ANY(SELECT to_regclass(name)::oid FROM unnest(CAST(:names AS text[])) AS name))"
    )
    return bool(await connection.scalar(made, {"names": names}))
