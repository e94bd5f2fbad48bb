"""One mechanism for every table whose rows have a history.

A *logical row* is named by its logical id; each of its states is one *version row* with a known time
[known_from, known_to). A change never overwrites: it closes the current version row and appends a new one.

====================  =========================================================================================
id                    the version row
<key>                 the logical id, shared by all versions
version               nanoseconds since 1970 of the write, at least one more than the version before
known_from, known_to  when the system knew this state; open end = current
recorded_at           when the row was written; never settable
origin                who wrote it
closed_origin         who ended it (by changing or deleting), None while current
created_at            recorded_at of the first version
====================  =========================================================================================

Functions take a connection or session inside the caller's transaction and never commit.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    UUID,
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Index,
    String,
    Table,
    and_,
    any_,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from memground.clock import Stamp, as_utc
from memground.errors import InvalidInputError
from memground.postgres.engine import Executor, Query, Row, advisory_key
from memground.view import KNOWN_SINCE, View


@dataclass(frozen=True)
class VersionedTable:
    """A table with version columns, told which column is the logical id and which columns are its content.

    `content` are the columns a version is about: when they are equal nothing has changed. `carried` are copied
    from version to version beside them (owner, names that never change, times derived at writing).
    """

    table: Table
    key: str
    content: tuple[str, ...]
    carried: tuple[str, ...] = ()

    @property
    def key_column(self) -> Column[uuid.UUID]:
        return self.table.c[self.key]

    @property
    def copied(self) -> tuple[str, ...]:
        return (self.key, *self.carried, *self.content, "created_at")


def version_columns(key: str) -> list[Column[Any]]:
    """The columns every versioned table has; `key` names the logical id."""
    time = DateTime(timezone=True)
    return [
        Column("id", UUID, primary_key=True),
        Column(key, UUID, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("known_from", time, nullable=False),
        Column("known_to", time),
        Column("recorded_at", time, nullable=False),
        Column("origin", String(255), nullable=False),
        Column("closed_origin", String(255)),
        Column("created_at", time, nullable=False),
    ]


def version_indexes(prefix: str, table: Table, key: str) -> None:
    """One current version per logical row, and its versions in order."""
    Index(f"uq_{prefix}_current", table.c[key], unique=True, postgresql_where=table.c.known_to.is_(None))
    Index(f"uq_{prefix}_version", table.c[key], table.c.version, unique=True)


# ---------------------------------------------------------------- reading


def known(table: Table | Any, view: View) -> ColumnElement[bool]:
    """Rows the view knows: the current ones, or those known at its `known_at`."""
    return known_now(table) if view.known_at is None else known_at(table, view.known_at)


def known_now(table: Table | Any) -> ColumnElement[bool]:
    """The current rows."""
    return table.c.known_to.is_(None)


def known_at(table: Table | Any, moment: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """Rows known at `moment`: known_from ≤ moment < known_to."""
    return and_(table.c.known_from <= moment, known_after(table, moment))


def known_after(table: Table | Any, moment: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """Rows that had not ended by `moment`, whenever they began: moment < known_to."""
    return or_(known_now(table), table.c.known_to > moment)


def valid_at(table: Table | Any, moment: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """Rows true in the world at `moment`: valid_from ≤ moment < valid_to, no value being open."""
    return and_(
        or_(table.c.valid_from.is_(None), table.c.valid_from <= moment),
        or_(table.c.valid_to.is_(None), table.c.valid_to > moment),
    )


def history(vt: VersionedTable, where: ColumnElement[bool], view: View) -> Query:
    """All versions the view knows of, newest first, as rows of the table.

    `known_to` is as stored: pass it through `View.mask`.
    """
    statement = select(vt.table).where(where)
    if view.known_at is not None:
        statement = statement.where(vt.table.c.known_from <= view.known_at)
    return statement.order_by(vt.table.c.version.desc())


async def lock_current(connection: Executor, vt: VersionedTable, where: ColumnElement[bool]) -> Sequence[Row]:
    """The current rows, locked until the transaction ends."""
    statement = select(vt.table).where(where, vt.table.c.known_to.is_(None))
    while True:
        if rows := (await connection.execute(statement.with_for_update())).mappings().all():
            return rows
        # No row, or one that another writer replaced while we waited: a new statement sees its successor.
        if (await connection.execute(statement.limit(1))).first() is None:
            return []


def changes(vt: VersionedTable, where: ColumnElement[bool], earlier: datetime, later: datetime) -> Query:
    """(key: logical id, before, after: row ids at `earlier` and `later`) of every logical row whose content differs."""
    before = select(vt.table).where(where, known_at(vt.table, earlier)).subquery("before")
    after = select(vt.table).where(where, known_at(vt.table, later)).subquery("after")
    key = func.coalesce(before.c[vt.key], after.c[vt.key])
    return (
        select(key.label("key"), before.c.id.label("before"), after.c.id.label("after"))
        .select_from(before.join(after, before.c[vt.key] == after.c[vt.key], full=True))
        .where(before.c.id.is_distinct_from(after.c.id), differs(vt.content, before, after))
        .order_by(func.coalesce(after.c.version, before.c.version), key)
    )


async def fetch_rows(
    connection: Executor, vt: VersionedTable, ids: Iterable[uuid.UUID], *, where: ColumnElement[bool]
) -> dict[uuid.UUID, Row]:
    """Version rows by their `id`; `where` bounds the table to the owner the caller speaks for."""
    wanted = list(ids)
    if not wanted:
        return {}
    statement = select(vt.table).where(where, vt.table.c.id == any_(uuids("ids", wanted)))
    return {row["id"]: row for row in (await connection.execute(statement)).mappings()}


# ---------------------------------------------------------------- writing


def new_row(
    stamp: Stamp, values: Mapping[str, Any], *, known_from: datetime | None = None, version: int | None = None
) -> dict[str, Any]:
    """A first version row holding `values` (which name the logical id), ready for an insert."""
    return {
        "id": uuid.uuid4(),
        **values,
        "version": stamp.version if version is None else version,
        "known_from": stamp.at if known_from is None else known_from,
        "known_to": None,
        "recorded_at": stamp.at,
        "origin": stamp.origin,
        "closed_origin": None,
        "created_at": stamp.at,
    }


def check_known(moment: datetime | None, stamp: Stamp) -> datetime:
    """The known time of a new row: `moment`, or the stamp's; refuses a moment still to come, or before 1700."""
    if moment is None:
        return stamp.at
    known_from = as_utc(moment, "known_at")
    if known_from > stamp.at:
        raise InvalidInputError(
            f"known_at={known_from.isoformat()} lies in the future (it is {stamp.at.isoformat()}); "
            "nothing can be known before it is recorded"
        )
    if known_from < KNOWN_SINCE:
        raise InvalidInputError(f"known_at={known_from.isoformat()} lies before {KNOWN_SINCE.year}; pass a later one")
    return known_from


