"""How both indexes take in records, whatever comes in whatever order.

For each memory a row of `memory_index_states` says which version the index has as the newest, or that the memory was
removed. It is locked first; then what is newer than it takes the place of what is there, which moves to the history,
and what is older goes into the history at once. What filters may name of a record comes and goes with its rows.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    String,
    Table,
    TableValuedAlias,
    Text,
    and_,
    any_,
    bindparam,
    delete,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert

from memground.postgres.bulk import driver_lists, given, insertion, unnest
from memground.postgres.engine import Query
from omnimem.storage.flat import scope_fields
from omnimem.storage.postgres.database import PostgresWork
from omnimem.storage.postgres.documents import Documents
from omnimem.storage.postgres.tables import Tables
from omnimem.storage.values import Indexed

type Rows = Callable[[Indexed], list[dict[str, Any]]]
"""The rows that an index keeps of a record."""


@dataclass(frozen=True)
class Gate:
    """One index: its table of what is found now, that of what was, and its name among the states."""

    tables: Tables
    index_name: str
    current: Table
    history: Table

    async def apply(self, work: PostgresWork, records: Sequence[Indexed], rows: Rows, *, held: bool) -> None:
        """Takes in records; `rows` are those of one, without the columns all have.

        `held`: the transaction is the truth's, where nobody else changes these memories until it ends.
        """

        def full(record: Indexed) -> list[dict[str, Any]]:
            return [{**_shared(record), **row} for row in rows(record)]

        new = [record for record in records if record.first]
        if new:
            # Nobody can know of them yet. Those of a memory that follow its first one come in the same call.
            await work.fetch(_beginning(self), self._given([(r, r.created_time) for r in new], full))
        kept = await self._replace(work, [record for record in records if not record.first], full, held=held)
        await self._documents.keep(work, [*new, *kept])

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
        self,
        work: PostgresWork,
        records: Sequence[Indexed],
        full: Callable[[Indexed], list[dict[str, Any]]],
        *,
        held: bool,
    ) -> list[Indexed]:
        """Takes in records of memories that may be known. Returns which it took, none if the truth is here."""
        by_memory: defaultdict[str, list[Indexed]] = defaultdict(list)
        for record in sorted(records, key=lambda record: (record.memory_id, record.version)):
            by_memory[record.memory_id].append(record)
        if not by_memory:
            return []
        newest: list[tuple[Indexed, datetime]] = []
        past: list[dict[str, Any]] = []
        late: list[dict[str, Any]] = []
        kept: list[Indexed] = []
        if held and all(len(found) == 1 and found[0].superseded_time is None for found in by_memory.values()):
            newest = [(found[0], found[0].created_time) for found in by_memory.values()]
        else:
            states = await self._lock(work, list(by_memory))
            for memory_id, found in by_memory.items():
                version, deleted = states[memory_id]
                if deleted:
                    continue
                newer = [record for record in found if record.version > version]
                if newer:
                    newest.append((newer[-1], newer[0].created_time))
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
        if newest:
            await work.fetch(_replacing(self), self._given(newest, full))
        if past:
            statement, columns = _remembering(self.history)
            await work.fetch(statement, driver_lists(self.history, columns, past, "given"))
        await self._shorten(work, late)
        return kept

    def _given(
        self, records: Iterable[tuple[Indexed, datetime]], full: Callable[[Indexed], list[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Records that become current, and when what was there before them ended, as the values of a statement."""
        heads = [
            {"memory_id": record.memory_id, "version": record.version, "created_time": ended}
            for record, ended in records
        ]
        rows = [row for record, _ in records for row in full(record)]
        return {
            **driver_lists(self.current, _HEAD, heads, "head"),
            **driver_lists(self.current, _columns(self.current), rows, "given"),
        }

    async def _lock(self, work: PostgresWork, ids: Sequence[str]) -> dict[str, tuple[int, bool]]:
        """(newest version, removed) of memories, locked in one order until the transaction ends."""
        found = await work.fetch(_locking(self.tables, self.index_name), {"ids": list(ids)})
        return {row["memory_id"]: (row["version"], row["is_deleted"]) for row in found}

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
def _beginning(gate: Gate) -> Query:
    """Takes in the first records of memories."""
    s = gate.tables.states
    head = _heads(gate)
    marks = select(literal(gate.index_name, String), head.c.memory_id, head.c.version, literal(False, Boolean))
    marked = insert(s).from_select(_STATE, marks).returning(s.c.memory_id).cte("marked")
    source, read = given(gate.current, _columns(gate.current), "given")
    placed = insert(gate.current).from_select(_columns(gate.current), select(*read).select_from(source))
    done = placed.returning(gate.current.c.memory_id).cte("placed")
    return select(func.count()).select_from(marked).add_cte(done)


@lru_cache
def _replacing(gate: Gate) -> Query:
    """Has records take the place of what is there, which becomes history, where they are newer than it."""
    s, now, then = gate.tables.states, gate.current, gate.history
    head = _heads(gate)
    marks = select(literal(gate.index_name, String), head.c.memory_id, head.c.version, literal(False, Boolean))
    mark = insert(s).from_select(_STATE, marks.order_by(head.c.memory_id))
    newer = mark.on_conflict_do_update(
        index_elements=["index_name", "memory_id"],
        set_={"version": mark.excluded.version},
        where=and_(s.c.version < mark.excluded.version, ~s.c.is_deleted),
    )
    won = newer.returning(s.c.memory_id).cte("won")
    columns = _columns(now)
    gone = delete(now).where(now.c.memory_id == won.c.memory_id).returning(*(now.c[name] for name in columns))
    gone = gone.cte("gone")
    ended = select(*gone.c, head.c.created_time).join_from(gone, head, head.c.memory_id == gone.c.memory_id)
    kept = insert(then).from_select([*columns, "superseded_time"], ended).returning(then.c.record_id).cte("kept")
    first = select(func.count()).select_from(gone).scalar_subquery()  # what was there makes room before
    source, read = given(now, columns, "given")
    new = select(*read).select_from(source.join(won, won.c.memory_id == source.c.memory_id)).where(first >= 0)
    placed = insert(now).from_select(columns, new).returning(now.c.memory_id).cte("placed")
    return select(func.count()).select_from(won).add_cte(kept, placed)


@lru_cache
def _remembering(history: Table) -> tuple[Insert, tuple[str, ...]]:
    """Takes in rows of the past that are not there yet, and the columns they have."""
    columns = _columns(history)
    return insertion(history, columns).on_conflict_do_nothing(), columns


_HEAD = ("memory_id", "version", "created_time")
_STATE = ("index_name", "memory_id", "version", "is_deleted")


def _heads(gate: Gate) -> TableValuedAlias:
    return unnest([gate.current.c[name] for name in _HEAD], "head")


@lru_cache
def _columns(table: Table) -> tuple[str, ...]:
    """What is written of a row: all but the number the server gives it."""
    return tuple(column.name for column in table.columns if column.identity is None)


def _shared(record: Indexed) -> dict[str, Any]:
    return {
        "memory_id": record.memory_id,
        "record_id": record.record_id,
        "version": record.version,
        "created_time": record.created_time,
        **scope_fields(record.scope),
    }
