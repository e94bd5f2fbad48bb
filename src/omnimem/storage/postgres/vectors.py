"""Vectors in PostgreSQL, by pgvector."""

import logging
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import REAL, Table, Text, any_, bindparam, cast, func, null, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from memground.postgres.arms import Scan, approximate_settings, is_few, place_of
from memground.postgres.building import build_missing, drop_where_few
from memground.postgres.engine import DRIVER_ERRORS, Query
from memground.postgres.statistics import freshen
from omnimem.models.scope import Scope
from omnimem.storage.base import (
    BuildProgress,
    Candidate,
    Capabilities,
    Selection,
    Vector,
    VectorContent,
    VectorEntry,
    VectorIndex,
    Work,
)
from omnimem.storage.postgres.conditions import Exactly, Shape, built_once, scope_values, values
from omnimem.storage.postgres.database import Database, PostgresWork
from omnimem.storage.postgres.gate import Gate
from omnimem.storage.postgres.successor import abandon_successor, opened_successor
from omnimem.storage.postgres.tables import Tables
from omnimem.storage.successor import VectorSuccessor
from omnimem.storage.values import Indexed

_log = logging.getLogger("omnimem.storage")

_OWNER = "tenant_id"
"""The dimension whose larger values have an index of their own."""
_STEP, _MOST = 100, 16_000
"""Rows asked for, in whole steps so that few statements are needed; more where one memory has many of the nearest
vectors."""


