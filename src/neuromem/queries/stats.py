"""Statements that count what is known about a user."""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    Table,
    bindparam,
    cast,
    exists,
    func,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

from memground.postgres.engine import Query
from neuromem.models import Tables
from neuromem.queries.scope import Shape, built_once, owned


@built_once
def counts(tables: Tables, shape: Shape) -> Query:
    """One row with every count; `memories` is a JSON object of count by type, first and last are when memories and
    messages became known."""
    memories, messages = _memories(tables, shape), _messages(tables, shape)
    return select(
        memories.c.by_type.label("memories"),
        _memory_versions(tables, shape).label("memory_versions"),
        messages.c.total.label("messages"),
        messages.c.sessions,
        _count(tables.key_values.table, shape, "scope_id").label("key_values"),
        _count(tables.graph_nodes.table, shape).label("graph_nodes"),
        _count(tables.graph_edges.table, shape).label("graph_edges"),
        _count(tables.documents.table, shape).label("documents"),
        memories.c.emotions,
        (memories.c.without_vector + messages.c.without_vector).label("without_vector"),
        func.least(memories.c.first, messages.c.first, type_=DateTime(timezone=True)).label("first"),
        func.greatest(memories.c.last, messages.c.last, type_=DateTime(timezone=True)).label("last"),
    ).select_from(memories.join(messages, true()))


def _memories(tables: Tables, shape: Shape) -> FromClause:
    """One row: by_type, emotions, without_vector, first, last."""
    table = tables.embeddings.table
    typed = (
        select(
            table.c.memory_type,
            func.count().label("total"),
            func.count().filter(table.c.metadata_.has_key("emotion")).label("emotions"),
            func.count().filter(table.c[tables.vector_column].is_(None)).label("without_vector"),
            func.min(table.c.known_from).label("first"),
            func.max(table.c.known_from).label("last"),
        )
        .where(shape.known(table))
        .group_by(table.c.memory_type)
        .subquery("typed")
    )
    c = typed.c
    by_type = func.jsonb_object_agg(c.memory_type, c.total, type_=JSONB).label("by_type")
    sums = (_whole(func.coalesce(func.sum(c[name]), 0)).label(name) for name in ("emotions", "without_vector"))
    return select(by_type, *sums, func.min(c.first).label("first"), func.max(c.last).label("last")).subquery("memories")


def _messages(tables: Tables, shape: Shape) -> FromClause:
    """One row: total, sessions, without_vector, first, last."""
    table, vectors = tables.conversations.table, tables.conversation_embeddings.table
    has = exists().where(vectors.c.message_id == table.c.message_id, shape.known(vectors)).correlate(table)
    return (
        select(
            func.count().label("total"),
            func.count(table.c.session_id.distinct()).label("sessions"),
            func.count().filter(~has).label("without_vector"),
            func.min(table.c.known_from).label("first"),
            func.max(table.c.known_from).label("last"),
        )
        .where(shape.known(table))
        .subquery("messages")
    )


def _memory_versions(tables: Tables, shape: Shape) -> ColumnElement[int]:
    """How many states memories have had, forgotten ones included."""
    table = tables.embeddings.table
    learned = [table.c.known_from <= bindparam("known_at", type_=DateTime(timezone=True))] if shape.past else []
    return select(func.count()).select_from(table).where(owned(table), *learned).scalar_subquery()


def _count(table: Table, shape: Shape, owner: str = "user_id") -> ColumnElement[int]:
    return select(func.count()).select_from(table).where(shape.known(table, owner)).scalar_subquery()


def _whole(value: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(value, Integer)
