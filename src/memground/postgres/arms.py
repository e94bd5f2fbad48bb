"""Arms: ranked candidate lists over one table. Vector search exact or approximate, keyword search by BM25 or tsvector.

Each function is pure: from a table and predicates to a `Select` of (id, score), best first, ties by id so that equal
scores give equal lists. `id` is the column the caller names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import (
    Column,
    ColumnElement,
    Float,
    Index,
    String,
    Table,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.types import UserDefinedType

from memground.postgres.engine import Query
from memground.text import has_cjk, words

EXACT_LIMIT = 20_000
"""Visible rows up to which every vector is compared. Above, the HNSW index answers."""

MAX_HNSW_VECTOR = 2_000
MAX_HNSW_HALFVEC = 4_000


class KeywordEngine(StrEnum):
    """Who answers keyword questions: pg_search where the server has it, else PostgreSQL's own text search."""

    BM25 = "bm25"
    TSVECTOR = "tsvector"


@dataclass(frozen=True)
class VectorArm:
    """Cosine search over a `vector(dims)` column. score = 1 − cosine distance, in [−1, 1]."""

    column: Column[Any]
    dims: int

    def index(self, name: str) -> None:
        """Declares the HNSW index: as `vector`, as `halfvec` above 2,000 dimensions, none above 4,000."""
        if self.dims <= MAX_HNSW_VECTOR:
            Index(name, self.column, postgresql_using="hnsw", postgresql_ops={self.column.name: "vector_cosine_ops"})
        elif self.dims <= MAX_HNSW_HALFVEC:
            expression = text(f"(CAST({self.column.name} AS halfvec({self.dims}))) halfvec_cosine_ops")
            Index(name, expression, postgresql_using="hnsw", _table=self.column.table)

    def candidates(
        self,
        ids: ColumnElement[Any],
        query: Sequence[float],
        where: Sequence[ColumnElement[bool]],
        *,
        limit: int,
        exact: bool,
    ) -> Query:
        """(id, score) of the `limit` nearest rows. `exact` compares every row `where` admits."""
        distance: ColumnElement[float]
        if self.dims > MAX_HNSW_VECTOR and not exact:
            half = HALFVEC(self.dims)
            distance = cast(self.column, half).op("<=>", return_type=Float())(literal(list(query), half))
        else:
            distance = self.column.op("<=>", return_type=Float())(literal(list(query), VECTOR(self.dims)))
        # Adding zero hides the index from the planner, so that the scan cannot lose filtered rows.
        order = (distance + 0.0, ids) if exact else (distance,)
        return (
            select(ids.label("id"), (1.0 - distance).label("score"))
            .where(self.column.is_not(None), *where)
            .order_by(*order)
            .limit(limit)
        )


def approximate_settings(limit: int) -> Query:
    """Statement that widens HNSW for this transaction, so that filters do not starve it (pgvector ≥ 0.8)."""
    return select(
        func.set_config("hnsw.iterative_scan", "relaxed_order", True),
        func.set_config("hnsw.ef_search", str(min(1_000, max(200, 2 * limit))), True),
        func.set_config("hnsw.max_scan_tuples", "200000", True),
        func.set_config("hnsw.scan_mem_multiplier", "4", True),
    )


def visible_up_to(where: Sequence[ColumnElement[bool]], table: Table, limit: int) -> Query:
    """How many rows `where` admits, counted no further than `limit`."""
    return select(func.count()).select_from(select(literal(1)).select_from(table).where(*where).limit(limit).subquery())


