"""Version rows that go for good: nothing closes, nothing is left to be seen from an earlier moment.

Where single versions go, the one before lasts as long as they did, as if they had never been written.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from typing import cast as typed

from sqlalchemy import (
    UUID,
    ColumnElement,
    CursorResult,
    DateTime,
    String,
    Table,
    any_,
    bindparam,
    cast,
    column,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import UserDefinedType

from memground.postgres.engine import Executor, Query, Row
from memground.postgres.versioned import VersionedTable

type Ending = tuple[datetime | None, str | None]
"""known_to and closed_origin of a version row."""


async def erase(connection: Executor, table: Table, where: ColumnElement[bool]) -> int:
    """Removes rows for good; how many."""
    done = typed("CursorResult[Any]", await connection.execute(delete(table).where(where)))
    return done.rowcount


def lasting(versions: Sequence[Row], gone: Collection[uuid.UUID]) -> dict[uuid.UUID, Ending]:
    """What versions that stay end with when others of the same logical row go: where the last that followed ended.

    `versions`: all of one logical row, in order. A version that was ended before the next began keeps its end.
    """
    ends: dict[uuid.UUID, Ending] = {}
    stays: Row | None = None
    end: datetime | None = None
    for row in versions:
        if row["id"] not in gone:
            stays, end = row, row["known_to"]
        elif stays is not None and end is not None and row["known_from"] == end:
            end = row["known_to"]
            ends[stays["id"]] = end, row["closed_origin"]
    return ends


async def let_last(
    connection: Executor, vt: VersionedTable, ends: Mapping[uuid.UUID, Ending], *, where: ColumnElement[bool]
) -> None:
    """Gives version rows the ends that `lasting` found. `where` bounds the table to the owner."""
    if not ends:
        return
    told = func.unnest(
        bindparam("rows", list(ends), type_=ARRAY(UUID)),
        bindparam("moments", [moment for moment, _ in ends.values()], type_=ARRAY(DateTime(timezone=True))),
        bindparam("origins", [origin for _, origin in ends.values()], type_=ARRAY(String)),
    ).table_valued(column("id", UUID), column("at", DateTime(timezone=True)), column("by", String), name="told")
    told = told.render_derived()
    ended = update(vt.table).where(where, vt.table.c.id == told.c.id)
    await connection.execute(ended.values(known_to=told.c.at, closed_origin=told.c.by))


def closed_until(table: Table, moment: datetime) -> ColumnElement[bool]:
    """Rows that no view of `moment` or of a later one shows."""
    return table.c.known_to <= bindparam("closed_until", moment, type_=DateTime(timezone=True), unique=True)


def with_beginnings(vt: VersionedTable, where: ColumnElement[bool], target: Query) -> Query:
    """A target of `restore` without those it would end although they were something before, which was erased."""
    wanted = target.subquery("wanted")
    key, row_id = wanted.c[0], wanted.c[1]
    first = (
        select(vt.key_column)
        .where(where)
        .group_by(vt.key_column)
        .having(func.min(vt.table.c.recorded_at) > func.min(vt.table.c.created_at))
    )
    return select(key, row_id).where(or_(row_id.is_not(None), key.not_in(first)))


class _TransactionId(UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid"


def transaction() -> Query:
    """Which transaction this is, to be told to `left`."""
    return select(literal_column("pg_current_xact_id()::xid::text", String))


def left(table: Table, where: ColumnElement[bool], transaction: str) -> Query:
    """How many rows there are that are as old as a transaction that has ended, or older.

    A row written by one that came later is somebody's new data.
    """
    by = cast(bindparam("erased_by", transaction, type_=String), _TransactionId())
    old = func.age(literal_column("xmin")) >= func.age(by)
    return select(func.count()).select_from(table).where(where, old)


def among(column: ColumnElement[Any], values: Collection[uuid.UUID]) -> ColumnElement[bool]:
    """Whether a column is one of many ids, given as one value."""
    return column == any_(bindparam("among", list(values), type_=ARRAY(UUID), unique=True))
