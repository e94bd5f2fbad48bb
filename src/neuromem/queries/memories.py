"""Statements over memories and what they came from."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    UUID,
    BigInteger,
    ColumnElement,
    DateTime,
    Float,
    Integer,
    String,
    Subquery,
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
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from memground.fusion import RRF_K
from memground.postgres import arms
from memground.postgres.arms import Scan
from memground.postgres.engine import Query
from memground.postgres.filter_sql import compile_sql
from memground.postgres.versioned import history, known, known_now
from memground.view import View
from neuromem.models import Tables
from neuromem.queries import times
from neuromem.queries.documents import in_files
from neuromem.queries.filters import memory_columns
from neuromem.queries.scope import Shape, built_once
from neuromem.ranking import RankingProfile

_SECONDS_A_DAY = 86_400.0


def conditions(tables: Tables, shape: Shape) -> list[ColumnElement[bool]]:
    """Which memories a read of this shape is about."""
    return [*_statistics(tables, shape), *_narrowing(tables, shape)]


def _statistics(tables: Tables, shape: Shape) -> list[ColumnElement[bool]]:
    """The memories among which a word counts as rare."""
    return [shape.known(tables.embeddings.table)]


def _narrowing(tables: Tables, shape: Shape) -> list[ColumnElement[bool]]:
    table = tables.embeddings.table
    passing = [] if shape.where is None else [compile_sql(shape.where, memory_columns(tables))]
    filed = [in_files(tables, shape)] if shape.in_files else []
    return [*shape.of_types(table), *shape.true(table), *passing, *filed]


def columns(tables: Tables) -> list[ColumnElement[Any]]:
    """What users see of a memory: all but the vector and the words."""
    return [column for column in tables.embeddings.table.c if column.name not in (tables.vector_column, "words")]


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


@built_once
def page(tables: Tables, shape: Shape, *, after: bool) -> Query:
    """:limit memories, newest first; `after` the row (:version, :id) that was the last one given."""
    table = tables.embeddings.table
    statement = select(*columns(tables)).where(*conditions(tables, shape))
    if after:
        last = tuple_(bindparam("version", type_=BigInteger), bindparam("id", type_=UUID))
        statement = statement.where(tuple_(table.c.version, table.c.id) < last)
    return statement.order_by(table.c.version.desc(), table.c.id.desc()).limit(bindparam("limit", type_=Integer))


@built_once
def keyword_arm(tables: Tables, shape: Shape, limit: int) -> Query:
    """(id of the version row, score) for :words, best first."""
    return tables.memory_words.candidates(
        tables.embeddings.table.c.id,
        _statistics(tables, shape),
        limit=limit,
        further=_narrowing(tables, shape),
    )


@built_once
def best_scan(tables: Tables, shape: Shape, limit: int) -> Query:
    """Which `Scan` finds the nearest of all the user's memories."""
    return tables.memory_vectors.best_scan(bindparam("user_id", type_=String), limit)


@built_once
def is_few(tables: Tables, shape: Shape) -> Query:
    """Whether so few memories pass that all their vectors are compared."""
    return arms.is_few(tables.embeddings.table, conditions(tables, shape))


@built_once
def scored(tables: Tables, shape: Shape, profile: RankingProfile, *, scan: Scan, timed: bool = False) -> Query:
    """The fusion, in SQL: vector arm ∪ keyword arm, × recency × importance × ended × when; see `RankingProfile`.

    For :vector and what the keyword arm found (:keyword_ids, :keyword_scores). :vector_top and :keyword_top are the
    best scores found elsewhere, so that scores compare with what is ranked there. Gives the :limit best rows and,
    wherever they stand, the best of either arm. Beside the memory's columns: vector_score, vector_rank, keyword_score,
    keyword_rank, fused, recency, importance_factor, ended, time, score, sources ([kind, id, span] each, or NULL).
    `timed`: the query names times, which are :time_from, :time_to (seconds since 1970, infinite where open) and
    :time_yearly.
    """
    table = tables.embeddings.table
    both = _both_arms(tables, shape, profile, scan=scan)
    found = both.join(table, arms.place_of(table) == both.c.row)
    recency, importance, ended = factors(tables, shape, profile)
    when: ColumnElement[float] = literal(1.0, Float)
    if timed:
        off = times.days_off(table).lateral("off")
        found = found.join(off, true())
        when = 1.0 - profile.other_time * (1.0 - func.exp(-func.least(off.c.days / profile.time_days, 700.0)))
        ended = case((off.c.days == 0.0, 1.0), else_=ended)  # it was true at the time that is asked about
    score = both.c.fused * recency * importance * ended * when
    ranked = (
        select(
            *columns(tables),
            *(column for column in both.c if column.name not in ("id", "row")),
            recency.label("recency"),
            importance.label("importance_factor"),
            ended.label("ended"),
            when.label("time"),
            score.label("score"),
            func.row_number().over(order_by=(score.desc(), table.c.id)).label("place"),
        )
        .select_from(found)
        .subquery("ranked")
    )
    return (
        select(ranked, _sources(tables, shape, ranked.c.memory_id).label("sources"))
        .where(
            or_(
                ranked.c.place <= bindparam("limit", type_=Integer),
                ranked.c.vector_rank == 1,
                ranked.c.keyword_rank == 1,
            )
        )
        .order_by(ranked.c.place)
    )


