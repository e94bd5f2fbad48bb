"""Arms: ranked candidate lists over one table. Vector search exact or approximate, keyword search by BM25 or tsvector.

Each function is pure: from a table and predicates to a `Select` of (id, score), best first, ties by id so that equal
scores give equal lists. `id` is the column the caller names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
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
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.types import UserDefinedType

from memground.postgres.engine import Query
from memground.text import has_cjk, segment, telling

EXACT_ROWS = 20_000
"""Rows up to which every vector is compared, however large the table."""

BM25_OPTIONS = {
    "key_field": "'id'",
    # New rows wait in a segment that every query reads row by row: the default of 1,000 made queries 20 times slower
    # right after writes. Small segments are merged at once, by the writer.
    "mutable_segment_rows": "20",
    "layer_sizes": "'1kb, 10kb, 100kb, 1mb, 100mb'",
    "background_layer_sizes": "'0'",
}

MAX_LEXEMES = 100_000
"""Characters of a text that tsvector sees: so many fit into one (1 MB) whatever they are."""

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
        distance = self.column.op("<=>", return_type=Float())(literal(list(query), VECTOR(self.dims)))
        rows = select(ids.label("id"), distance.label("distance")).where(self.column.is_not(None), *where)
        if not exact:
            nearest: ColumnElement[float] = distance
            if self.dims > MAX_HNSW_VECTOR:
                half = HALFVEC(self.dims)
                nearest = cast(self.column, half).op("<=>", return_type=Float())(literal(list(query), half))
            rows = rows.order_by(nearest).limit(_reach(limit))
        found = rows.subquery("found")
        # Ordered by the score, not by the distance: for that the planner would take the index, also for an exact scan,
        # and believe that an approximate one yields sorted rows. It is also the one number computed per row.
        score = 1.0 - found.c.distance
        return select(found.c.id, score.label("score")).order_by(score.desc(), found.c.id).limit(limit)


def _reach(limit: int) -> int:
    """How many rows an approximate scan collects, to find the `limit` nearest among them.

    Measured with filters that admit 5% and 20% of 30,000 clustered vectors: a scan that stops at `limit` rows has 87%
    to 97% of the nearest, one that goes on to this many has more than 99%.
    """
    return 3 * limit + 200


def approximate_settings(limit: int) -> Query:
    """Statement that widens HNSW for this transaction, so that filters do not starve it (pgvector ≥ 0.8)."""
    return select(
        func.set_config("hnsw.iterative_scan", "relaxed_order", True),
        func.set_config("hnsw.ef_search", str(min(1_000, _reach(limit))), True),
        func.set_config("hnsw.max_scan_tuples", "1000000", True),
        func.set_config("hnsw.scan_mem_multiplier", "8", True),
    )


def exact_is_cheaper(where: Sequence[ColumnElement[bool]], table: Table, limit: int) -> Query:
    """Statement: whether to find the `limit` nearest by comparing every row that `where` admits (true or false).

    Comparing n rows costs n. Of a table's N rows an approximate scan passes about reach · N / n until it has collected
    `reach`, each three times as dear, because it jumps about. So it wins above n = √(3 · reach · N). Before pgvector
    0.8 it would stop early and lose rows, so the answer is always true.
    """
    name = postgresql.dialect().identifier_preparer.format_table(table)
    size = select(func.greatest(literal_column("reltuples", Float), 0.0)).select_from(text("pg_catalog.pg_class"))
    size = size.where(literal_column("oid", Integer) == func.to_regclass(literal(name, String))).scalar_subquery()
    bound = cast(func.greatest(float(EXACT_ROWS), func.sqrt(3.0 * _reach(limit) * size)), BigInteger)
    admitted = select(literal(1)).select_from(table).where(*where).limit(bound + 1).subquery("admitted")
    version = cast(func.string_to_array(literal_column("extversion", String), "."), ARRAY(Integer))
    extension = select(version).select_from(text("pg_catalog.pg_extension"))
    vector = extension.where(literal_column("extname", String) == "vector").scalar_subquery()
    return select(or_(func.count() <= bound, vector < cast([0, 8], ARRAY(Integer)))).select_from(admitted)


@dataclass(frozen=True)
class KeywordArm:
    """Keyword search over a text; any word of the query may match, with BM25 rarer words weigh more.

    English is stemmed; Chinese is segmented (jieba and single characters with BM25, single characters with tsvector,
    which sees the first 100,000 characters of a text). Scores grow with relevance but depend on the whole table's
    statistics: compare them within one list only.

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
                text(
                    f"(({_spaced(self.text)})::pdb.simple('alias={_ENGLISH}','stemmer=english','stopwords_language=english'))"
                ),
                text(f"(({self.text})::pdb.jieba('alias={_CHINESE}','trim=true'))"),
                *(text(f"({column}::pdb.literal)") for column in self.literals),
                *(self.table.c[column] for column in self.filters),
                postgresql_using="bm25",
                postgresql_with=BM25_OPTIONS,
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
        query = telling(query)
        if self.engine is KeywordEngine.BM25:
            # Single characters count too: 车停 and 停车 are segmented differently.
            english = self._shares_word(_spaced(self.text), _ENGLISH, segment(query))
            # Segmentation keeps punctuation as words, and many texts share a full stop.
            chinese = [self._shares_word(self.text, _CHINESE, _NO_WORD.sub(" ", query))] if has_cjk(query) else []
            return or_(english, *chinese), func.pdb.score(self.table.c.id, type_=Float())
        terms = _any_word(query)
        return (
            self._document().op("@@", is_comparison=True)(terms),
            func.ts_rank_cd(self._document(), terms, 1 | 32, type_=Float()),
        )

    @staticmethod
    def _shares_word(searched: str, alias: str, query: str) -> ColumnElement[bool]:
        field = cast(literal_column(f"({searched})", String), _Alias(alias))
        return field.op("|||", is_comparison=True)(literal(query, String))

    def _document(self) -> ColumnElement[Any]:
        """The text as lexemes. Written as constants, because the planner must recognise the index's expression."""
        return func.to_tsvector(_CONFIGURATION, literal_column(_spaced(f"left(({self.text}), {MAX_LEXEMES})"), String))


def warm_aliases() -> Query:
    """Statement to run once in a writing transaction before BM25 is asked in a read-only one.

    pg_search records a type modifier in a table of its own when it first meets it, which a read-only transaction may
    not.
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
_CONFIGURATION: ColumnElement[Any] = literal_column("'english'::regconfig")
_NO_WORD = re.compile(r"\W+")
# The characters of memground.text.segment, and the hyphen (PostgreSQL reads 9917 in ZX-9917 as a negative number), as a
# PostgreSQL regular expression.
_APART = r"'([-\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0002fa1f])'"


def _spaced(searched: str) -> str:
    """A text as SQL, with space around what is a word although it stands close to another."""
    return rf"regexp_replace(({searched}), {_APART}, ' \1 ', 'g')"


def _any_word(query: str) -> ColumnElement[Any]:
    """A tsquery that any word of the query satisfies."""
    # PostgreSQL reads the words, as it does those of the texts ("a@b.org" is one), and writes them as 'a' 'b'.
    document = func.to_tsvector(_CONFIGURATION, literal(segment(query).replace("-", " "), String))
    return cast(func.replace(cast(func.strip(document), String), "' '", "' | '"), TSQUERY)
