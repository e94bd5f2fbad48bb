"""What a read is about, apart into what shapes a statement and what is only a value in it.

A statement is built from a `Shape`, once, and kept; values are bound by name at every call. So a kept statement cannot
hold one tenant's values for the next: it has none.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from typing import Any, Concatenate

from sqlalchemy import ColumnElement, DateTime, FromClause, Text, and_, bindparam, exists, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from memground.filters import Filter
from memground.postgres.engine import Query
from memground.postgres.filter_sql import FilterColumn, compile_sql
from omnimem.models.filter import FIELDS
from omnimem.models.scope import Scope
from omnimem.storage.base import Selection
from omnimem.storage.postgres.tables import Tables

_KEPT = 128
"""Statements kept of one kind: one for each combination of schema, shape and settings in use."""


@dataclass(frozen=True)
class Exactly:
    """A filter that equals only what is written the same: 1 == True, but they are no equal filters."""

    written: str
    filter: Filter = field(compare=False, repr=False)

    @classmethod
    def of(cls, filter: Filter | None) -> "Exactly | None":
        return None if filter is None else cls(repr(filter), filter)


@dataclass(frozen=True)
class Shape:
    """Which conditions a read has: on which dimensions, on tags, in the past, passing a filter."""

    dimensions: tuple[str, ...] = ()
    tagged: bool = False
    past: bool = False
    where: Exactly | None = None

    @classmethod
    def of(cls, selection: Selection) -> "Shape":
        scope = selection.scope
        dimensions = tuple(dimension for dimension, _ in scope.dimensions)
        return cls(dimensions, bool(scope.tags), selection.as_of is not None, Exactly.of(selection.filter))

    def in_scope(self, table: FromClause) -> list[ColumnElement[bool]]:
        """The rows of the scope :scope_…, :scope_tags."""
        conditions = [table.c[f"scope_{d}"] == bindparam(f"scope_{d}", type_=Text) for d in self.dimensions]
        if self.tagged:
            tags = bindparam("scope_tags", type_=ARRAY(Text))
            conditions.append(table.c.scope_tags.op("@>", is_comparison=True)(tags))
        return conditions

    def records(self, tables: Tables) -> list[ColumnElement[bool]]:
        """The records meant: one of each memory."""
        table = tables.memories
        then = [then_current(table)] if self.past else [table.c.is_latest]
        return [*self.in_scope(table), *then, *self.passing(tables)]

    def passing(self, tables: Tables) -> list[ColumnElement[bool]]:
        """The records that pass the filter."""
        return [] if self.where is None else [compile_sql(self.where.filter, filter_columns(tables))]

    def found(self, tables: Tables, table: FromClause, *, ended: bool) -> list[ColumnElement[bool]]:
        """The rows of an index meant; `ended`: it is one of rows whose record was superseded."""
        conditions = self.in_scope(table)
        if self.past:
            conditions.append(then_current(table) if ended else table.c.created_time <= AS_OF)
        return [*conditions, *self.filtered(tables, table)]

    def filtered(self, tables: Tables, table: FromClause) -> list[ColumnElement[bool]]:
        """The rows of an index whose record passes the filter."""
        if self.where is None:
            return []
        known = tables.filtered
        # The scope once more: the planner may read these first, and then should read no other tenant's.
        same = [known.c.record_id == table.c.record_id, *Shape(self.dimensions).in_scope(known)]
        return [exists().where(*same, *self.passing(tables)).correlate(table)]

    def filtered_each(self, tables: Tables, table: FromClause) -> list[ColumnElement[bool]]:
        """The same, asked of one row after the other: for an index that finds few of them, or the best first. The
        planner would rather read all records that pass, and then what the index has."""
        if self.where is None:
            return []
        known = tables.filtered
        passes = select(and_(*self.passing(tables))).where(known.c.record_id == table.c.record_id).correlate(table)
        return [func.coalesce(passes.scalar_subquery(), False)]


AS_OF: ColumnElement[Any] = bindparam("as_of", type_=DateTime(timezone=True))


def then_current(table: FromClause) -> ColumnElement[bool]:
    """The records that were the latest at :as_of: written by then, and superseded later or never."""
    ended = table.c.superseded_time
    return and_(table.c.created_time <= AS_OF, or_(ended.is_(None), ended > AS_OF))


def values(selection: Selection, **more: Any) -> dict[str, Any]:
    """The values of a statement built for this selection's shape, and `more`."""
    return {**scope_values(selection.scope), "as_of": selection.as_of, **more}


def scope_values(scope: Scope) -> dict[str, Any]:
    return {**{f"scope_{dimension}": value for dimension, value in scope.dimensions}, "scope_tags": list(scope.tags)}


@lru_cache
def filter_columns(tables: Tables) -> dict[str, FilterColumn]:
    """The fields a filter may name, as columns."""
    columns = tables.filtered.c
    return {field: FilterColumn(kind, columns[field]) for field, kind in FIELDS.items()}


def built_once[**P](
    build: Callable[Concatenate[Tables, Shape, P], Query],
) -> Callable[Concatenate[Tables, Shape, P], Query]:
    """Keeps the statements `build` returns: building one takes longer than running it."""
    kept = lru_cache(_KEPT)(build)

    @wraps(build)
    def statement(tables: Tables, shape: Shape, *args: P.args, **kwargs: P.kwargs) -> Query:
        return kept(tables, shape, *args, **kwargs)  # pyright: ignore[reportArgumentType]  # all of them hash

    return statement
