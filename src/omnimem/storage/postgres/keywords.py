"""Words in PostgreSQL: BM25 over the numbered words of each text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, Text, any_, bindparam, cast, literal, null, select
from sqlalchemy.dialects.postgresql import ARRAY

from memground.postgres.arms import COUNTED, KeywordArm
from memground.postgres.building import build_missing, drop_where_few
from memground.postgres.engine import Query
from memground.postgres.statistics import common_owners, table_rows
from memground.words import asked, keys, words
from omnimem.models.scope import Dimension, Scope
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
from omnimem.storage.postgres.database import Database, PostgresWork
from omnimem.storage.postgres.gate import Gate
from omnimem.storage.postgres.tables import WORD_COLUMNS, Tables
from omnimem.storage.values import Indexed

_DIMENSIONS: tuple[Dimension | None, ...] = (None, "tenant_id", "user_id")
"""For whose values the words of each column are numbered."""
_SEPARATOR = "\x1f"
"""Between the ids of a candidate; ids hold no control characters."""


@dataclass(frozen=True)
class _Counted:
    """`common`: words so common that reading their rows is in vain; `large`: who has too many rows to be counted."""

    common: frozenset[int]
    large: frozenset[str | None]


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
        scope = selection.scope
        place = max(n for n, owner in enumerate(_owners(scope)) if owner is not None)  # of the narrowest owner
        column, dimension = WORD_COLUMNS[place], _DIMENSIONS[place]
        if not (numbers := keys(_owners(scope)[place] or "", asked(query))):
            return []
        many, rarer = False, numbers
        async with self._database.reading(work) as tx:
            if scope.is_only(dimension) and selection.as_of is None and selection.filter is None:
                counted = await self._counted(tx, column, dimension)
                if many := (None if dimension is None else getattr(scope, dimension)) in counted.large:
                    rarer = [number for number in numbers if number not in counted.common] or numbers
            statement = _candidates(self._tables, Shape.of(selection), column, limit, many)
            found = await tx.fetch(statement, values(selection, words=rarer))
            if not found and rarer != numbers:
                found = await tx.fetch(statement, values(selection, words=numbers))
        parts = ((*row["id"].split(_SEPARATOR), row["score"]) for row in found)
        return [Candidate(memory_id, record_id, score) for memory_id, record_id, score in parts]

    async def _counted(self, tx: PostgresWork, column: str, dimension: Dimension | None) -> "_Counted":
        """What the server counted of a column of words and of those whose words they are; asked once a minute."""
        key = ("counted", column)
        counted: _Counted | None = self._database.hints.get(key)
        if counted is None:
            common = await tx.fetch(_common(self._tables, Shape(), column), {})
            large = await tx.fetch(_large(self._tables, Shape(), dimension), {})
            counted = _Counted(frozenset(row["element"] for row in common), frozenset(row["owner"] for row in large))
            self._database.hints.note(key, counted)
        return counted


def _owners(scope: Scope) -> tuple[str, str | None, str | None]:
    """For whom a text's words are numbered: for everybody, for the tenant, for the user."""
    tenant, user = scope.tenant_id, scope.user_id
    return "", None if tenant is None else f"tenant {tenant}", None if user is None else f"user {user}"


@built_once
def _common(tables: Tables, shape: Shape, column: str) -> Query:
    return KeywordArm(tables.keywords.c[column]).common_words()


@built_once
def _large(tables: Tables, shape: Shape, dimension: Dimension | None) -> Query:
    rows = COUNTED * 5 // 4  # the server's statistics err by some percent
    if dimension is None:
        return select(cast(null(), Text).label("owner")).where(table_rows(tables.keywords) >= rows)
    return common_owners(tables.keywords.c[f"scope_{dimension}"], rows)


@built_once
def _candidates(tables: Tables, shape: Shape, column: str, limit: int, many: bool) -> Query:
    table: Table = tables.keywords_ever if shape.past else tables.keywords
    unfiltered = Shape(shape.dimensions, shape.tagged, shape.past)
    where = unfiltered.found(tables, table, ended=True)
    ids = table.c.memory_id.concat(literal(_SEPARATOR, Text)).concat(table.c.record_id)
    further = shape.filtered_each(tables, table)
    return KeywordArm(table.c[column]).candidates(ids, where, limit=limit, further=further, many=many)


@built_once
def _contents(tables: Tables, shape: Shape) -> Query:
    t = tables.keywords_ever
    ids = bindparam("ids", type_=ARRAY(Text))
    return select(t.c.memory_id, t.c.record_id, t.c.content_hash, t.c.superseded_time).where(t.c.memory_id == any_(ids))
