"""The truth in PostgreSQL: the table `memories`, one row a record."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import lru_cache
from typing import Any

from asyncpg import UniqueViolationError
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Text,
    and_,
    any_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from memground.errors import ConflictError
from memground.postgres.bulk import driver_lists, given, insertion
from memground.postgres.engine import Query, lock_names, locking
from omnimem.models import Memory, Scope
from omnimem.storage.base import Capabilities, RecordStore, Selection, StoredRecord, Work
from omnimem.storage.flat import flatten, stored, taken, unflatten
from omnimem.storage.postgres.conditions import AS_OF, Shape, built_once, scope_values, values
from omnimem.storage.postgres.database import Database
from omnimem.storage.postgres.tables import SCOPE_COLUMNS, Tables


class PostgresRecords(RecordStore):
    """Records in one PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tables = database.tables

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self._database.place, filters=True, as_of=True)

    def reading(self) -> AbstractAsyncContextManager[Work]:
        return self._database.reading()

    async def write[T](self, body: Callable[[Work], Awaitable[T]]) -> T:
        async with self._database.writing() as work:
            return await body(work)

    async def insert(self, work: Work, records: Sequence[StoredRecord], *, named: bool = False) -> None:
        if not records:
            return
        async with self._database.joined(work) as tx:
            if named:
                await self._check_names(tx, sorted({record.memory.memory_id for record in records}))
            try:
                await tx.fetch(insertion(self._tables.memories, _COLUMNS), _given(self._tables, records))
            except UniqueViolationError as error:
                raise ConflictError(taken(records)) from error

    async def _check_names(self, tx: Any, memory_ids: list[str]) -> None:
        dead = self._tables.tombstones
        query = select(dead.c.memory_id).where(dead.c.memory_id == any_(_texts("ids"))).limit(1)
        if found := (await tx.execute(query, {"ids": memory_ids})).scalar():
            raise ConflictError(f"memory {found!r} was deleted here; a deleted memory does not come back")

    async def lock(self, work: Work, memory_id: str, scope: Scope) -> Memory | None:
        async with self._database.joined(work) as tx:
            await tx.first(locking(self._held(memory_id)))
        return await self.get(work, memory_id, scope)

    async def hold(self, work: Work, memory_ids: Iterable[str]) -> None:
        async with self._database.joined(work) as tx:
            await lock_names(tx, [self._held(memory_id) for memory_id in sorted(set(memory_ids))])

    def _held(self, memory_id: str) -> str:
        return f"{self._database.schema}/memory/{memory_id}"

    async def supersede(self, work: Work, successor: Memory) -> None:
        given = {
            "memory_id": successor.memory_id,
            "ended": successor.created_time,
            **_given(self._tables, [StoredRecord(successor, None)]),
        }
        async with self._database.joined(work) as tx:
            await tx.fetch(_superseding(self._tables), given)

    async def remove(self, work: Work, memory_id: str, at: datetime) -> int:
        table = self._tables.memories
        async with self._database.joined(work) as tx:
            gone = await tx.execute(delete(table).where(table.c.memory_id == memory_id).returning(table.c.record_id))
            await tx.execute(insert(self._tables.tombstones).values(memory_id=memory_id, deleted_time=at))
            return len(gone.all())

    async def get(self, work: Work, memory_id: str, scope: Scope, *, version: int | None = None) -> Memory | None:
        statement = _one(self._tables, Shape.of(Selection(scope)), "latest" if version is None else "version")
        return await self._single(work, statement, scope, memory_id=memory_id, version=version)

    async def record(self, work: Work, memory_id: str, record_id: str, scope: Scope) -> Memory | None:
        statement = _one(self._tables, Shape.of(Selection(scope)), "record")
        return await self._single(work, statement, scope, memory_id=memory_id, record_id=record_id)

    async def at(self, work: Work, memory_id: str, moment: datetime, scope: Scope) -> Memory | None:
        statement = _one(self._tables, Shape.of(Selection(scope)), "then")
        return await self._single(work, statement, scope, memory_id=memory_id, as_of=moment)

    async def history(
        self, work: Work, memory_id: str, scope: Scope, *, limit: int, before: int | None = None
    ) -> list[Memory]:
        statement = _history(self._tables, Shape.of(Selection(scope)), before is not None)
        return await self._many(work, statement, scope, memory_id=memory_id, before=before, limit=limit)

    async def select(
        self, work: Work, selection: Selection, *, limit: int, after: tuple[int, str] | None = None
    ) -> list[Memory]:
        statement = _select(self._tables, Shape.of(selection), after is not None)
        version, memory_id = after or (None, None)
        given = values(selection, after_version=version, after_id=memory_id, limit=limit)
        return await self._many(work, statement, selection.scope, **given)

    async def count(self, work: Work, selection: Selection) -> int:
        async with self._database.joined(work) as tx:
            return (await tx.fetch(_count(self._tables, Shape.of(selection)), values(selection)))[0]["count"]

    async def hydrate(self, work: Work, memory_ids: Sequence[str], selection: Selection) -> dict[str, Memory]:
        statement = _hydrate(self._tables, Shape.of(selection))
        given = values(selection, ids=list(memory_ids))
        return {memory.memory_id: memory for memory in await self._many(work, statement, selection.scope, **given)}

    async def records(
        self, work: Work, record_ids: Collection[str], *, predecessors: bool = False
    ) -> list[StoredRecord]:
        statement = _records(self._tables, Shape(), predecessors)
        async with self._database.joined(work) as tx:
            return [stored(row) for row in await tx.fetch(statement, {"ids": list(record_ids)})]

    async def of_memories(self, work: Work, memory_ids: Sequence[str]) -> list[StoredRecord]:
        async with self._database.joined(work) as tx:
            found = await tx.fetch(_of_memories(self._tables, Shape()), {"ids": list(memory_ids)})
            return [stored(row) for row in found]

    async def scan(self, work: Work, scope: Scope, *, after: str, memories: int) -> list[StoredRecord]:
        statement = _scan(self._tables, Shape.of(Selection(scope)))
        async with self._database.joined(work) as tx:
            found = await tx.fetch(statement, {**scope_values(scope), "after": after, "memories": memories})
            return [stored(row) for row in found]

    async def existing(self, work: Work, memory_ids: Collection[str]) -> set[str]:
        async with self._database.joined(work) as tx:
            found = await tx.fetch(_existing(self._tables, Shape()), {"ids": list(memory_ids)})
            return {row["memory_id"] for row in found}

    async def _single(self, work: Work, statement: Query, scope: Scope, **given: Any) -> Memory | None:
        found = await self._many(work, statement, scope, **given)
        return found[0] if found else None

    async def _many(self, work: Work, statement: Query, scope: Scope, **given: Any) -> list[Memory]:
        async with self._database.joined(work) as tx:
            return [unflatten(row) for row in await tx.fetch(statement, {**scope_values(scope), **given})]


