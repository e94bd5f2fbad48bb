"""Arms: ranked candidate lists over one table, by meaning (vectors) and by word (BM25).

Each function is pure: from a table and conditions to a `Select` of (id, score), best first. `id` is the column the
caller names. What is asked, a vector or words, is bound by name (`vector`, `words`), so that a statement is built once
and run often.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnClause,
    ColumnElement,
    Float,
    FromClause,
    Index,
    Integer,
    String,
    Table,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.types import UserDefinedType

from memground.postgres.engine import Query
from memground.postgres.own_index import MAX_HNSW, OwnIndexes
from memground.postgres.statistics import common_elements, common_values, table_rows

EXACT_ROWS = 20_000
"""Rows up to which every vector is compared, however large the table."""

_FEW_OF_OWN = 2_000
"""Rows up to which an owner's are rather compared than asked of the own index. Apart, as those of many owners lie,
comparing one takes 2 µs and 4 with a filter; the index takes 2 ms, and longer by as much as conditions leave out."""

_INLINE = 2_000
"""Dimensions up to which a vector fits into a row: 4 KB of the 8 KB a page has."""

_LINKS = {"m": 10, "ef_construction": 80}
"""Fewer links than pgvector's own (16, 64), found with more care: as many of the nearest are found, and adding a row to
a large index takes half the time. See docs/adr/0040-fewer-links-in-hnsw.md."""

COMMON = 2_000
"""Rows read for one word. A word in so many of an owner's rows tells little, and reading them all takes long."""

_K1, _B = 1.2, 0.75
"""BM25: how soon a repeated word stops counting, and how much a text's length counts (the usual values)."""

COUNTED = 5_000
"""Rows up to which an owner's are counted, to tell how rare a word is."""

_APPROXIMATE_TO_EXACT = 20.0
"""How much dearer it is to reach one row through HNSW than to compare one row after another, measured: 9 and 0.4 µs."""


class HalfVector(UserDefinedType[list[float]]):
    """pgvector's `halfvec(dims)`: a list of floats, kept in 16 bits each.

    Half the bytes of `vector` are compared in a third of the time; a cosine differs in its fourth digit.
    """

    cache_ok = True

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def get_col_spec(self, **_: Any) -> str:
        # Kept in the row, however long the text beside it: out of line a scan takes several times as long.
        return f"halfvec({self.dims})" + (" STORAGE MAIN" if self.dims <= _INLINE else "")

    def bind_expression(self, bindvalue: Any) -> ColumnElement[Any]:
        # Sent as an array of numbers, which the driver writes many times faster than a vector's text.
        return cast(cast(type_coerce(bindvalue, _Numbers()), _Numbers()), _Cast(self.dims))

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return _read


class _Numbers(UserDefinedType[list[float]]):
    """`real[]`, handed to the driver as it is: SQLAlchemy's own array type goes through every number."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "real[]"


def _read(value: str | None) -> list[float] | None:
    return None if value is None else json.loads(value)


class _Cast(HalfVector):
    """The target of a cast, which is no value to be bound."""

    def get_col_spec(self, **_: Any) -> str:
        return f"halfvec({self.dims})"

    def bind_expression(self, bindvalue: Any) -> Any:
        return None


class Scan(StrEnum):
    """How the nearest vectors are found."""

    EXACT = "exact"
    """Every vector of the owner is compared."""
    OWN = "own"
    """By the owner's own index."""
    SHARED = "shared"
    """By the index over all rows, which skips those of others."""


