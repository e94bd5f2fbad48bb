"""Words in PostgreSQL: BM25 over the numbered words of each text."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Table, Text, any_, bindparam, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from memground.postgres.arms import KeywordArm
from memground.postgres.building import build_missing, drop_where_few
from memground.postgres.engine import Query
from memground.words import asked, keys, words
from omnimem.models.scope import Scope
from omnimem.storage.base import (
    BuildProgress,
    Candidate,
    Capabilities,
    KeywordContent,
    KeywordEntry,
    KeywordIndex,
    Selection,
    Work,
)
from omnimem.storage.postgres.conditions import Shape, built_once, values
from omnimem.storage.postgres.database import Database
from omnimem.storage.postgres.gate import Gate
from omnimem.storage.postgres.tables import WORD_COLUMNS, Tables
from omnimem.storage.values import Indexed

_SEPARATOR = "\x1f"
"""Between the ids of a candidate; ids hold no control characters."""


class PostgresKeywords(KeywordIndex):
    """Words beside the truth: `memory_keyword_index` has the latest, `memory_keyword_history` the superseded ones."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tables = database.tables
        self._gate = Gate(database.tables, "keyword", database.tables.keywords, database.tables.keyword_history)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self._database.place, filters=True, as_of=True)

    async def apply(self, work: Work | None, entries: Sequence[KeywordEntry], *, refresh: bool = False) -> None:
        by_record = {entry.record.record_id: entry for entry in entries}

        def rows(record: Indexed) -> list[dict[str, Any]]:
            entry = by_record[record.record_id]
            terms = words(entry.text)
            numbered = {
                column: [] if owner is None else keys(owner, terms)
                for column, owner in zip(WORD_COLUMNS, _owners(record.scope), strict=True)
            }
            return [{"content_hash": entry.content_hash, **numbered}]

        async with self._database.joined(work) as tx:
            await self._gate.apply(tx, [entry.record for entry in entries], rows, held=work is not None)

    async def put_off(self) -> None:
        async with self._database.building() as engine:
            await drop_where_few(engine, (self._tables.keywords, self._tables.keyword_history))

    async def build(self, progress: BuildProgress | None = None) -> None:
        tables = (self._tables.keywords, self._tables.keyword_history)
        async with self._database.building() as engine:
            await build_missing(engine, tables, self._database.dims, progress)

    async def remove(self, work: Work | None, memory_ids: Iterable[str]) -> None:
        async with self._database.joined(work) as tx:
            await self._gate.remove(tx, memory_ids)

    async def reset(self, work: Work | None, memory_ids: Iterable[str]) -> None:
        async with self._database.joined(work) as tx:
            await self._gate.reset(tx, memory_ids)

    async def memory_ids(self, work: Work | None, *, after: str, limit: int) -> list[str]:
        async with self._database.reading(work) as tx:
            return await self._gate.memory_ids(tx, after, limit)

    async def contents(self, work: Work | None, memory_ids: Sequence[str]) -> dict[str, KeywordContent]:
        async with self._database.reading(work) as tx:
            found = await tx.fetch(_contents(self._tables, Shape()), {"ids": list(memory_ids)})
        return {
            row["record_id"]: KeywordContent(row["memory_id"], row["superseded_time"], row["content_hash"])
            for row in found
        }

    async def candidates(self, work: Work | None, query: str, selection: Selection, *, limit: int) -> list[Candidate]:
        owners = dict(zip(WORD_COLUMNS, _owners(selection.scope), strict=True))
        column, owner = [(column, owner) for column, owner in owners.items() if owner is not None][-1]
        if not (numbers := keys(owner, asked(query))):
            return []
        statement = _candidates(self._tables, Shape.of(selection), column, limit)
        async with self._database.reading(work) as tx:
            found = await tx.fetch(statement, values(selection, words=numbers))
        parts = ((*row["id"].split(_SEPARATOR), row["score"]) for row in found)
        return [Candidate(memory_id, record_id, score) for memory_id, record_id, score in parts]


def _owners(scope: Scope) -> tuple[str, str | None, str | None]:
    """For whom a text's words are numbered: for everybody, for the tenant, for the user."""
    tenant, user = scope.tenant_id, scope.user_id
    return "", None if tenant is None else f"tenant {tenant}", None if user is None else f"user {user}"


@built_once
def _candidates(tables: Tables, shape: Shape, column: str, limit: int) -> Query:
    table: Table = tables.keywords_ever if shape.past else tables.keywords
    unfiltered = Shape(shape.dimensions, shape.tagged, shape.past)
    where = unfiltered.found(tables, table, ended=True)
    ids = table.c.memory_id.concat(literal(_SEPARATOR, Text)).concat(table.c.record_id)
    return KeywordArm(table.c[column]).candidates(ids, where, limit=limit, further=shape.filtered(tables, table))


@built_once
def _contents(tables: Tables, shape: Shape) -> Query:
    t = tables.keywords_ever
    ids = bindparam("ids", type_=ARRAY(Text))
    return select(t.c.memory_id, t.c.record_id, t.c.content_hash, t.c.superseded_time).where(t.c.memory_id == any_(ids))
