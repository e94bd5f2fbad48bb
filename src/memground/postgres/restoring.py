"""The present made equal to an earlier state of a versioned table, or to one without somebody's writes.

Like all of `versioned`: inside the caller's transaction, without a commit, and by appending.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    String,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert

from memground.clock import Stamp
from memground.postgres.engine import Executor, Query
from memground.postgres.versioned import (
    VersionedTable,
    close_rows,
    differs,
    known_at,
    last_end,
    moment_of,
    uuids,
)


async def restore(
    connection: Executor, vt: VersionedTable, target: Query, where: ColumnElement[bool], stamp: Stamp
) -> "Restored":
    """Makes the present equal to `target`: appends copies of the target rows, closes what the target does not have.

    `target` yields (logical id, row id or NULL): the version row each logical row shall equal, NULL to end it.
    `where` bounds the table to the owner the caller speaks for. Rows that already equal their target stay, and so do
    rows whose natural key another current row has taken meanwhile. The caller holds what it restores, by `lock_current`
    or `lock_name`: between the plan and the change nobody else may write there.
    """
    table = vt.table
    wanted = target.subquery("target")
    key, row_id = wanted.c[0], wanted.c[1]
    source = table.alias("source")
    now = table.alias("now")
    newest = select(func.max(table.c.version)).where(vt.key_column == key).scalar_subquery()
    ended = select(last_end(table)).where(vt.key_column == key).scalar_subquery()
    plan = (
        select(
            key.label("key"),
            source.c.id.label("source_id"),
            now.c.id.label("now_id"),
            newest.label("newest"),
            ended.label("ended"),
        )
        .select_from(
            wanted.outerjoin(source, source.c.id == row_id).outerjoin(
                now, and_(now.c[vt.key] == key, now.c.known_to.is_(None))
            )
        )
        .where(source.c.id.is_distinct_from(now.c.id), differs(vt.copied, source, now))
    )
    rows = (await connection.execute(plan)).all()
    await close_rows(connection, vt, [row.now_id for row in rows if row.now_id is not None], stamp, where=where)
    copies = [(row.source_id, row.newest, row.ended) for row in rows if row.source_id is not None]
    restored = await _insert_copies(connection, vt, where, copies, stamp) if copies else []
    return Restored(restored=restored, ended=[row.key for row in rows if row.source_id is None])


@dataclass(frozen=True)
class Restored:
    """Logical ids that got a version again, and those that were ended."""

    restored: list[uuid.UUID]
    ended: list[uuid.UUID]

    def __len__(self) -> int:
        return len(self.restored) + len(self.ended)


def state_at(vt: VersionedTable, where: ColumnElement[bool], moment: datetime) -> Query:
    """Target for `restore`: every logical row as it was known at `moment` (NULL: it was not)."""
    table = vt.table
    then = select(table.c[vt.key], table.c.id).where(where, known_at(table, moment)).subquery("then")
    # Only what changed since can differ: rows begun or ended after the moment.
    touched = (
        select(table.c[vt.key])
        .where(where, or_(table.c.known_from > moment, table.c.known_to > moment))
        .distinct()
        .subquery("touched")
    )
    return select(touched.c[vt.key], then.c.id).select_from(
        touched.outerjoin(then, then.c[vt.key] == touched.c[vt.key])
    )


def state_without(
    vt: VersionedTable, where: ColumnElement[bool], *, origin: str | None, recorded_since: datetime | None
) -> Query:
    """Target for `restore`: every logical row as if the writer had not written.

    A write belongs to the writer when its origin is `origin` (None: anybody) and it was recorded at or after
    `recorded_since` (None: ever). A row that somebody else has changed or ended since stays as they left it.
    """
    table = vt.table

    def theirs(who: Any, when: Any) -> ColumnElement[bool]:
        tests = [who.is_not(None)]
        if origin is not None:
            tests.append(who == origin)
        if recorded_since is not None:
            tests.append(when >= recorded_since)
        return and_(*tests)

    def next_(column: Any) -> ColumnElement[Any]:
        return func.lead(column).over(partition_by=table.c[vt.key], order_by=table.c.version)

    # A row is ended by what replaced it (the next row begins there, by the same hand), or by an act of its own.
    replaced = and_(next_(table.c.origin) == table.c.closed_origin, next_(table.c.known_from) == table.c.known_to)
    states = (
        select(
            table.c[vt.key].label("key"),
            table.c.id,
            table.c.version,
            theirs(table.c.origin, table.c.recorded_at).label("written"),
            and_(table.c.known_to.is_not(None), func.coalesce(~replaced, true())).label("ended"),
            theirs(table.c.closed_origin, table.c.known_to).label("ended_by_them"),
        )
        .where(where)
        .subquery("states")
    )
    c = states.c
    ended_by_others = and_(c.ended, ~c.ended_by_them)
    newest_first = (c.key, c.version.desc())
    latest = (
        select(c.key, case((c.ended, c.ended_by_them), else_=c.written).label("theirs"))
        .ext(distinct_on(c.key))
        .order_by(*newest_first)
        .subquery("latest")
    )
    kept = (
        select(c.key, case((ended_by_others, None), else_=c.id).label("id"))
        .where(or_(~c.written, ended_by_others))
        .ext(distinct_on(c.key))
        .order_by(*newest_first)
        .subquery("kept")
    )
    return (
        select(latest.c.key, kept.c.id)
        .select_from(latest.outerjoin(kept, kept.c.key == latest.c.key))
        .where(latest.c.theirs)
    )


async def _insert_copies(
    connection: Executor,
    vt: VersionedTable,
    where: ColumnElement[bool],
    copies: Sequence[tuple[uuid.UUID, int, datetime]],
    stamp: Stamp,
) -> list[uuid.UUID]:
    """Appends copies of (row id, newest version, last end) and returns their logical ids."""
    table, time = vt.table, DateTime(timezone=True)
    plan = (
        func.unnest(
            uuids("sources", [source for source, _, _ in copies]),
            bindparam("newest", [newest for _, newest, _ in copies], type_=ARRAY(BigInteger)),
            bindparam("ended", [ended for _, _, ended in copies], type_=ARRAY(time)),
        )
        .table_valued("source_id", "newest", "ended", name="plan")
        .render_derived()
    )
    columns = [
        "id",
        "version",
        "known_from",
        "recorded_at",
        "origin",
        *vt.copied,
    ]
    statement = select(
        func.gen_random_uuid(),
        func.greatest(literal(stamp.version, BigInteger), plan.c.newest + 1),
        func.greatest(moment_of(stamp.at), plan.c.ended),
        moment_of(stamp.at),
        literal(stamp.origin, String),
        *(table.c[name] for name in vt.copied),
    ).select_from(table.join(plan, table.c.id == plan.c.source_id))
    statement = statement.where(where)
    insertion = upsert(table).from_select(columns, statement).on_conflict_do_nothing()
    return list((await connection.execute(insertion.returning(vt.key_column))).scalars())
