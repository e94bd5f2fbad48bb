"""Statements over everything a user has, to be taken elsewhere and put there."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    LargeBinary,
    String,
    Table,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert

from memground.postgres.engine import Query
from memground.postgres.queue import enqueuing
from memground.postgres.sound import unsound
from memground.postgres.versioned import VersionedTable
from neuromem.models import Tables
from neuromem.queries.messages import EMBED_MESSAGE
from neuromem.queries.scope import owned

VECTOR = "embedding"
"""What the column of vectors is called in an export, whichever generation of them the database has."""

STAYS = {"jobs": "the work that waits is planned anew", "meta": "tells of the database, not of a user"}
"""Tables that no export holds, and why."""

_DERIVED = {
    "embeddings": {"words"},
    "conversations": {"words", "question_share"},
    "graph_nodes": {"alias_keys"},
}
"""Columns that follow from others of the row, some of them by the user's id: made anew where the row is put."""

_LAST = ("documents", "memory_sources")
"""Links name what comes before them."""


@dataclass(frozen=True, eq=False)
class Part:
    """A table of a user's rows, and the columns of it that move, by the names they have in an export."""

    table: Table
    vt: VersionedTable | None
    owner: str
    columns: Mapping[str, Column[Any]]

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def vectors(self) -> bool:
        return VECTOR in self.columns


@lru_cache
def parts(tables: Tables) -> tuple[Part, ...]:
    """All tables that hold what a user has, in the order they are moved."""
    versioned = [value for value in vars(tables).values() if isinstance(value, VersionedTable)]
    found = [_part(tables, vt.table, vt) for vt in versioned]
    found = [_part(tables, table, None) for table in (tables.conversation_sessions, tables.history_horizons)] + found
    return tuple(sorted(found, key=lambda part: _LAST.index(part.name) if part.name in _LAST else -1))


def _part(tables: Tables, table: Table, vt: VersionedTable | None) -> Part:
    left = _DERIVED.get(table.name, set[str]())
    moved = [column for column in table.columns if column.computed is None and column.name not in left]
    names = {tables.vector_column: VECTOR} if table.name in ("embeddings", "conversation_embeddings") else {}
    return Part(
        table,
        vt,
        "user_id" if "user_id" in table.c else "scope_id",
        {names.get(column.name, column.name): column for column in moved},
    )


@lru_cache
def rows(part: Part, *, vectors: bool) -> Query:
    """Every row of the user; a vector as pgvector sends it, or NULL without `vectors`."""
    chosen = [
        _sent(column).label(name) if name == VECTOR else column.label(name)
        for name, column in part.columns.items()
        if vectors or name != VECTOR
    ]
    return select(*chosen).where(owned(part.table, part.owner))


def _sent(column: Column[Any]) -> ColumnElement[bytes]:
    return func.halfvec_send(column, type_=LargeBinary)


@lru_cache
def counts(tables: Tables) -> Query:
    """(name, rows) of each of the user's tables."""
    return union_all(  # pyright: ignore[reportReturnType]  # a union has what is needed of a select
        *(
            select(literal(part.name, String).label("name"), func.count().label("rows"))
            .select_from(part.table)
            .where(owned(part.table, part.owner))
            for part in parts(tables)
        )
    )


@lru_cache
def any_row(tables: Tables) -> Query:
    """(found): whether the user has anything at all."""
    return select(or_(*(exists().where(owned(part.table, part.owner)) for part in parts(tables))).label("found"))


@lru_cache
def store(part: Part, columns: tuple[str, ...]) -> Insert:
    """An insert of rows; the value of column x is bound as v_x."""
    return insert(part.table).values({name: _bound(part.table.c[name]) for name in columns})


def bound(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `store`."""
    return {f"v_{name}": value for name, value in row.items()}


def _bound(column: Column[Any]) -> ColumnElement[Any]:
    kind = column.type
    if isinstance(kind, JSONB):
        # Python's None is JSON's null where the column must have a value, else no value.
        kind = JSONB(none_as_null=bool(column.nullable))
    return bindparam(f"v_{column.name}", type_=kind)


# ---------------------------------------------------------------- what must hold of what was put there


@lru_cache
def two_states(part: Part) -> Query | None:
    """(key) of a thing with versions at the same time; None for a table without versions."""
    return None if part.vt is None else unsound(part.vt, owned(part.table, part.owner))


@lru_cache
def beyond_their_session(tables: Tables) -> Query:
    """(session_id) of a session that is missing, or counts fewer messages than it has."""
    message, session = tables.conversations.table, tables.conversation_sessions
    placed = (
        select(message.c.session_id, func.max(message.c.seq).label("last"))
        .where(owned(message))
        .group_by(message.c.session_id)
        .subquery("placed")
    )
    same = and_(owned(session), session.c.session_id == placed.c.session_id)
    too_few = func.coalesce(session.c.message_count, 0) < placed.c.last
    return select(placed.c.session_id).select_from(placed.outerjoin(session, same)).where(too_few).limit(1)


@lru_cache
def strange_vectors(tables: Tables) -> Query:
    """(message_id) of a vector that belongs to no version of the user's messages."""
    vector, message = tables.conversation_embeddings.table, tables.conversations.table
    its = exists().where(
        owned(message), message.c.message_id == vector.c.message_id, message.c.version == vector.c.version
    )
    return select(vector.c.message_id).where(owned(vector), ~its).limit(1)


def embed_the_rest(tables: Tables) -> Insert:
    """Records a job for each message that has a version without a vector."""
    message, vector = tables.conversations.table, tables.conversation_embeddings.table
    has = exists().where(
        owned(vector), vector.c.message_id == message.c.message_id, vector.c.version == message.c.version
    )
    waiting = select(message.c.message_id, message.c.user_id).where(owned(message), ~has).distinct().subquery("waiting")
    return enqueuing(tables.jobs, EMBED_MESSAGE, cast(waiting.c.message_id, String), waiting.c.user_id)