@dataclass(frozen=True)
class VectorArm:
    """Cosine search over a `HalfVector` column. score = 1 − cosine distance, in [−1, 1].

    `owner` is the column that says whose a row is.
    """

    column: Column[Any]
    owner: Column[Any]
    dims: int

    def index(self, name: str) -> None:
        """Declares the HNSW index; none above 4,000 dimensions, where every search is exact."""
        if self.dims <= MAX_HNSW:
            operators = {self.column.name: "halfvec_cosine_ops"}
            Index(name, self.column, postgresql_using="hnsw", postgresql_ops=operators, postgresql_with=_LINKS)

    @property
    def table(self) -> Table:
        assert isinstance(self.column.table, Table)
        return self.column.table

    @property
    def own_indexes(self) -> OwnIndexes:
        """The indexes of owners who have many rows."""
        return OwnIndexes(self.column, self.owner, self.dims)

    def one_of(self, numbers: ColumnElement[Any], place: ColumnElement[int]) -> ColumnElement[Any]:
        """The vector at a place, from 1 on, of those that an array of numbers holds one after the other."""
        first = (place - 1) * _whole(self.dims)
        return as_vector(numbers[first + 1 : first + _whole(self.dims)], self.dims)

    def candidates(
        self,
        ids: ColumnElement[Any],
        where: Sequence[ColumnElement[bool]],
        *,
        limit: int,
        scan: Scan,
        to: ColumnElement[Any] | None = None,
    ) -> Query:
        """(id, row, score) of the `limit` rows nearest to :vector (or to the column `to`), of those `where` admits.

        `row` is where each lies, see `place_of`.
        """
        asked: ColumnElement[Any] = bindparam("vector", type_=HalfVector(self.dims)) if to is None else to
        # A subquery is cast once; by itself it would be cast for every row, because a kept plan cannot fold it.
        # (An index, however, is only asked for what is no subquery.)
        once = select(asked).scalar_subquery() if to is None else to
        row = place_of(self.table).label("row")
        rows = select(ids.label("id"), row, self._distance(once).label("distance"))
        rows = rows.where(self.column.is_not(None), *where)
        if scan is Scan.OWN:
            rows = rows.order_by(self.own_indexes.nearness(asked)).limit(_whole(_reach(limit)))
        elif scan is Scan.SHARED:
            rows = rows.with_only_columns(ids.label("id"), row, self._distance(asked).label("distance"))
            rows = rows.order_by(self._distance(asked)).limit(_whole(_reach(limit)))
        # What many are asked for stands beside the rows: found anew for each.
        found = rows.subquery("found") if to is None else rows.correlate(_source(to)).lateral("found")
        # Ordered by the score, not by the distance: for that the planner would take the index, also for an exact scan,
        # and believe that an approximate one yields sorted rows. It is also the one number computed per row.
        score = 1.0 - found.c.distance
        nearest = select(found.c.id, found.c.row, score.label("score"))
        return nearest.order_by(score.desc(), found.c.id).limit(_whole(limit))

    def best_scan(self, owner: ColumnElement[str], limit: int) -> Query:
        """(scan): which `Scan` finds the `limit` nearest of an owner's rows soonest, as its text.

        Comparing n rows costs n. Of a table's N rows a scan of the shared index passes about reach · N / n until it has
        collected `reach`, each many times as dear, because it jumps about. So it wins above n = √(dearer · reach · N).
        n is what the server's statistics say: an owner who is not among the most common values has few rows. Before
        pgvector 0.8 an approximate scan would stop early and lose rows, so it is always exact.
        """
        size, common = table_rows(self.table), common_values(self.owner)
        share = select(common.c.share).where(common.c.value == owner).scalar_subquery()
        bound = func.greatest(float(EXACT_ROWS), func.sqrt(_APPROXIMATE_TO_EXACT * _reach(limit) * size))
        version = cast(func.string_to_array(literal_column("extversion", String), "."), ARRAY(Integer))
        extension = select(version).select_from(text("pg_catalog.pg_extension"))
        vector = extension.where(literal_column("extname", String) == "vector").scalar_subquery()
        scan = case(
            (vector < cast([0, 8], ARRAY(Integer)), Scan.EXACT.value),
            (self.own_indexes.there(owner), Scan.OWN.value),
            (func.coalesce(share, 0.0) * size <= bound, Scan.EXACT.value),
            else_=Scan.SHARED.value,
        )
        return select(scan.label("scan"))

    def _distance(self, asked: ColumnElement[Any]) -> ColumnElement[float]:
        return self.column.op("<=>", return_type=Float())(asked)


