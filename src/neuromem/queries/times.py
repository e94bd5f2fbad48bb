"""Statements about when: how far memories are from a time, those of a time, and how many there are in each."""

from datetime import datetime

from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Float,
    Integer,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    cast,
    column,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from memground.postgres.engine import Query
from neuromem.models import Tables
from neuromem.queries import memories
from neuromem.queries.scope import Shape, built_once
from neuromem.types import MemoryType

_SECONDS_A_DAY = 86_400.0
_FIRST = "0001-01-01T00:00:00+00:00"


def days_off(table: Table) -> Select[tuple[float]]:
    """(days,) between a memory's time and the nearest of the times asked for, 0 where they meet.

    A memory's time goes from event_at to the end of its validity; one that began and has no end goes on, but an episode
    is over when it has happened. A yearly time is that of the year the memory's begins in, and of those beside it.
    """
    asked = (
        func.unnest(*(bindparam(f"time_{name}", type_=ARRAY(kind)) for name, kind in _ASKED.items()))
        .table_valued(*(column(name, kind) for name, kind in _ASKED.items()), name="asked")
        .render_derived()
    )
    beside = case((asked.c.yearly, 1), else_=0)
    year = func.generate_series(-beside, beside, type_=Integer).table_valued("away", name="year").render_derived()
    start = case((asked.c.yearly, _in_year_of(table, asked.c["from"], year.c.away)), else_=asked.c["from"])
    end = case((asked.c.yearly, start + (asked.c.to - asked.c["from"])), else_=asked.c.to)
    since = _seconds(table.c.event_at)
    goes_on = and_(table.c.valid_from.is_not(None), table.c.memory_type != MemoryType.EPISODIC)
    ended = table.c.valid_to.is_not(None)
    until = case((ended, _seconds(table.c.valid_to)), (goes_on, literal(float("inf"), Float)), else_=since)
    off = func.min(func.greatest(start - until, since - end, 0.0), type_=Float)
    return select((off / _SECONDS_A_DAY).label("days")).select_from(asked.join(year, literal(True)))


_ASKED = {"from": Float(), "to": Float(), "yearly": Boolean()}


def _seconds(moment: ColumnElement[object]) -> ColumnElement[float]:
    return func.date_part("epoch", moment, type_=Float)


def _in_year_of(table: Table, start: ColumnElement[float], away: ColumnElement[int]) -> ColumnElement[float]:
    """The moment `start` in the year of a memory's event, or one `away` from it."""
    then = func.timezone("UTC", func.to_timestamp(start))
    years = func.date_part("year", func.timezone("UTC", table.c.event_at)) - func.date_part("year", then) + away
    return _seconds(then + func.make_interval(cast(years, Integer)))


@built_once
def between(tables: Tables, shape: Shape, *, newest_first: bool) -> Query:
    """:limit memories whose time lies in [:start, :end); by time."""
    table = tables.embeddings.table
    order = (table.c.event_at, table.c.id)
    return (
        select(*memories.columns(tables))
        .where(*memories.conditions(tables, shape), *between_times(table))
        .order_by(*(column.desc() if newest_first else column for column in order))
        .limit(bindparam("limit", type_=Integer))
    )


@built_once
def timeline(tables: Tables, shape: Shape, unit: str) -> Query:
    """(start, memory_type, count) of each day, week, month or year of :timezone that has memories in [:start, :end)."""
    table = tables.embeddings.table
    start = period_start(table, unit).label("start")
    return (
        select(start, table.c.memory_type, func.count().label("count"))
        .where(*memories.conditions(tables, shape), *between_times(table))
        .group_by(start, table.c.memory_type)
        .order_by(start, table.c.memory_type)
    )


def period_start(table: Table, unit: str) -> ColumnElement[datetime]:
    """When the day, week, month or year of :timezone began that a memory is of."""
    begun = func.date_trunc(unit, table.c.event_at, bindparam("timezone", type_=String), type_=DateTime(timezone=True))
    # A day of the year 1 may begin in the year before, for which Python has no datetime.
    return func.greatest(begun, cast(literal(_FIRST), DateTime(timezone=True)))


def between_times(table: Table) -> list[ColumnElement[bool]]:
    start, end = (bindparam(name, type_=DateTime(timezone=True)) for name in ("start", "end"))
    return [table.c.event_at >= start, table.c.event_at < end]
