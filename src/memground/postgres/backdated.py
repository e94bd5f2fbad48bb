"""Versions that were known before they are written.

What is derived from a source counts as known since the source was, however late it is derived. Meanwhile the logical
row may have changed: then the version is put where it belongs, and what was learned later stays as it is.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import UUID, ColumnElement, DateTime, Table, and_, bindparam, column, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from memground.clock import Stamp
from memground.postgres.engine import Executor, Row
from memground.postgres.versioned import VersionedTable, equal

_APART = 1 << 20
"""How far apart the versions of one run are, in nanoseconds: about a millisecond. Between them others find a place."""

_TICK = timedelta(microseconds=1)


type Told = tuple[Row, datetime, Mapping[str, Any] | None]
"""A current row, since when there is something new of it, and what: values that differ, or None where it ended."""


async def follow(
    connection: Executor, vt: VersionedTable, told: Sequence[Told], stamp: Stamp, *, where: ColumnElement[bool]
) -> None:
    """What `learn` and `unlearn` do to rows that are current and locked, each at most once: all at one go.

    No moment lies before the row's own `known_from`.
    """
    await end_rows(connection, vt, {row["id"]: moment for row, moment, _ in told}, stamp, where=where)
    new = [_next(vt, row, moment, values, stamp) for row, moment, values in told if values is not None]
    if new:
        await connection.execute(insert(vt.table), new)


async def end_rows(
    connection: Executor,
    vt: VersionedTable,
    ends: Mapping[uuid.UUID, datetime],
    stamp: Stamp,
    *,
    where: ColumnElement[bool],
) -> None:
    """Ends current rows, each (by its id) at a moment of its own."""
    if not ends:
        return
    told = func.unnest(
        bindparam("rows", list(ends), type_=ARRAY(UUID)),
        bindparam("moments", list(ends.values()), type_=ARRAY(DateTime(timezone=True))),
    ).table_valued(column("id", UUID), column("at", DateTime(timezone=True)), name="told")
    told = told.render_derived()
    mine = and_(where, vt.table.c.id == told.c.id, vt.table.c.known_to.is_(None))
    await connection.execute(update(vt.table).where(mine).values(known_to=told.c.at, closed_origin=stamp.origin))


def _next(vt: VersionedTable, row: Row, moment: datetime, values: Mapping[str, Any], stamp: Stamp) -> dict[str, Any]:
    return {
        **{name: row[name] for name in vt.copied},
        **values,
        "id": uuid.uuid4(),
        "version": max(stamp.version, row["version"] + _APART),
        "known_from": moment,
        "known_to": None,
        "recorded_at": stamp.at,
        "origin": stamp.origin,
        "closed_origin": None,
    }


def known_since(table: Table | Any, moment: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """Rows known at `moment` or at any time after it."""
    return or_(table.c.known_to.is_(None), table.c.known_to > moment)


@dataclass(frozen=True)
class Backdated:
    """Writes what was known since `at`, recorded by `stamp`.

    `where` bounds the table to the owner the caller speaks for. The caller keeps others from writing the same logical
    rows meanwhile.
    """

    connection: Executor
    vt: VersionedTable
    where: ColumnElement[bool]
    stamp: Stamp
    at: datetime

    async def known(self, key: uuid.UUID) -> Row | None:
        """The version of a logical row known then, locked."""
        return (await self._around(key))[0]

    async def learn(
        self,
        key: uuid.UUID,
        values: Mapping[str, Any],
        new: Mapping[str, Any] | None = None,
        *,
        again: bool = False,
    ) -> Row:
        """The logical row `key` is `values` from then on, until what was learned next; returns the version row.

        What is not in `values` stays as it was then. Equal values make no version, unless they were learned `again`
        later: what was learned between the two may still be to come. `new`: the remaining columns of a row that was not
        known then.
        """
        before, after = await self._around(key)
        if before is None:
            return await self._begin(key, {**(new or {}), **values}, after)
        later = again and before["known_from"] < self.at
        if not later and all(equal(before[name], values[name]) for name in values):
            return before
        if after is None:
            version = max(self.stamp.version, before["version"] + _APART)
        elif (between := self._between(before["version"], before["known_from"], after)) is None:
            return before
        else:
            version = between
        await self._end(before)
        row = {name: before[name] for name in (*self.vt.copied, "known_to", "closed_origin")} | dict(values)
        return await self._write(row, version)

    async def unlearn(self, key: uuid.UUID) -> bool:
        """The logical row ends then, until what was learned next; whether it was known."""
        before, _ = await self._around(key)
        if before is not None:
            await self._end(before)
        return before is not None

    async def _around(self, key: uuid.UUID) -> tuple[Row | None, Row | None]:
        """The version known then, and the first one learned later; locked."""
        statement = (
            select(self.vt.table)
            .where(self.where, self.vt.key_column == key, known_since(self.vt.table, self.at))
            .order_by(self.vt.table.c.version)
            .with_for_update()
        )
        rows = (await self.connection.execute(statement)).mappings().all()
        before = next((row for row in rows if row["known_from"] <= self.at), None)
        return before, next((row for row in rows if row["known_from"] > self.at), None)

    async def _begin(self, key: uuid.UUID, values: Mapping[str, Any], after: Row | None) -> Row:
        table = self.vt.table
        earlier = self.where & (self.vt.key_column == key)
        if after is not None:
            earlier &= table.c.version < after["version"]
        last = select(table.c.version, table.c.known_from).where(earlier).order_by(table.c.version.desc()).limit(1)
        before = (await self.connection.execute(last)).first()
        row = {self.vt.key: key, **values, "created_at": self.stamp.at}
        if after is None:
            version = self.stamp.version if before is None else max(self.stamp.version, before.version + _APART)
            return await self._write({**row, "known_to": None, "closed_origin": None}, version)
        if before is None:
            version = after["version"] - _APART
        elif (between := self._between(before.version, before.known_from, after)) is None:
            return after
        else:
            version = between
        return await self._write({**row, "known_to": after["known_from"], "closed_origin": after["origin"]}, version)

    def _between(self, version: int, known_from: datetime, after: Row) -> int | None:
        """A version between two, as far from both as the moment is, so that many find a place; None where none is left.

        (There is none between two that were recorded within a nanosecond, by a clock that stood still.)
        """
        room = after["version"] - version
        if room < 2:
            return None
        share = (self.at - known_from) / max(after["known_from"] - known_from, _TICK)
        return version + min(max(int(room * share), 1), room - 1)

    async def _write(self, values: Mapping[str, Any], version: int) -> Row:
        stamp = self.stamp
        row = {"id": uuid.uuid4(), **values, "version": version, "known_from": self.at}
        row |= {"recorded_at": stamp.at, "origin": stamp.origin}
        await self.connection.execute(insert(self.vt.table).values(row))
        return row

    async def _end(self, row: Row) -> None:
        ended = update(self.vt.table).where(self.where, self.vt.table.c.id == row["id"])
        await self.connection.execute(ended.values(known_to=self.at, closed_origin=self.stamp.origin))
