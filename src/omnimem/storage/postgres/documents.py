"""What indexes filter by, where the truth is elsewhere: the filterable part of each record they hold.

One table for both indexes, with a mark for each: a document is there as long as one of them holds its record. Rows are
locked once in a transaction, in the order of their ids, so that two indexes that follow the same changes wait for and
never block each other. A memory's marks of an index change only while its state in that index is locked (`Gate`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Text, and_, any_, bindparam, collate, delete, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from omnimem.storage.base import StoredRecord
from omnimem.storage.flat import flatten
from omnimem.storage.postgres.database import PostgresWork
from omnimem.storage.postgres.tables import INDEXES, Tables
from omnimem.storage.values import Indexed


@dataclass(frozen=True)
class Documents:
    """The documents of one index (of `INDEXES`); none where the truth itself is at hand."""

    tables: Tables
    index_name: str

    async def keep(self, work: PostgresWork, records: Sequence[Indexed]) -> None:
        """Keeps what filters may name of records that the index takes in; called once in a transaction."""
        if self.tables.truth or not records:
            return
        marks = {f"in_{index}_index": index == self.index_name for index in INDEXES}
        given = [column.name for column in self.tables.documents.columns if column.name not in marks]
        rows = [flatten(StoredRecord(r.memory, None)) for r in sorted(records, key=lambda r: r.record_id)]
        await work.execute(
            _keeping(self.tables, self.index_name), [{**{name: row[name] for name in given}, **marks} for row in rows]
        )

    async def drop(self, work: PostgresWork, memory_ids: Sequence[str]) -> None:
        """The index holds nothing of these memories any more."""
        if self.tables.truth:
            return
        for statement in _dropping(self.tables, self.index_name):
            await work.execute(statement, {"ids": list(memory_ids)})


@lru_cache
def _keeping(tables: Tables, index_name: str) -> Any:
    t = tables.documents
    mark = t.c[f"in_{index_name}_index"]
    # A record never changes: what the other index kept of it is what this one would keep.
    return insert(t).on_conflict_do_update(index_elements=[t.c.record_id], set_={mark.name: true()}, where=~mark)


@lru_cache
def _dropping(tables: Tables, index_name: str) -> Sequence[Any]:
    t = tables.documents
    marks = {index: t.c[f"in_{index}_index"] for index in INDEXES}
    own = marks.pop(index_name)
    # Each statement sees what was committed before it. Without the mark, the second and third would also wait for
    # documents that the other index has put there since the first one locked what there was, out of order.
    mine = and_(t.c.memory_id == any_(bindparam("ids", type_=ARRAY(Text))), own)
    return (
        select(t.c.record_id).where(mine).order_by(collate(t.c.record_id, "C")).with_for_update(),
        delete(t).where(mine, *(~other for other in marks.values())),
        update(t).where(mine).values({own.name: False}),
    )