def _both_arms(tables: Tables, shape: Shape, profile: RankingProfile, *, scan: Scan) -> Subquery:
    """(id, row, vector_score, vector_rank, keyword_score, keyword_rank, fused) of what either arm lists."""
    table = tables.embeddings.table
    near = tables.memory_vectors.candidates(
        table.c.id, conditions(tables, shape), limit=profile.candidates, scan=scan
    ).subquery("near")
    rank = func.row_number().over(order_by=(near.c.score.desc(), near.c.id)).label("rank")
    vec = select(near, rank).subquery("vec")
    kw = _listed()
    other = table.alias("other")  # what only the keyword arm lists, by its id
    row = select(arms.place_of(other)).where(other.c.id == kw.c.id).correlate(kw).scalar_subquery()
    return (
        select(
            func.coalesce(vec.c.id, kw.c.id).label("id"),
            func.coalesce(vec.c.row, row).label("row"),
            vec.c.score.label("vector_score"),
            vec.c.rank.label("vector_rank"),
            kw.c.score.label("keyword_score"),
            kw.c.rank.label("keyword_rank"),
            _fused(profile, vec.c, kw.c).label("fused"),
        )
        .select_from(vec.join(kw, vec.c.id == kw.c.id, full=True))
        .subquery("both_arms")
    )


def _sources(tables: Tables, shape: Shape, memory_id: ColumnElement[uuid.UUID]) -> ColumnElement[Any]:
    """[kind, id, span] of each thing a memory came from, NULL for none."""
    c = tables.memory_sources.table.c
    source = func.jsonb_build_array(c.source_kind, c.source_id, c.span, type_=JSONB)
    mine = Shape(past=shape.past).known(tables.memory_sources.table)
    return select(func.jsonb_agg(source, type_=JSONB)).where(mine, c.derived_id == memory_id).scalar_subquery()


def _listed() -> TableValuedAlias:
    """(id, score, rank) of what the keyword arm found, as a table."""
    ids = bindparam("keyword_ids", type_=ARRAY(UUID))
    scores = bindparam("keyword_scores", type_=ARRAY(Float))
    return func.unnest(ids, scores).table_valued("id", "score", with_ordinality="rank", name="kw").render_derived()


def factors(
    tables: Tables, shape: Shape, profile: RankingProfile
) -> tuple[ColumnElement[float], ColumnElement[float], ColumnElement[float]]:
    """recency, importance and ended, as `RankingProfile` defines them."""
    table = tables.embeddings.table
    now = bindparam("now", type_=DateTime(timezone=True))
    days = func.greatest(func.extract("epoch", now - table.c.event_at), 0.0) / _SECONDS_A_DAY
    lifetime = profile.decay_rate * (1.0 + 0.5 * arousal(table.c.metadata_))
    recency = _floored(profile.recency_floor, func.exp(-func.least(cast(days, Float) / lifetime, 700.0)))
    importance = _floored(profile.importance_floor, cast(table.c.importance, Float) / 10.0)
    if shape.valid or profile.ended == 1.0:
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


def _fused(profile: RankingProfile, vec: Any, kw: Any) -> ColumnElement[float]:
    if profile.fusion == "rrf":
        return func.coalesce(1.0 / (RRF_K + vec.rank), 0.0) + func.coalesce(1.0 / (RRF_K + kw.rank), 0.0)
    similarity = func.greatest(func.coalesce(vec.score, func.min(vec.score).over(), 0.0), 0.0, type_=Float)
    similarity = similarity / _strongest(vec.score, "vector_top")
    share = func.coalesce(kw.score, 0.0, type_=Float) / _strongest(kw.score, "keyword_top")
    return profile.vector_weight * func.coalesce(similarity, 0.0) + profile.keyword_weight * func.coalesce(share, 0.0)


def _strongest(score: ColumnElement[float], elsewhere: str) -> ColumnElement[float]:
    """The best score there is, NULL if none is above 0."""
    # Of a type that is known: SQLAlchemy would else divide by a NUMERIC, which takes many times as long.
    best = func.greatest(func.max(score).over(), bindparam(elsewhere, type_=Float), 0.0, type_=Float)
    return func.nullif(best, 0.0, type_=Float)


@built_once
def sources_of(tables: Tables, shape: Shape) -> Query:
    """(derived_id, source_kind, source_id, span) of the memories :ids; those written together in no certain order."""
    table = tables.memory_sources.table
    return (
        select(table.c.derived_id, table.c.source_kind, table.c.source_id, table.c.span)
        .where(shape.known(table), table.c.derived_id == any_(bindparam("ids", type_=ARRAY(UUID))))
        .order_by(table.c.version, table.c.id)
    )


def born_with_derived(tables: Tables) -> ColumnElement[bool]:
    """Current links that were recorded together with a memory or edge that is current: they last as long as it does."""
    link = tables.memory_sources.table
    current = (
        exists().where(
            vt.table.c.user_id == link.c.user_id,
            vt.key_column == link.c.derived_id,
            known_now(vt.table),
            vt.table.c.created_at == link.c.created_at,
        )
        for vt in (tables.embeddings, tables.graph_edges)
    )
    return and_(known_now(link), or_(*current))