# ---------------------------------------------------------------- statements


def _texts(name: str) -> ColumnElement[Any]:
    return bindparam(name, type_=ARRAY(Text))


_LIMIT = bindparam("limit", type_=BigInteger)
_MEMORY = bindparam("memory_id", type_=Text)


@lru_cache
def _superseding(tables: Tables) -> Query:
    """Ends the latest record of :memory_id at :ended and inserts the one after it."""
    t = tables.memories
    ended = (
        update(t)
        .where(t.c.memory_id == _MEMORY, t.c.is_latest)
        .values(is_latest=False, superseded_time=bindparam("ended", type_=DateTime(timezone=True)))
        .returning(t.c.record_id)
        .cte("ended")
    )
    first = select(func.count()).select_from(ended).scalar_subquery()  # or both would be the latest for a moment
    source, read = given(t, _COLUMNS, "given")
    new = insert(t).from_select(_COLUMNS, select(*read).select_from(source).where(first >= 0))
    return select(new.returning(t.c.record_id).cte("successor"))


@built_once
def _one(tables: Tables, shape: Shape, which: str) -> Query:
    t = tables.memories
    query = select(t).where(t.c.memory_id == _MEMORY, *shape.in_scope(t))
    match which:
        case "latest":
            return query.where(t.c.is_latest)
        case "version":
            return query.where(t.c.version == bindparam("version", type_=BigInteger))
        case "record":
            return query.where(t.c.record_id == bindparam("record_id", type_=Text))
        case _:
            return query.where(t.c.created_time <= AS_OF).order_by(t.c.version.desc()).limit(1)


