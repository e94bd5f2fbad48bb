"""What the server itself has counted: cheap to ask, and a little old."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Float,
    Integer,
    String,
    Subquery,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.types import TypeEngine

from memground.postgres.engine import TIMED_OUT, Executor, Query, sqlstate
from memground.postgres.pooler import run_alone

_CHANGED = text(
    "SELECT format('%I.%I', s.schemaname, s.relname) FROM pg_catalog.pg_stat_user_tables s "
    "JOIN pg_catalog.pg_class c ON c.oid = s.relid "
    "WHERE s.schemaname = :schema AND (s.n_mod_since_analyze > 200 + greatest(c.reltuples, 0) / 2 "
    # What a connection has changed is reported up to ten seconds later; how large the table is shows at once.
    "OR pg_relation_size(c.oid) / current_setting('block_size')::int > 8 + 2 * c.relpages "
    # An index that was made has told how large it is, but not what is in it.
    "OR c.relpages > 8 AND s.last_analyze IS NULL AND s.last_autoanalyze IS NULL) ORDER BY 1"
)


def table_rows(table: Table) -> ColumnElement[float]:
    """How many rows the table had when it was last analyzed; 0 before."""
    name = asyncpg.dialect().identifier_preparer.format_table(table)  # another driver's would double the percent signs
    size = select(func.greatest(literal_column("reltuples", Float), 0.0)).select_from(text("pg_catalog.pg_class"))
    return size.where(literal_column("oid", Integer) == func.to_regclass(literal(name, String))).scalar_subquery()


def common_values(column: Column[Any]) -> Subquery:
    """(value as text, share of the table's rows) of the column's most common values: a hundred, unless told."""
    values = literal_column("most_common_vals::text::text[]", ARRAY(String))
    shares = literal_column("most_common_freqs", ARRAY(Float))
    common = func.unnest(values, shares).table_valued("value", "share", name="common").render_derived()
    return (
        select(common.c.value, common.c.share)
        .select_from(text("pg_catalog.pg_stats"))
        .join(common, true())
        .where(*_of(column))
        .subquery("common_values")
    )


def common_owners(column: Column[Any], rows: int) -> Query:
    """(owner, rows) of the common values of a column that the server counts at least so many rows for."""
    common = common_values(column)
    assert isinstance(column.table, Table)
    counted = common.c.share * table_rows(column.table)
    return select(common.c.value.label("owner"), counted.label("rows")).where(counted >= rows)


def common_elements(column: Column[Any], rows: int) -> Query:
    """(element) of an array of numbers that the server counts in at least so many rows: of the thousand most common."""
    table = column.table
    assert isinstance(table, Table)
    values = literal_column("most_common_elems::text::bigint[]", ARRAY(BigInteger))
    shares = literal_column("most_common_elem_freqs", ARRAY(Float))  # longer: the least and the most of them, too
    common = func.unnest(values, shares).table_valued("element", "share", name="common").render_derived()
    return (
        select(common.c.element)
        .select_from(text("pg_catalog.pg_stats"))
        .join(common, true())
        .where(*_of(column), common.c.element.is_not(None), common.c.share * table_rows(table) >= rows)
    )


def _of(column: Column[Any]) -> list[ColumnElement[bool]]:
    """Those of `pg_stats` that are the column's."""
    table = column.table
    assert isinstance(table, Table)
    return [
        literal_column("schemaname", String) == (table.schema or literal_column("current_schema()")),
        literal_column("tablename", String) == table.name,
        literal_column("attname", String) == column.name,
    ]


async def freshen(engine: AsyncEngine, schema: str) -> list[str]:
    """Has the server count anew in those tables of a schema of which much changed since it did; returns their names.

    It does so by itself, but up to a minute later. Until then it plans for tables that are as good as empty: recall
    took 33 ms instead of 8 after an import of 800 turns.
    """
    async with engine.connect() as connection:
        changed = list(await connection.scalars(_CHANGED, {"schema": schema}))
        for table in changed:
            await run_alone(connection, _analyze(table))
    return changed


async def freshen_within(connection: Executor, schema: str) -> None:
    """The same inside the caller's transaction, with what it has written: before statements over very many rows."""
    for table in (await connection.execute(_CHANGED, {"schema": schema})).scalars().all():
        await connection.execute(text(_analyze(table).replace(":", r"\:")))


def _analyze(table: str) -> str:
    """`table`: as the server quoted it. It is not waited for: an index in the making holds the table for minutes."""
    return f"ANALYZE (SKIP_LOCKED) {table}"


async def count_anew(engine: AsyncEngine, tables: Iterable[Table], *, patience: float) -> list[str]:
    """Has the server count anew in certain tables: what it keeps of them holds single values.

    Whoever counts already may have begun too early, so it is waited for; returns the names of the tables that others
    held for `patience` seconds.
    """
    held: list[str] = []
    for table in tables:
        try:
            async with engine.begin() as connection:
                await connection.execute(select(func.set_config("lock_timeout", f"{patience * 1000:.0f}ms", True)))
                await _count(connection, table)
        except DBAPIError as error:
            if sqlstate(error) != TIMED_OUT:
                raise
            held.append(table.name)
    return held


async def _count(connection: AsyncConnection, table: Table) -> None:
    """Counts anew. Of an empty table the server would keep what it counted before, so it is shown a row of nothing,
    which nobody else ever sees."""
    analyze = f"ANALYZE {asyncpg.dialect().identifier_preparer.format_table(table)}"
    empty = not await connection.scalar(select(exists(select(1).select_from(table))))
    if not empty:
        await connection.exec_driver_sql(analyze)
        return
    key = tuple(table.primary_key)
    shown = (await connection.execute(insert(table).values(_nothing(table)).returning(*key))).one()
    await connection.exec_driver_sql(analyze)
    mine = and_(*(column == value for column, value in zip(key, shown, strict=True)))
    await connection.execute(delete(table).where(mine))


def _nothing(table: Table) -> dict[str, Any]:
    """Values for the columns that must have one."""
    needed = [column for column in table.c if not column.nullable and not (column.computed or column.identity)]
    return {column.name: _nothing_of(column.type) for column in needed}


def _nothing_of(kind: TypeEngine[Any]) -> Any:
    match kind:
        case UUID():
            return uuid.uuid4()
        case DateTime():
            return datetime(1970, 1, 1, tzinfo=UTC)
        case String():
            return "-"
        case Boolean():
            return False
        case Integer() | Float():
            return 0
        case JSONB():
            return {}
        case ARRAY():
            return []
        case _:
            return [1.0] * getattr(kind, "dims", 1)