class PostgresVectors(VectorIndex):
    """`memory_vector_index` has the vectors of the latest records, `memory_vector_history` the superseded ones.

    `tables` and `model_id`: those of another model than the database's.
    """

    def __init__(self, database: Database, tables: Tables | None = None, model_id: str | None = None) -> None:
        self._database = database
        self._tables = tables = tables or database.tables
        self._model_id = model_id or database.model_id
        self._gate = Gate(tables, tables.vector_index, tables.vectors, tables.vector_history)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self._database.place, filters=True, as_of=True)

    async def about(self) -> dict[str, str]:
        return await self._database.about()

    @property
    def dims(self) -> int:
        return self._tables.dims

    @property
    def model_id(self) -> str:
        return self._model_id

    async def apply(self, work: Work | None, entries: Sequence[VectorEntry], *, refresh: bool = False) -> None:
        vectors = {entry.record.record_id: entry.vectors for entry in entries}

        def rows(record: Indexed) -> list[dict[str, Any]]:
            return [
                {
                    "field_name": field,
                    "model_id": self.model_id,
                    "content_hash": vector.content_hash,
                    "embedding": vector.numbers,
                }
                for field, vector in vectors[record.record_id].items()
            ]

        async with self._database.joined(work) as tx:
            await self._gate.apply(tx, [entry.record for entry in entries], rows, held=work is not None)

    async def put_off(self) -> None:
        async with self._database.building() as engine:
            await drop_where_few(engine, (self._tables.vectors, self._tables.vector_history))

    async def build(self, progress: BuildProgress | None = None) -> None:
        tables = (self._tables.vectors, self._tables.vector_history)
        async with self._database.building() as engine:
            await build_missing(engine, tables, self._database.dims, progress)
            try:
                await self._tend(engine)
            except (DBAPIError, *DRIVER_ERRORS) as error:  # searches are right without; whoever tends next makes them
                _log.warning("no indexes of large tenants' own were made: %s", error)

    async def tend(self) -> None:
        async with self._database.building() as engine:
            await freshen(engine, self._database.schema)
            await self._tend(engine)

    async def _tend(self, engine: AsyncEngine) -> None:
        made = 0
        for table in (self._tables.vectors, self._tables.vector_history):
            made += len(await self._tables.vector_arm(table).own_indexes.tend(engine))
        if made:
            self._database.hints.clear()

    async def remove(self, work: Work | None, memory_ids: Iterable[str]) -> None:
        async with self._database.joined(work) as tx:
            await self._gate.remove(tx, memory_ids)

    async def reset(self, work: Work | None, memory_ids: Iterable[str]) -> None:
        async with self._database.joined(work) as tx:
            await self._gate.reset(tx, memory_ids)

    async def memory_ids(self, work: Work | None, *, after: str, limit: int) -> list[str]:
        async with self._database.reading(work) as tx:
            return await self._gate.memory_ids(tx, after, limit)

    async def contents(self, work: Work | None, memory_ids: Sequence[str]) -> dict[str, VectorContent]:
        given = {"ids": list(memory_ids), "model_id": self.model_id}
        async with self._database.reading(work) as tx:
            found = await tx.fetch(_contents(self._tables, Shape()), given)
        hashes: dict[str, dict[str, str]] = {}
        about: dict[str, tuple[str, Any]] = {}
        for row in found:
            hashes.setdefault(row["record_id"], {})[row["field_name"]] = row["content_hash"]
            about[row["record_id"]] = row["memory_id"], row["superseded_time"]
        return {key: VectorContent(*about[key], hashes[key]) for key in hashes}

    async def known(self, work: Work | None, texts: Collection[tuple[str, str]]) -> dict[tuple[str, str], Vector]:
        if not texts:
            return {}
        ids, hashes = zip(*sorted(texts), strict=True)
        given = {"ids": list(ids), "hashes": list(hashes), "model_id": self.model_id}
        async with self._database.reading(work) as tx:
            found = await tx.fetch(_known(self._tables, Shape()), given)
        return {(r["memory_id"], r["content_hash"]): Vector(r["content_hash"], r["numbers"]) for r in found}

    def successor(self, *, dims: int, model_id: str) -> AbstractAsyncContextManager[VectorSuccessor]:
        return opened_successor(self._database, partial(PostgresVectors, self._database), dims, model_id)

    async def abandon(self) -> bool:
        return await abandon_successor(self._database)

    async def candidates(
        self, work: Work | None, vector: Sequence[float], selection: Selection, *, limit: int
    ) -> list[Candidate]:
        async with self._database.reading(work) as tx:
            best = await self._nearest(tx, self._tables.vectors, vector, selection, limit)
            if selection.as_of is not None:
                then = await self._nearest(tx, self._tables.vector_history, vector, selection, limit)
                for candidate in then.values():
                    known = best.get(candidate.memory_id)
                    if known is None or known.score < candidate.score:
                        best[candidate.memory_id] = candidate
        return sorted(best.values(), key=lambda found: (-found.score, found.memory_id))[:limit]

    async def _nearest(
        self, tx: PostgresWork, table: Table, vector: Sequence[float], selection: Selection, limit: int
    ) -> "_Best":
        scan = await self._scan(tx, table, selection)
        given = values(selection, vector=list(vector))
        best = _Best()
        key = ("rows of a memory", table.name, selection.scope)
        rows = min(_MOST, -(-limit * (self._database.hints.get(key) or 1) // _STEP) * _STEP)
        while True:
            if scan is not Scan.EXACT:
                await tx.fetch(approximate_settings(rows), {})
            statement = _candidates(self._tables, Shape.of(selection), table, rows, scan)
            found = await tx.fetch(statement, given)
            for row in found:
                best.setdefault(
                    row["memory_id"], Candidate(row["memory_id"], row["record_id"], row["score"], row["field_name"])
                )
            if len(best) >= limit or len(found) < rows or rows == _MOST:
                return best
            self._database.hints.note(key, 2 * rows // limit)  # where the next search begins
            rows = min(_MOST, 2 * rows)

    async def _scan(self, tx: PostgresWork, table: Table, selection: Selection) -> Scan:
        """Few rows are all compared, many are asked of the tenant's own index or of the one over all.

        How many a scope has, how many of them there were at a moment, and how many a filter leaves, is asked seldom.
        """
        index = await self._index(tx, table, selection.scope)
        asked = [] if index is Scan.OWN and selection.scope.is_only(_OWNER) else [Selection(selection.scope)]
        if selection.as_of is not None:
            asked.append(Selection(selection.scope, as_of=selection.as_of))
        if selection.filter is not None:
            asked.append(selection)
        for wider in asked:
            key = ("few", table.name, wider.scope, wider.as_of, Exactly.of(wider.filter))
            few = self._database.hints.get(key)
            if few is None:
                few = await self._is_few(tx, table, wider, index)
                self._database.hints.note(key, few)
            if few:
                return Scan.EXACT
        return index

    async def _index(self, tx: PostgresWork, table: Table, scope: Scope) -> Scan:
        """The index to be asked where all rows of the scope are too many to be compared."""
        if scope.tenant_id is None:
            return Scan.SHARED
        key = ("own index", table.name, scope.tenant_id)
        own = self._database.hints.get(key)
        if own is None:
            statement = _own_index(self._tables, Shape((_OWNER,)), table)
            own = bool((await tx.fetch(statement, scope_values(scope)))[0]["there"])
            self._database.hints.note(key, own)
        return Scan.OWN if own else Scan.SHARED

    async def _is_few(self, tx: PostgresWork, table: Table, selection: Selection, index: Scan) -> bool:
        statement = _few(self._tables, Shape.of(selection), table, index)
        found = await tx.fetch(statement, values(selection))
        return bool(next(iter(found[0].values())))


class _Best(dict[str, Candidate]):
    """By memory, its best candidate."""


def _conditions(tables: Tables, shape: Shape, table: Table) -> list[Any]:
    return shape.found(tables, table, ended=table is tables.vector_history)


@built_once
def _few(tables: Tables, shape: Shape, table: Table, index: Scan) -> Query:
    return is_few(table, _conditions(tables, shape, table), index)


@built_once
def _own_index(tables: Tables, shape: Shape, table: Table) -> Query:
    tenant = bindparam(f"scope_{_OWNER}", type_=Text)
    return select(tables.vector_arm(table).own_indexes.there(tenant).label("there"))


@built_once
def _candidates(tables: Tables, shape: Shape, table: Table, limit: int, scan: Scan) -> Query:
    where = _conditions(tables, replace(shape, where=None), table)
    where += (shape.filtered if scan is Scan.EXACT else shape.filtered_each)(tables, table)
    near = tables.vector_arm(table).candidates(table.c.id, where, limit=limit, scan=scan).subquery("near")
    return (
        select(table.c.memory_id, table.c.record_id, table.c.field_name, near.c.score)
        .select_from(near.join(table, near.c.row == place_of(table)))
        .order_by(near.c.score.desc(), table.c.memory_id, table.c.field_name)
    )


_IDS = bindparam("ids", type_=ARRAY(Text))
_MODEL = bindparam("model_id", type_=Text)


@built_once
def _contents(tables: Tables, shape: Shape) -> Query:
    now, then = tables.vectors, tables.vector_history
    parts = [
        select(t.c.memory_id, t.c.record_id, t.c.field_name, t.c.content_hash, end.label("superseded_time")).where(
            t.c.memory_id == any_(_IDS), t.c.model_id == _MODEL
        )
        for t, end in ((now, cast(null(), then.c.superseded_time.type)), (then, then.c.superseded_time))
    ]
    return select(union_all(*parts).subquery("contents"))


@built_once
def _known(tables: Tables, shape: Shape) -> Query:
    hashes = bindparam("hashes", type_=ARRAY(Text))
    wanted = func.unnest(_IDS, hashes).table_valued("id", "hash", name="wanted").render_derived()
    parts = [
        select(t.c.memory_id, t.c.content_hash, cast(t.c.embedding, ARRAY(REAL)).label("numbers"))
        .join(wanted, (wanted.c.id == t.c.memory_id) & (wanted.c.hash == t.c.content_hash))
        .where(t.c.model_id == _MODEL)
        for t in (tables.vectors, tables.vector_history)
    ]
    found = union_all(*parts).subquery("known")
    # One of many equal ones: a text kept over many versions has a vector beside each.
    return select(found).ext(distinct_on(found.c.memory_id, found.c.content_hash))
