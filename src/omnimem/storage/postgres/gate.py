"""How both indexes take in records, whatever comes in whatever order.

For each memory a row of `memory_index_states` says which version the index has as the newest, or that the memory was
removed. It is locked first; then what is newer than it takes the place of what is there, which moves to the history,
and what is older goes into the history at once. What filters may name of a record comes and goes with its rows.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from sqlalchemy import BigInteger, Boolean, String, Table, Text, any_, bindparam, delete, func, literal, select, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects.postgresql import ARRAY, insert

from omnimem.storage.base import Indexed
from omnimem.storage.flat import scope_fields
from omnimem.storage.postgres.database import PostgresWork
from omnimem.storage.postgres.documents import Documents
from omnimem.storage.postgres.tables import Tables

type Rows = Callable[[Indexed], list[dict[str, Any]]]
"""The rows that an index keeps of a record."""


@dataclass(frozen=True)
class Gate:
    """One index: its table of what is found now, that of what was, and its name among the states."""

    tables: Tables
    index_name: str
    current: Table
    history: Table

    async def apply(self, work: PostgresWork, records: Sequence[Indexed], rows: Rows) -> None:
        """Takes in records; `rows` are those of one, without the columns all have."""

        def full(record: Indexed) -> list[dict[str, Any]]:
            return [{**_shared(record), **row} for row in rows(record)]

        new = [record for record in records if record.first]
        if new:
            # Nobody can know of them yet. Those of a memory that follow its first one come in the same call.
            await self._mark(work, new)
            await self._insert(work, self.current, [row for record in new for row in full(record)])
            await self._documents.keep(work, new)
        await self._replace(work, [record for record in records if not record.first], full)

    async def remove(self, work: PostgresWork, memory_ids: Iterable[str]) -> None:
        """Removes memories for good."""
        ids = sorted(set(memory_ids))
        if ids:
            await self._lock(work, ids)
            s = self.tables.states
            mine = (s.c.index_name == self.index_name, s.c.memory_id == any_(_IDS))
            await work.execute(update(s).where(*mine).values(is_deleted=True), {"ids": ids})
            await self._forget(work, ids)

    async def reset(self, work: PostgresWork, memory_ids: Iterable[str]) -> None:
        """Forgets memories, so that they can be taken in anew."""
        ids = sorted(set(memory_ids))
        if ids:
            await self._lock(work, ids)
            s = self.tables.states
            mine = (s.c.index_name == self.index_name, s.c.memory_id == any_(_IDS))
            await work.execute(update(s).where(*mine).values(is_deleted=False, version=_NEVER), {"ids": ids})
            await self._forget(work, ids)

    async def memory_ids(self, work: PostgresWork, after: str, limit: int) -> list[str]:
        """Ids of the memories there are, whether found or only in the history."""
        s = self.tables.states
        there = select(s.c.memory_id).where(
            s.c.index_name == self.index_name, ~s.c.is_deleted, s.c.memory_id > after, s.c.version != _NEVER
        )
        return list((await work.execute(there.order_by(s.c.memory_id).limit(limit))).scalars())

    async def _replace(
        self, work: PostgresWork, records: Sequence[Indexed], full: Callable[[Indexed], list[dict[str, Any]]]
    ) -> None:
        by_memory: defaultdict[str, list[Indexed]] = defaultdict(list)
        for record in sorted(records, key=lambda record: (record.memory_id, record.version)):
            by_memory[record.memory_id].append(record)
        if not by_memory:
            return
        states = await self._lock(work, list(by_memory))
        moved: list[dict[str, Any]] = []
        current: list[Indexed] = []
        past: list[dict[str, Any]] = []
        late: list[dict[str, Any]] = []
        kept: list[Indexed] = []
        for memory_id, found in by_memory.items():
            version, deleted = states[memory_id]
            if deleted:
                continue
            newer = [record for record in found if record.version > version]
            if newer:
                moved.append({"moved_id": memory_id, "moved_at": newer[0].created_time})
                current.append(newer[-1])
                kept += newer
            for record, successor in pairwise(newer):
                end = record.superseded_time or successor.created_time
                past += [{**row, "superseded_time": end} for row in full(record)]
            for record in found:
                if record.version >= version or record.superseded_time is None:
                    continue  # there already, or read before the newer one was written
                kept.append(record)
                past += [{**row, "superseded_time": record.superseded_time} for row in full(record)]
                late.append({"late_id": memory_id, "late_version": record.version, "late_at": record.created_time})
        await self._move(work, moved)
        await self._insert(work, self.history, past, again=True)
        await self._shorten(work, late)
        await self._insert(work, self.current, [row for record in current for row in full(record)])
        await self._advance(work, current)
        await self._documents.keep(work, kept)

    async def _lock(self, work: PostgresWork, ids: Sequence[str]) -> dict[str, tuple[int, bool]]:
        """(newest version, removed) of memories, locked in one order until the transaction ends."""
        found = await work.fetch(_locking(self.tables, self.index_name), {"ids": list(ids)})
        return {row["memory_id"]: (row["version"], row["is_deleted"]) for row in found}

    async def _mark(self, work: PostgresWork, records: Sequence[Indexed]) -> None:
        rows = [
            {"index_name": self.index_name, "memory_id": r.memory_id, "version": r.version, "is_deleted": False}
            for r in records
        ]
        await work.execute(plain_insert(self.tables.states), rows)

    async def _advance(self, work: PostgresWork, records: Sequence[Indexed]) -> None:
        if records:
            ids, versions = [record.memory_id for record in records], [record.version for record in records]
            await work.fetch(_advancing(self.tables, self.index_name), {"ids": ids, "versions": versions})

    async def _move(self, work: PostgresWork, moved: list[dict[str, Any]]) -> None:
        """What was found until now becomes history."""
        if not moved:
            return
        names = [column.name for column in self.current.columns if column.name != "id"]
        gone = delete(self.current).where(self.current.c.memory_id == bindparam("moved_id", type_=Text))
        gone_rows = gone.returning(*(self.current.c[name] for name in names)).cte("gone")
        time = self.history.c.superseded_time.type
        kept = select(*gone_rows.c, bindparam("moved_at", type_=time))
        await work.execute(insert(self.history).from_select([*names, "superseded_time"], kept), moved)

    async def _shorten(self, work: PostgresWork, late: list[dict[str, Any]]) -> None:
        """A record that came late ended the ones before it earlier than the ones after it did."""
        if late:
            h = self.history
            at = bindparam("late_at", type_=h.c.superseded_time.type)
            before = (
                h.c.memory_id == bindparam("late_id", type_=Text),
                h.c.version < bindparam("late_version", type_=BigInteger),
                h.c.superseded_time > at,
            )
            await work.execute(update(h).where(*before).values(superseded_time=at), late)

    async def _insert(
        self, work: PostgresWork, table: Table, rows: list[dict[str, Any]], *, again: bool = False
    ) -> None:
        if rows:
            statement = insert(table)
            await work.execute(statement.on_conflict_do_nothing() if again else statement, rows)

    async def _forget(self, work: PostgresWork, ids: Sequence[str]) -> None:
        for table in (self.current, self.history):
            await work.execute(delete(table).where(table.c.memory_id == any_(_IDS)), {"ids": list(ids)})
        await self._documents.drop(work, ids)

    @property
    def _documents(self) -> Documents:
        return Documents(self.tables, "keyword" if self.current is self.tables.keywords else "vector")


_NEVER = -1
_IDS = bindparam("ids", type_=ARRAY(Text))


@lru_cache
def _locking(tables: Tables, index_name: str) -> Any:
    """(memory_id, version, is_deleted) of :ids, made where they are not there, and locked in one order."""
    s = tables.states
    given = func.unnest(_IDS).table_valued("id", name="given").render_derived()
    rows = select(literal(index_name, String), given.c.id, literal(_NEVER, BigInteger), literal(False, Boolean))
    new = insert(s).from_select(["index_name", "memory_id", "version", "is_deleted"], rows.order_by(given.c.id))
    locked = new.on_conflict_do_update(index_elements=["index_name", "memory_id"], set_={"version": s.c.version})
    return locked.returning(s.c.memory_id, s.c.version, s.c.is_deleted)


@lru_cache
def _advancing(tables: Tables, index_name: str) -> Any:
    """Writes :versions as the newest of :ids."""
    s = tables.states
    versions = bindparam("versions", type_=ARRAY(BigInteger))
    given = func.unnest(_IDS, versions).table_valued("id", "version", name="given").render_derived()
    return (
        update(s)
        .where(s.c.index_name == literal(index_name, String), s.c.memory_id == given.c.id)
        .values(version=given.c.version)
        .returning(s.c.memory_id)
    )


def _shared(record: Indexed) -> dict[str, Any]:
    return {
        "memory_id": record.memory_id,
        "record_id": record.record_id,
        "version": record.version,
        "created_time": record.created_time,
        **scope_fields(record.scope),
    }