async def append(
    connection: Executor,
    vt: VersionedTable,
    row: Row,
    values: Mapping[str, Any],
    stamp: Stamp,
    *,
    where: ColumnElement[bool],
    known_from: datetime | None = None,
) -> Row:
    """Appends a version after the locked current `row` with `values` changed; returns the row that is now current.

    `where` bounds the table to the owner the caller speaks for. Equal content makes no version. Raises
    InvalidInputError when `known_from` lies before the row's own.
    """
    if all(equal(row[name], values[name]) for name in vt.content if name in values):
        return row
    start = max(stamp.at, row["known_from"])
    if known_from is not None:
        if known_from < row["known_from"]:
            raise InvalidInputError(
                f"known_at={known_from.isoformat()} lies before the current version's {row['known_from'].isoformat()}; "
                "a version never begins before its predecessor"
            )
        start = known_from
    await close_rows(connection, vt, [row["id"]], stamp, where=where, at=start)
    successor = {
        **{name: row[name] for name in vt.copied},
        **values,
        "id": uuid.uuid4(),
        "version": max(stamp.version, row["version"] + 1),
        "known_from": start,
        "known_to": None,
        "recorded_at": stamp.at,
        "origin": stamp.origin,
        "closed_origin": None,
    }
    await connection.execute(insert(vt.table).values(successor))
    return successor


