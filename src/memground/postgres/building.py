"""Indexes that are made of all rows at once, instead of being kept up row by row while many rows come.

For HNSW and GIN that takes a fraction of the time. Searches are right without them, since what an index finds is also
found by comparing every row, only slower.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Index, Table, func, select, text
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.schema import CreateIndex

from memground.postgres.arms import is_few
from memground.postgres.engine import DEADLOCK, TIMED_OUT, give_way, sqlstate
from memground.postgres.own_index import alone, being_made, building_memory
from memground.postgres.pooler import driver_of, is_direct, run_alone
from memground.postgres.statistics import freshen

_log = logging.getLogger("memground.indexes")

type BuildProgress = Callable[[str, int, int | None], Any]
"""Told an index, how many pages of its table were read, and of how many (None: not known)."""

_DEAR = ("hnsw", "gin")
_DIALECT = asyncpg.dialect()
_IN_THE_WAY = (TIMED_OUT, DEADLOCK)
_AT_ONCE = "tuple concurrently updated"
"""What the server says, without a code of its own and in no other language, where it makes the index for a program
that is gone."""
_PATIENCE, _TRYING = 0.5, 2.0
"""Seconds that dropping waits for a table (who comes after it waits as long), and that it is tried again."""
_AGAIN_SECONDS = 0.3


def dear_indexes(tables: Sequence[Table]) -> list[Index]:
    """The indexes of the tables that cost more to keep up row by row than to make at once, in a steady order."""
    found = [index for table in tables for index in table.indexes if _method(index) in _DEAR]
    return sorted(found, key=lambda index: str(index.name))


async def missing(connection: AsyncConnection, indexes: Sequence[Index]) -> list[Index]:
    """Those of the indexes that are not there, or were left half made."""
    complete = await _names(connection, indexes, half_made=False)
    return [index for index in indexes if index.name not in complete]


async def drop_where_few(engine: AsyncEngine, tables: Sequence[Table]) -> bool:
    """Drops the dear indexes, where no table has more rows than are compared one by one anyway.

    False, and nothing is done, where there are more, or where others hold a table for two seconds.
    """
    indexes = dear_indexes(tables)
    for table in tables:
        async with engine.connect() as connection:  # one each: a table is not held while another is waited for
            if not await connection.scalar(is_few(table, [])):
                return False
    loop = asyncio.get_running_loop()
    until = loop.time() + _TRYING
    while loop.time() < until:
        try:
            async with engine.begin() as connection:
                if not await _names(connection, indexes, half_made=True):
                    return True
                await _hold(connection, tables)
                for index in indexes:
                    await connection.exec_driver_sql(f"DROP INDEX IF EXISTS {_quoted(index)}")
        except DBAPIError as error:
            if sqlstate(error) not in _IN_THE_WAY and _AT_ONCE not in str(error.orig):
                raise
            await asyncio.sleep(random.uniform(0, _AGAIN_SECONDS))
        else:
            return True
    _log.info("indexes of %s are in use and are kept up row by row", tables[0].name)
    return False


async def _names(connection: AsyncConnection, indexes: Sequence[Index], *, half_made: bool) -> set[str]:
    """Which of the indexes are there, those left half made too or not."""
    if not indexes:
        return set()
    found = await connection.scalars(
        text(
            "SELECT c.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
            "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE (:half_made OR i.indisvalid) AND n.nspname = :schema AND c.relname = ANY(:names)"
        ),
        {"half_made": half_made, "schema": _schema(indexes), "names": [str(index.name) for index in indexes]},
    )
    return set(found)


async def _hold(connection: AsyncConnection, tables: Sequence[Table]) -> None:
    """Takes the tables for this transaction alone. Who holds one waits for no other, so that nobody has to give way."""
    first, *others = sorted(map(_DIALECT.identifier_preparer.format_table, tables))
    await give_way(connection, _PATIENCE)
    await connection.exec_driver_sql(f"LOCK TABLE {first} IN ACCESS EXCLUSIVE MODE")
    for other in others:
        await connection.exec_driver_sql(f"LOCK TABLE {other} IN ACCESS EXCLUSIVE MODE NOWAIT")


async def build_missing(
    engine: AsyncEngine, tables: Sequence[Table], dims: int, progress: BuildProgress | None = None
) -> list[str]:
    """Makes the dear indexes that are missing, and returns their names. Readers and writers go on meanwhile.

    Of several programs one makes them, the others wait for it; so they do while the server still makes one for a
    program that is gone. `engine`: up to four of its connections are used.
    """
    indexes = dear_indexes(tables)
    while True:
        async with alone(engine, f"build/{tables[0].fullname}") as first, engine.connect() as connection:
            wanted = await missing(connection, indexes)
            if not wanted:
                return []
            if first and not await being_made(connection, tables):
                for index in wanted:
                    await _build(engine, connection, index, dims, progress)
                await freshen(engine, _schema(indexes))  # what was planned before was for tables as good as empty
                return [str(index.name) for index in wanted]
        await asyncio.sleep(_AGAIN_SECONDS)


async def _build(
    engine: AsyncEngine, connection: AsyncConnection, index: Index, dims: int, progress: BuildProgress | None
) -> None:
    await run_alone(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {_quoted(index)}")
    table = index.table
    assert table is not None
    rows = await connection.scalar(select(func.count()).select_from(table)) if _method(index) == "hnsw" else 0
    # A setting stays with the connection, which behind a pooler is everybody's: there the server's own must do.
    roomy = await is_direct(await driver_of(connection))
    if roomy:
        await run_alone(connection, f"SET maintenance_work_mem = '{building_memory(rows or 0, dims)}MB'")
    made = str(CreateIndex(index).compile(dialect=_DIALECT))
    watch = asyncio.create_task(_watch(engine, index, progress)) if progress is not None else None
    try:
        await run_alone(connection, made.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1))
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
    if roomy:
        await run_alone(connection, "RESET maintenance_work_mem")


async def _watch(engine: AsyncEngine, index: Index, progress: BuildProgress) -> None:
    """Tells how far an index is until it is cancelled."""
    asked = text(
        "SELECT blocks_done, blocks_total FROM pg_catalog.pg_stat_progress_create_index "
        "WHERE relid = to_regclass(:table)"
    )
    assert index.table is not None
    table = _DIALECT.identifier_preparer.format_table(index.table)
    progress(str(index.name), 0, None)
    while True:
        await asyncio.sleep(_AGAIN_SECONDS)
        with suppress(DBAPIError):  # whoever builds tells what is wrong
            async with engine.connect() as connection:
                row = (await connection.execute(asked, {"table": table})).first()
            if row is not None and row.blocks_total:
                progress(str(index.name), row.blocks_done, row.blocks_total)


def _method(index: Index) -> str:
    return str(index.dialect_options["postgresql"]["using"] or "btree")


def _schema(indexes: Sequence[Index]) -> str:
    table = indexes[0].table
    assert table is not None
    return table.schema or "public"


def _quoted(index: Index) -> str:
    """The name of an index in its table's schema."""
    quote = _DIALECT.identifier_preparer.quote
    assert index.table is not None
    schema = "" if index.table.schema is None else f"{quote(index.table.schema)}."
    return schema + quote(str(index.name))