@dataclass(frozen=True)
class KeywordArm:
    """Keyword search over a text; any word of the query may match, rarer words weigh more.

    English is stemmed; Chinese is segmented (jieba with BM25, single characters with tsvector). Scores grow with
    relevance but depend on the whole table's statistics: compare them within one list only.

    `text` is the searched text as SQL over the table's columns, a constant of the program: the index and the query must
    spell it alike.
    """

    table: Table
    text: str
    engine: KeywordEngine
    filters: tuple[str, ...] = ()
    literals: tuple[str, ...] = ()

    def index(self, name: str) -> None:
        """Declares the index. `literals` and `filters` name columns whose conditions the index answers itself."""
        if self.engine is KeywordEngine.BM25:
            Index(
                name,
                self.table.c.id,
                text(f"(({self.text})::pdb.simple('alias={_ENGLISH}','stemmer=english','stopwords_language=english'))"),
                text(f"(({self.text})::pdb.jieba('alias={_CHINESE}'))"),
                *(text(f"({column}::pdb.literal)") for column in self.literals),
                *(self.table.c[column] for column in self.filters),
                postgresql_using="bm25",
                postgresql_with={"key_field": "'id'"},
            )
        else:
            Index(name, self._document(), postgresql_using="gin", _table=self.table)

    def candidates(
        self,
        ids: ColumnElement[Any],
        query: str,
        where: Sequence[ColumnElement[bool]],
        *,
        limit: int,
        further: Sequence[ColumnElement[bool]] = (),
    ) -> Query:
        """(id, score) of the `limit` best rows that share a word with the query.

        `where`: conditions on `literals` and `filters`, which the index answers. `further`: any others; they are tested
        on every match, because pg_search refuses to score in a statement with conditions it does not know.
        """
        match, score = self._match(query)
        if not further:
            key, worth = self.table.c.id, score
            statement = select(ids.label("id"), score.label("score")).where(match, *where)
        else:
            matches = (
                select(self.table.c.id, score.label("score"))
                .where(match, *where)
                .cte("matches")
                .prefix_with("MATERIALIZED")
            )
            key, worth = matches.c.id, matches.c.score
            joined = matches.join(self.table, self.table.c.id == matches.c.id)
            statement = select(ids.label("id"), worth.label("score")).select_from(joined).where(*further)
        return statement.order_by(worth.desc(), key).limit(limit)

    def _match(self, query: str) -> tuple[ColumnElement[bool], ColumnElement[float]]:
        """The condition that a row shares a word with the query, and its score."""
        if self.engine is KeywordEngine.BM25:
            searched = literal_column(f"({self.text})", String)
            names = (_ENGLISH, _CHINESE) if has_cjk(query) else (_ENGLISH,)
            term = literal(query, String)
            match = or_(*(cast(searched, _Alias(name)).op("|||", is_comparison=True)(term) for name in names))
            return match, func.pdb.score(self.table.c.id, type_=Float())
        terms = _any_word(query)
        return (
            self._document().op("@@", is_comparison=True)(terms),
            func.ts_rank_cd(self._document(), terms, 1 | 32, type_=Float()),
        )

    def _document(self) -> ColumnElement[Any]:
        """The text as lexemes. Written as constants, because the planner must recognise the index's expression."""
        searched = literal_column(f"({self.text})", String)
        spaced = func.regexp_replace(
            searched, literal_column(_CJK_CLASS), literal_column(r"' \1 '"), literal_column("'g'")
        )
        return func.to_tsvector(literal_column("'english'::regconfig"), spaced)


def warm_aliases() -> Query:
    """Statement to run once in a writing transaction before BM25 is asked in a read-only one.

    pg_search records a type modifier in a table of its own when it first meets it, which a read-only transaction may not.
    """
    return select(*(cast(literal(""), _Alias(name)).is_(None) for name in (_ENGLISH, _CHINESE)))


class _Alias(UserDefinedType[str]):
    """pg_search's way of naming one of several tokenisations of a column."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return f"pdb.alias('{self.name}')"


_ENGLISH, _CHINESE = "english", "chinese"
# The same characters as memground.text.segment, as a PostgreSQL regular expression.
_CJK_CLASS = r"'([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0002fa1f])'"


def _any_word(query: str) -> ColumnElement[Any]:
    """A tsquery that any word of the query satisfies; the words are letters and digits only, so nothing is syntax."""
    terms = " | ".join(dict.fromkeys(words(query)))
    return func.to_tsquery(literal_column("'english'::regconfig"), literal(terms, String))