async def next_version(
    connection: Executor, vt: VersionedTable, where: ColumnElement[bool], stamp: Stamp
) -> tuple[int, datetime]:
    """version and known_from for a new row where no current one is: after all there ever was."""
    statement = select(
        func.greatest(literal(stamp.version, BigInteger), func.max(vt.table.c.version) + 1).label("version"),
        func.greatest(moment_of(stamp.at), last_end(vt.table)).label("known_from"),
    ).where(where)
    row = (await connection.execute(statement)).one()
    return row.version, row.known_from


def ends(vt: VersionedTable, where: ColumnElement[bool], keys: Sequence[uuid.UUID]) -> Query:
    """(key, newest, ended) of logical rows there ever were: the newest version, and the last moment one began or ended.

    A logical row that is begun again takes a later version, and is known from `ended` on at the earliest.
    """
    newest = func.max(vt.table.c.version).label("newest")
    return (
        select(vt.key_column.label("key"), newest, last_end(vt.table).label("ended"))
        .where(where, vt.key_column == any_(uuids("keys", keys)))
        .group_by(vt.key_column)
    )


async def lock_name(connection: Executor, name: str, *, shared: bool = False) -> None:
    """Holds a name until the transaction ends, alone or with all who share it: for what has no row to lock."""
    await connection.execute(_LOCK_SHARED if shared else _LOCK, {"key": advisory_key(name)})


_KEY = bindparam("key", type_=BigInteger)
_LOCK, _LOCK_SHARED = select(func.pg_advisory_xact_lock(_KEY)), select(func.pg_advisory_xact_lock_shared(_KEY))


async def close_rows(
    connection: Executor,
    vt: VersionedTable,
    ids: Sequence[uuid.UUID],
    stamp: Stamp,
    *,
    where: ColumnElement[bool],
    at: datetime | None = None,
) -> None:
    """Ends the known time of the current rows `ids`; earlier moments still see them.

    `where` bounds the table to the owner the caller speaks for.
    """
    if not ids:
        return
    end = func.greatest(vt.table.c.known_from, moment_of(stamp.at if at is None else at))
    await connection.execute(
        update(vt.table)
        .where(where, vt.table.c.id == any_(uuids("ids", ids)), vt.table.c.known_to.is_(None))
        .values(known_to=end, closed_origin=stamp.origin)
    )


def differs(columns: Sequence[str], left: Any, right: Any) -> ColumnElement[bool]:
    """Whether two states differ in these columns, or only one of them exists."""
    tests = [left.c.id.is_(None), right.c.id.is_(None)]
    if columns:
        contents = (tuple_(*(side.c[name] for name in columns)) for side in (left, right))
        tests.append(next(contents).is_distinct_from(next(contents)))
    return or_(*tests)


def equal(left: Any, right: Any) -> bool:
    """Whether two values are the same to PostgreSQL: for Python True is 1, for JSON it is not."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        one, other = cast(Mapping[str, Any], left), cast(Mapping[str, Any], right)
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(left, list) and isinstance(right, list):
        items, others = cast(list[Any], left), cast(list[Any], right)
        return len(items) == len(others) and all(map(equal, items, others))
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def last_end(table: Table) -> ColumnElement[datetime]:
    """The latest moment at which any of the rows begins or ends."""
    return func.greatest(func.max(table.c.known_from), func.max(table.c.known_to))


def moment_of(at: datetime) -> ColumnElement[datetime]:
    """A moment as a value of PostgreSQL's."""
    return literal(at, DateTime(timezone=True))


def uuids(name: str, values: Sequence[uuid.UUID]) -> Any:
    """Ids as one bound array, whose name is made unique in its statement."""
    return bindparam(name, list(values), type_=ARRAY(UUID), unique=True)
