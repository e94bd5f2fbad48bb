"""Statements over the emotions that memories tell of (`metadata.emotion`)."""

import uuid
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Float,
    Integer,
    String,
    Subquery,
    Update,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from memground.postgres.engine import Query
from memground.postgres.erasing import among
from memground.postgres.versioned import known, known_now
from memground.view import View
from neuromem.models import Tables
from neuromem.queries.memories import arousal, columns
from neuromem.queries.scope import Shape, built_once
from neuromem.queries.times import between_times, period_start
from neuromem.types import MemoryType

WORDS = "emotion_profile"
"""What a memory is a source of when the words of the user's emotion profile were made from it."""

_LABELS = 5
_TIME = DateTime(timezone=True)


def valence(metadata: ColumnElement[Any]) -> ColumnElement[float | None]:
    """metadata.emotion.valence clamped to [−1, 1]; NULL where it is missing or no number."""
    value = metadata.op("#>")(literal(["emotion", "valence"], ARRAY(String)))
    number = cast(cast(value, String), Float)
    return case((func.jsonb_typeof(value) == "number", func.least(func.greatest(number, -1.0), 1.0)))


def label(metadata: ColumnElement[Any]) -> ColumnElement[str | None]:
    """metadata.emotion.label in lower case, at most 50 characters; NULL where it is missing or says nothing."""
    value = metadata.op("#>")(literal(["emotion", "label"], ARRAY(String)))
    text = metadata.op("#>>")(literal(["emotion", "label"], ARRAY(String)))
    said = func.nullif(func.left(func.lower(func.btrim(cast(text, String))), 50), "")
    return case((func.jsonb_typeof(value) == "string", said))


def annotated(tables: Tables, shape: Shape) -> list[ColumnElement[bool]]:
    """The memories that tell of an emotion. Insights do not: what they say was felt stands in others already."""
    table = tables.embeddings.table
    felt = valence(table.c.metadata_).is_not(None)
    return [shape.known(table), table.c.memory_type != MemoryType.INSIGHT, felt]


def _felt(tables: Tables, shape: Shape) -> Subquery:
    table = tables.embeddings.table
    return (
        select(
            valence(table.c.metadata_).label("valence"),
            arousal(table.c.metadata_).label("arousal"),
            label(table.c.metadata_).label("label"),
            table.c.event_at,
        )
        .where(*annotated(tables, shape))
        .subquery("felt")
    )


@built_once
def numbers(tables: Tables, shape: Shape) -> Query:
    """One row: annotated, valence, arousal over all; recent, recent_valence, recent_arousal over (:since, :now]."""
    c = (felt := _felt(tables, shape)).c
    lately = and_(c.event_at > bindparam("since", type_=_TIME), c.event_at <= bindparam("now", type_=_TIME))
    return select(
        func.count().label("annotated"),
        func.avg(c.valence).label("valence"),
        func.avg(c.arousal).label("arousal"),
        func.count().filter(lately).label("recent"),
        func.avg(c.valence).filter(lately).label("recent_valence"),
        func.avg(c.arousal).filter(lately).label("recent_arousal"),
    ).select_from(felt)


@built_once
def dominant(tables: Tables, shape: Shape) -> Query:
    """(label, count, total) of the most frequent labels; `total`: how many memories have one."""
    c = _felt(tables, shape).c
    count = func.count()
    total = func.sum(count, type_=Integer).over().cast(Integer)
    named = select(c.label, count.label("count"), total.label("total")).where(c.label.is_not(None)).group_by(c.label)
    return named.order_by(count.desc(), c.label).limit(_LABELS)


@built_once
def newest(tables: Tables, shape: Shape) -> Query:
    """The :limit latest memories up to :now that tell of an emotion."""
    table = tables.embeddings.table
    mine = (*annotated(tables, shape), table.c.event_at <= bindparam("now", type_=_TIME))
    order = (table.c.event_at.desc(), table.c.version.desc(), table.c.id.desc())
    return select(*columns(tables)).where(*mine).order_by(*order).limit(bindparam("limit", type_=Integer))


@built_once
def timeline(tables: Tables, shape: Shape, unit: str) -> Query:
    """(start, valence, arousal, count) of each day, week … of :timezone with emotions in [:start, :end)."""
    table = tables.embeddings.table
    mine = (*annotated(tables, shape), *between_times(table))
    start = period_start(table, unit).label("start")
    mean, stirred = (func.avg(column(table.c.metadata_)) for column in (valence, arousal))
    found = select(start, mean.label("valence"), stirred.label("arousal"), func.count().label("count"))
    return found.where(*mine).group_by(start).order_by(start)


def profile(tables: Tables, user_id: str, view: View) -> Query:
    """The words of the last digest the view knows."""
    table = tables.emotion_profiles.table
    return select(table).where(table.c.user_id == user_id, known(table, view))


def felt_since(tables: Tables, user_id: str, rows: Collection[uuid.UUID]) -> Query:
    """(known_from) of the first of certain version rows of memories that tell, or told, of an emotion."""
    row, told = tables.embeddings.table.alias("row_"), tables.embeddings.table.alias("told")
    same = and_(told.c.user_id == user_id, told.c.memory_id == row.c.memory_id)
    felt = (told.c.memory_type != MemoryType.INSIGHT, valence(told.c.metadata_).is_not(None))
    return select(func.min(row.c.known_from)).where(
        row.c.user_id == user_id, among(row.c.id, rows), exists().where(same, *felt)
    )


def profiles(tables: Tables, user_id: str, since: datetime) -> Query:
    """All versions of a user's profile known from a moment on."""
    table = tables.emotion_profiles.table
    return select(table).where(table.c.user_id == user_id, table.c.known_from >= since)


def set_counts(tables: Tables, user_id: str, row_id: uuid.UUID, values: Mapping[str, Any]) -> Update:
    """Replaces what a version of a profile counted."""
    table = tables.emotion_profiles.table
    return update(table).where(table.c.user_id == user_id, table.c.id == row_id).values(values)


def current_sources(tables: Tables, user_id: str) -> ColumnElement[bool]:
    """The links that say what the words of a user's profile came from."""
    table = tables.memory_sources.table
    return and_(table.c.user_id == user_id, table.c.derived_kind == WORDS, known_now(table))