def as_vector(value: ColumnElement[Any], dims: int) -> ColumnElement[Any]:
    """A vector from an array of its numbers, or from its text."""
    return cast(value, _Cast(dims))


_HALVES: dict[int, str] = {}
"""The shortest text of each number of 16 bits, written when it is first met."""


def vector_text(numbers: Sequence[float]) -> str:
    """A vector as pgvector reads it, in the precision it is kept in: many times quicker than writing every digit."""
    bits: list[int] = np.asarray(numbers, dtype=np.float16).view(np.uint16).tolist()
    try:
        return f"[{','.join(map(_HALVES.__getitem__, bits))}]"
    except KeyError:
        _HALVES.update((key, str(np.uint16(key).view(np.float16))) for key in bits if key not in _HALVES)
        return vector_text(numbers)


class _Place(UserDefinedType[Any]):
    """PostgreSQL's `tid`."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "tid"


def place_of(table: FromClause) -> ColumnElement[Any]:
    """Where a row lies. It is good for one snapshot, and finds the row again without any index."""
    place = ColumnClause[Any]("ctid", _Place())
    place.table = table
    return place


def _source(column: ColumnElement[Any]) -> FromClause:
    assert isinstance(column, Column | ColumnClause)
    assert column.table is not None
    return column.table


def _reach(limit: int) -> int:
    """How many rows an approximate scan collects, to find the `limit` nearest among them.

    Measured with filters that admit 5% and 20% of 30,000 clustered vectors: a scan of the shared index that stops at
    `limit` rows has 87% to 97% of the nearest, one that goes on to this many has more than 99%. An owner's own index
    has no rows of others to pass; there this many keep it from missing a cluster whole: of 1,500 questions to five
    indexes of 200,000 rows one did with 300 rows for a limit of 100, none with these 500.
    """
    return 3 * limit + 200


@lru_cache(maxsize=64)
def approximate_settings(limit: int) -> Query:
    """Statement that widens HNSW for this transaction, so that filters do not starve it (pgvector ≥ 0.8)."""
    return select(
        # A plan kept for any values believes that an owner has few rows, and would not ask the index.
        func.set_config("plan_cache_mode", "force_custom_plan", True),
        func.set_config("hnsw.iterative_scan", "relaxed_order", True),
        func.set_config("hnsw.ef_search", str(min(1_000, _reach(limit))), True),
        func.set_config("hnsw.max_scan_tuples", "1000000", True),
        func.set_config("hnsw.scan_mem_multiplier", "8", True),
    )


def is_few(table: Table, where: Sequence[ColumnElement[bool]], scan: Scan = Scan.SHARED) -> Query:
    """Statement: whether the conditions admit so few rows that they are rather all compared than asked of the index."""
    rows = _FEW_OF_OWN if scan is Scan.OWN else EXACT_ROWS
    admitted = select(literal(1)).select_from(table).where(*where).limit(rows + 1).subquery("admitted")
    return select(func.count() <= rows).select_from(admitted)


@dataclass(frozen=True)
class KeywordArm:
    """BM25 over `words`, a column with the words of a text as `memground.words.keys` numbers them for their owner.

    Any word of the query may match, rarer ones weigh more. How rare a word is, and how long texts are, is taken from
    the rows the conditions admit: what others wrote, or what was written later, changes no score. A word in `COMMON`
    rows or more counts only where every word of the query is that common.
    """

    words: Column[Any]

    def index(self, name: str) -> None:
        """Declares the index. Without a list of pending rows, which every search would read whole."""
        Index(name, self.words, postgresql_using="gin", postgresql_with={"fastupdate": "off"})

    def common_words(self) -> Query:
        """(element): the words that, by the server's statistics, are in more than `COMMON` rows beyond doubt.

        Reading their rows is in vain, but where nothing else of the query is found, or conditions leave few rows.
        """
        return common_elements(self.words, 2 * COMMON)

    def candidates(
        self,
        ids: ColumnElement[Any],
        where: Sequence[ColumnElement[bool]],
        *,
        limit: int,
        further: Sequence[ColumnElement[bool]] = (),
        many: bool = False,
    ) -> Query:
        """(id, score) of the `limit` best rows that share a word with :words.

        `where`: whose rows, in which view; of those it is counted how rare a word is. `further`: other conditions.
        `many`: it is known that `where` admits `COUNTED` rows or more, so that they need not be counted.
        score = Σ idf · tf · (k₁ + 1) / (tf + k₁ · (1 − b + b · length / mean length)) over the words, where
        idf = ln(1 + (N − n + ½) / (n + ½)) and n of N rows have the word (Robertson and Zaragoza 2009). The mean is
        that of the rows found, each as often as words that count are in it. Rows that fail `further` count in N, not
        in n.
        """
        asked = func.unnest(bindparam("words", type_=ARRAY(BigInteger))).table_valued("word", name="asked")
        asked = asked.render_derived()
        found = (
            select(
                ids.label("id"),
                func.cardinality(self.words).label("length"),
                func.cardinality(func.array_positions(self.words, asked.c.word)).label("tf"),
            )
            .where(self.words.op("@>", is_comparison=True)(array([asked.c.word])), *map(on_row, where), *further)
            .limit(_whole(COMMON))
            .lateral("found")
        )
        hits = select(asked.c.word, *found.c).select_from(asked.join(found, true())).cte()
        hits = hits.prefix_with("MATERIALIZED")
        counted = (
            select(literal(1)).select_from(self.words.table).where(*where).limit(_whole(COUNTED)).subquery("counted")
        )
        total = _whole(COUNTED) if many else select(func.count()).select_from(counted).scalar_subquery()
        n = func.count()
        rarity = select(
            hits.c.word,
            n.label("rows"),
            func.sum(hits.c.length).label("lengths"),
            func.ln(1.0 + (func.greatest(total, n) - n + 0.5) / (n + 0.5)).label("idf"),
            # Of a common word's rows only the first were read: to count it would favour these over all that came later.
            or_(n < COMMON, func.min(n).over() >= COMMON).label("counts"),
        )
        word = rarity.group_by(hits.c.word).subquery("rarity").c
        mean = cast(func.sum(word.lengths).over(), Float) / cast(func.sum(word.rows).over(), Float)
        weight = select(word.word, word.idf, mean.label("mean")).where(word.counts).subquery("weights")
        norm = _K1 * (1.0 - _B + _B * hits.c.length / weight.c.mean)
        score = cast(func.sum(weight.c.idf * hits.c.tf * (_K1 + 1.0) / (hits.c.tf + norm)), Float).label("score")
        ranked = select(hits.c.id, score).join(weight, weight.c.word == hits.c.word).group_by(hits.c.id)
        return ranked.order_by(score.desc(), hits.c.id).limit(_whole(limit))


def _whole(number: int) -> ColumnElement[int]:
    """A number of the program's own, written into the statement, so that a plan kept for any values knows it."""
    return literal_column(str(int(number)), Integer)


def on_row(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """The condition, in a form that keeps the planner from asking an index for it.

    Where another index has all but answered who is meant (words are their owner's own, ids are nobody else's), the
    planner, which cannot know, would read the list of all rows of the owner beside it.
    """
    return func.coalesce(condition, False)


_WORD = np.dtype([("size", ">i4"), ("word", ">i8")])
_HEADER = 20  # dimensions, flags, element type, size and lower bound, of an array that is not empty


def read_words(sent: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What `array_send` makes of a `words` column in n rows: all words, row after row, and (n,) how many each row has.

    Far quicker than lists of Python's numbers.
    """
    lengths = np.array([max(0, len(row) - _HEADER) for row in sent], dtype=np.int64) // _WORD.itemsize
    flat = np.frombuffer(b"".join([row[_HEADER:] for row in sent]), dtype=_WORD)
    return flat["word"].astype(np.int64), lengths