@built_once
def _history(tables: Tables, shape: Shape, further: bool) -> Query:
    t = tables.memories
    query = select(t).where(t.c.memory_id == _MEMORY, *shape.in_scope(t))
    if further:
        query = query.where(t.c.version < bindparam("before", type_=BigInteger))
    return query.order_by(t.c.version.desc()).limit(_LIMIT)


@built_once
def _select(tables: Tables, shape: Shape, further: bool) -> Query:
    t = tables.memories
    query = select(t).where(*shape.records(tables))
    if further:
        after = tuple_(bindparam("after_version", type_=BigInteger), bindparam("after_id", type_=Text))
        query = query.where(tuple_(t.c.version, t.c.memory_id) < after)
    return query.order_by(t.c.version.desc(), t.c.memory_id.desc()).limit(_LIMIT)


@built_once
def _count(tables: Tables, shape: Shape) -> Query:
    return select(func.count().label("count")).select_from(tables.memories).where(*shape.records(tables))


@built_once
def _hydrate(tables: Tables, shape: Shape) -> Query:
    t = tables.memories
    return select(t).where(t.c.memory_id == any_(_texts("ids")), *shape.records(tables))


@built_once
def _records(tables: Tables, shape: Shape, predecessors: bool) -> Query:
    t = tables.memories
    meant = t.c.record_id == any_(_texts("ids"))
    if predecessors:
        mine, before = t.alias("mine"), t.alias("before")
        last = (
            select(before.c.record_id)
            .where(before.c.memory_id == mine.c.memory_id, before.c.version < mine.c.version)
            .order_by(before.c.version.desc())
            .limit(1)
            .scalar_subquery()
        )
        meant = or_(meant, t.c.record_id.in_(select(last).where(mine.c.record_id == any_(_texts("ids")))))
    return select(t).where(meant).order_by(t.c.memory_id, t.c.version)


@built_once
def _of_memories(tables: Tables, shape: Shape) -> Query:
    t = tables.memories
    return select(t).where(t.c.memory_id == any_(_texts("ids"))).order_by(t.c.memory_id, t.c.version)


@built_once
def _scan(tables: Tables, shape: Shape) -> Query:
    t = tables.memories
    chosen = (
        select(t.c.memory_id)
        .where(t.c.memory_id > bindparam("after", type_=Text), t.c.is_latest, *shape.in_scope(t))
        .order_by(t.c.memory_id)
        .limit(bindparam("memories", type_=BigInteger))
    )
    return select(t).where(t.c.memory_id.in_(chosen)).order_by(t.c.memory_id, t.c.version)


@built_once
def _existing(tables: Tables, shape: Shape) -> Query:
    t = tables.memories
    return select(t.c.memory_id).where(and_(t.c.memory_id == any_(_texts("ids")), t.c.is_latest))


_COLUMNS = (
    "record_id", "memory_id", "version", "is_latest", *SCOPE_COLUMNS, "text", "data", "content_schema", "metadata",
    "type", "sources", "index_hint", "created_time", "superseded_time", "event_time", "valid_time_from",
    "valid_time_to",
)  # fmt: skip


def _given(tables: Tables, records: Sequence[StoredRecord]) -> dict[str, list[Any]]:
    """Records as the values of a statement."""
    return driver_lists(tables.memories, _COLUMNS, [flatten(record) for record in records], "given")
