"""Statements over memories and what they came from."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    UUID,
    ColumnElement,
    DateTime,
    Float,
    String,
    TableValuedAlias,
    and_,
    any_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from memground.filters import Filter
from memground.fusion import RRF_K
from memground.postgres.engine import Query
from memground.postgres.filter_sql import compile_sql
from memground.postgres.versioned import history, known, known_now, valid
from memground.view import View
from neuromem.models import Tables
from neuromem.queries.filters import memory_columns
from neuromem.ranking import RankingProfile

_SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True)
class MemoryScope:
    """Which memories a read is about: the user's, of some types, passing a filter, in a view."""

    user_id: str
    view: View
    memory_types: Sequence[str] | None = None
    where: Filter | None = None

    def conditions(self, tables: Tables) -> list[ColumnElement[bool]]:
        return [*self.indexed(tables), *self.further(tables)]

    def indexed(self, tables: Tables) -> list[ColumnElement[bool]]:
        """The conditions that the keyword index answers itself."""
        table = tables.embeddings.table
        tests = [table.c.user_id == self.user_id, known(table, self.view)]
        if self.memory_types is not None:
            tests.append(table.c.memory_type.in_(list(self.memory_types)))
        return tests

    def further(self, tables: Tables) -> list[ColumnElement[bool]]:
        """The conditions that need the row."""
        tests: list[ColumnElement[bool]] = []
        if (true_then := valid(tables.embeddings.table, self.view)) is not None:
            tests.append(true_then)
        if self.where is not None:
            tests.append(compile_sql(self.where, memory_columns(tables)))
        return tests


def columns(tables: Tables) -> list[ColumnElement[Any]]:
    """Everything but the vector."""
    return [column for column in tables.embeddings.table.c if column.name != tables.vector_column]


def one(tables: Tables, user_id: str, memory_id: uuid.UUID, view: View) -> Query:
    """The memory as the view knows it."""
    table = tables.embeddings.table
    return select(*columns(tables)).where(
        table.c.user_id == user_id, table.c.memory_id == memory_id, known(table, view)
    )


def current(tables: Tables, user_id: str, ids: Sequence[uuid.UUID]) -> Query:
    """Those of the user's memories that are current."""
    table = tables.embeddings.table
    wanted = table.c.memory_id == any_(bindparam("ids", list(ids), type_=ARRAY(UUID), unique=True))
    return select(*columns(tables)).where(table.c.user_id == user_id, wanted, known_now(table))


def owned(tables: Tables, user_id: str, memory_id: uuid.UUID) -> ColumnElement[bool]:
    table = tables.embeddings.table
    return and_(table.c.user_id == user_id, table.c.memory_id == memory_id)


def ids_between(tables: Tables, user_id: str, first: uuid.UUID, last: uuid.UUID, view: View) -> Query:
    """(memory_id) of at most two memories whose ids lie between two, both included."""
    vt = tables.embeddings
    where = and_(vt.table.c.user_id == user_id, vt.key_column.between(first, last))
    seen = history(vt, where, view).subquery("seen")
    return select(seen.c[vt.key]).distinct().order_by(seen.c[vt.key]).limit(2)


def page(tables: Tables, scope: MemoryScope, *, after: tuple[int, uuid.UUID] | None, limit: int) -> Query:
    """Newest first; `after` is (version, id) of the last row already given."""
    table = tables.embeddings.table
    statement = select(*columns(tables)).where(*scope.conditions(tables))
    if after is not None:
        statement = statement.where(tuple_(table.c.version, table.c.id) < tuple_(*map(literal, after)))
    return statement.order_by(table.c.version.desc(), table.c.id.desc()).limit(limit)


def keyword_arm(tables: Tables, scope: MemoryScope, query: str, limit: int) -> Query:
    """(id of the version row, score), best first."""
    table = tables.embeddings.table
    return tables.memory_words.candidates(
        table.c.id, query, scope.indexed(tables), limit=limit, further=scope.further(tables)
    )


def scored(
    tables: Tables,
    scope: MemoryScope,
    vector: Sequence[float],
    keyword: Sequence[tuple[uuid.UUID, float]],
    profile: RankingProfile,
    *,
    limit: int,
    exact: bool,
    tops: tuple[float, float] = (0.0, 0.0),
) -> Query:
    """The fusion, in SQL: vector arm ∪ keyword arm, × recency × importance × ended; see `RankingProfile`.

    Gives the `limit` best rows and, wherever they stand, the best of either arm. Beside the memory's columns:
    vector_score, vector_rank, keyword_score, keyword_rank, fused, recency, importance_factor, ended, score.
    """
    table = tables.embeddings.table
    near = tables.memory_vectors.candidates(
        table.c.id, vector, scope.conditions(tables), limit=profile.candidates, exact=exact
    ).subquery("near")
    vec = select(
        near.c.id, near.c.score, func.row_number().over(order_by=(near.c.score.desc(), near.c.id)).label("rank")
    ).subquery("vec")
    kw = _listed(keyword)
    both = (
        select(
            func.coalesce(vec.c.id, kw.c.id).label("id"),
            vec.c.score.label("vector_score"),
            vec.c.rank.label("vector_rank"),
            kw.c.score.label("keyword_score"),
            kw.c.rank.label("keyword_rank"),
            _fused(profile, vec.c, kw.c, tops).label("fused"),
        )
        .select_from(vec.join(kw, vec.c.id == kw.c.id, full=True))
        .subquery("both_arms")
    )
    recency, importance, ended = factors(tables, scope.view, profile)
    score = both.c.fused * recency * importance * ended
    ranked = (
        select(
            *columns(tables),
            *(column for column in both.c if column.name != "id"),
            recency.label("recency"),
            importance.label("importance_factor"),
            ended.label("ended"),
            score.label("score"),
            func.row_number().over(order_by=(score.desc(), table.c.id)).label("place"),
        )
        .select_from(both.join(table, table.c.id == both.c.id))
        .subquery("ranked")
    )
    return (
        select(ranked)
        .where(or_(ranked.c.place <= limit, ranked.c.vector_rank == 1, ranked.c.keyword_rank == 1))
        .order_by(ranked.c.place)
    )


