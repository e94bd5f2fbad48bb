"""What a read is about, apart into what shapes a statement and what is only a value in it.

A statement is built from a `Shape` alone, once, and kept; the values are bound by name at every call. So a kept
statement cannot hold one user's values for the next: it has none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, Concatenate

from sqlalchemy import ColumnElement, DateTime, FromClause, String, Table, any_, bindparam
from sqlalchemy.dialects.postgresql import ARRAY

from memground.filters import Filter
from memground.postgres.engine import Query
from memground.postgres.versioned import known_at, known_now, valid_at
from memground.view import View
from neuromem.models import Tables

_KEPT = 64
"""Statements kept of one kind: one for each combination of schema, shape and settings in use."""


@dataclass(frozen=True)
class Shape:
    """Which conditions a read has: in the past, at a moment of the world, of some memory types, passing a filter; of
    passages of files only, passing a filter over files."""

    past: bool = False
    valid: bool = False
    typed: bool = False
    where: Filter | None = None
    in_files: bool = False
    of_files: Filter | None = None

    def known(self, table: FromClause, owner: str = "user_id") -> ColumnElement[bool]:
        """The user's rows that the view knows; `owner` is the column with the user's id."""
        then = known_at(table, bindparam("known_at", type_=DateTime(timezone=True))) if self.past else known_now(table)
        return owned(table, owner) & then

    def true(self, table: Table) -> list[ColumnElement[bool]]:
        """Rows true in the world at the moment asked for."""
        return [valid_at(table, bindparam("valid_at", type_=DateTime(timezone=True)))] if self.valid else []

    def of_types(self, table: Table) -> list[ColumnElement[bool]]:
        """Rows of the memory types asked for."""
        return [table.c.memory_type == any_(bindparam("memory_types", type_=ARRAY(String)))] if self.typed else []


@dataclass(frozen=True)
class Scope:
    """Which rows a read is about: the user's, of some memory types, passing a filter, in a view.

    `in_files`: only passages of files, of those that pass `of_files`.
    """

    user_id: str
    view: View
    memory_types: Sequence[str] | None = None
    where: Filter | None = None
    in_files: bool = False
    of_files: Filter | None = None

    @property
    def shape(self) -> Shape:
        return Shape(
            self.view.known_at is not None,
            self.view.valid_at is not None,
            self.memory_types is not None,
            self.where,
            self.in_files,
            self.of_files,
        )

    def values(self, **more: Any) -> dict[str, Any]:
        """The values of a statement built for this scope's shape, and `more`."""
        return {
            "user_id": self.user_id,
            "known_at": self.view.known_at,
            "valid_at": self.view.valid_at,
            "memory_types": None if self.memory_types is None else list(self.memory_types),
            "now": self.view.now,
            **more,
        }


def owned(table: FromClause, owner: str = "user_id") -> ColumnElement[bool]:
    """The rows of the user :user_id."""
    return table.c[owner] == bindparam("user_id", type_=String)


def built_once[**P](
    build: Callable[Concatenate[Tables, Shape, P], Query],
) -> Callable[Concatenate[Tables, Shape, P], Query]:
    """Keeps the statements `build` returns: building one takes longer than running it.

    One with a filter is built anew each time, because filters that compare equal may differ (1 == True).
    """
    kept = lru_cache(_KEPT)(build)

    @wraps(build)
    def statement(tables: Tables, shape: Shape, *args: P.args, **kwargs: P.kwargs) -> Query:
        if shape.where is not None or shape.of_files is not None:
            return build(tables, shape, *args, **kwargs)
        return kept(tables, shape, *args, **kwargs)  # pyright: ignore[reportArgumentType]  # all of them hash

    return statement