def _listed(keyword: Sequence[tuple[uuid.UUID, float]]) -> TableValuedAlias:
    """(id, score, rank) of what the keyword arm found, as a table."""
    ids = bindparam("keyword_ids", [row[0] for row in keyword], type_=ARRAY(UUID), unique=True)
    scores = bindparam("keyword_scores", [row[1] for row in keyword], type_=ARRAY(Float), unique=True)
    return func.unnest(ids, scores).table_valued("id", "score", with_ordinality="rank", name="kw").render_derived()


def factors(
    tables: Tables, view: View, profile: RankingProfile
) -> tuple[ColumnElement[float], ColumnElement[float], ColumnElement[float]]:
    """recency, importance and ended, as `RankingProfile` defines them."""
    table = tables.embeddings.table
    now = literal(view.now, DateTime(timezone=True))
    days = func.greatest(func.extract("epoch", now - table.c.event_at), 0.0) / _SECONDS_A_DAY
    lifetime = profile.decay_rate * (1.0 + 0.5 * arousal(table.c.metadata_))
    recency = _floored(profile.recency_floor, func.exp(-func.least(cast(days, Float) / lifetime, 700.0)))
    importance = _floored(profile.importance_floor, cast(table.c.importance, Float) / 10.0)
    if view.valid_at is not None or profile.ended == 1.0:
        ended: ColumnElement[float] = literal(1.0, Float)
    else:
        ended = case((table.c.valid_to <= now, profile.ended), else_=1.0)
    return recency, importance, ended


def arousal(metadata: ColumnElement[Any]) -> ColumnElement[float]:
    """metadata.emotion.arousal clamped to [0, 1]; 0 where it is missing or no number."""
    value = metadata.op("#>")(literal(["emotion", "arousal"], ARRAY(String)))
    number = cast(cast(value, String), Float)
    return case((func.jsonb_typeof(value) == "number", func.least(func.greatest(number, 0.0), 1.0)), else_=0.0)


def _floored(floor: float, value: ColumnElement[float]) -> ColumnElement[float]:
    return floor + (1.0 - floor) * value


def _fused(profile: RankingProfile, vec: Any, kw: Any, tops: tuple[float, float]) -> ColumnElement[float]:
    if profile.fusion == "rrf":
        return func.coalesce(1.0 / (RRF_K + vec.rank), 0.0) + func.coalesce(1.0 / (RRF_K + kw.rank), 0.0)
    nearest = func.nullif(func.greatest(func.max(vec.score).over(), tops[0], 0.0), 0.0)
    similarity = func.greatest(func.coalesce(vec.score, func.min(vec.score).over(), 0.0), 0.0) / nearest
    strongest = func.nullif(func.greatest(func.max(kw.score).over(), tops[1], 0.0), 0.0)
    share = func.coalesce(kw.score, 0.0) / strongest
    return profile.vector_weight * func.coalesce(similarity, 0.0) + profile.keyword_weight * func.coalesce(share, 0.0)


def sources_of(tables: Tables, user_id: str, memory_ids: Sequence[uuid.UUID], view: View) -> Query:
    """(derived_id, source_kind, source_id, span) of memories; those written together come in no particular order."""
    table = tables.memory_sources.table
    return (
        select(table.c.derived_id, table.c.source_kind, table.c.source_id, table.c.span)
        .where(
            table.c.user_id == user_id,
            table.c.derived_id == any_(bindparam("ids", list(memory_ids), type_=ARRAY(UUID), unique=True)),
            known(table, view),
        )
        .order_by(table.c.version, table.c.id)
    )


def born_with_memory(tables: Tables) -> ColumnElement[bool]:
    """Current links that were recorded together with a memory that is current: they last as long as it does."""
    link, memory = tables.memory_sources.table, tables.embeddings.table
    return and_(
        known_now(link),
        exists().where(
            memory.c.user_id == link.c.user_id,
            memory.c.memory_id == link.c.derived_id,
            known_now(memory),
            memory.c.created_at == link.c.created_at,
        ),
    )
