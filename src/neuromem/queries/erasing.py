"""Statements over what is to be erased, and over what hangs on it."""

import uuid
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    String,
    Table,
    and_,
    bindparam,
    column,
    exists,
    func,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert
from sqlalchemy.types import TypeEngine

from memground.postgres.engine import Query
from memground.postgres.erasing import among
from memground.postgres.versioned import VersionedTable, known_at, known_now
from neuromem.models import Tables
from neuromem.queries.digest import DIGEST, READ, said
from neuromem.queries.messages import CONTEXT_TURNS

_OWNERS = ("user_id", "scope_id", "owner")


def owners(tables: Tables) -> Mapping[Table, str]:
    """Every table that holds rows of users, and the column that says whose."""
    named = ((table, next((name for name in _OWNERS if name in table.c), None)) for table in _sorted(tables))
    return {table: name for table, name in named if name is not None}


def versioned_tables(tables: Tables) -> list[VersionedTable]:
    """Every table with versions."""
    found = (getattr(tables, name) for name in tables.__dataclass_fields__)
    return [item for item in found if isinstance(item, VersionedTable)]


def owned(tables: Tables, table: Table, user_id: str) -> ColumnElement[bool]:
    """The user's rows of a table."""
    return table.c[owners(tables)[table]] == user_id


def _sorted(tables: Tables) -> list[Table]:
    return sorted(tables.metadata.tables.values(), key=lambda table: table.name)


def derived_tables(tables: Tables) -> list[VersionedTable]:
    """Where things lie that come from something else. (Nodes come and go with edges.)"""
    return [tables.embeddings, tables.graph_edges, tables.key_values, tables.emotion_profiles, tables.documents]


def links_from(tables: Tables, user_id: str, sources: Collection[uuid.UUID]) -> Query:
    """All links there ever were to what came from certain things."""
    table = tables.memory_sources.table
    return select(table).where(table.c.user_id == user_id, among(table.c.source_id, sources))


def links_of(tables: Tables, user_id: str, derived: Collection[uuid.UUID]) -> Query:
    """All links there ever were from certain derived things to what they came from."""
    table = tables.memory_sources.table
    return select(table).where(table.c.user_id == user_id, among(table.c.derived_id, derived))


def versions(tables: Tables, vt: VersionedTable, user_id: str, keys: Collection[uuid.UUID]) -> Query:
    """All versions of logical rows, in order: `key`, the version's own columns, and those of `_TOLD`."""
    table = vt.table
    told = [table.c[name] for name in _TOLD.get(table.name, ())]
    own = [table.c[name] for name in ("id", "version", "known_from", "known_to", "recorded_at", "origin")]
    return (
        select(vt.key_column.label("key"), *own, table.c.closed_origin, *told)
        .where(owned(tables, table, user_id), among(vt.key_column, keys))
        .order_by(vt.key_column, table.c.version)
    )


_TOLD = {
    "key_values": ("value",),
    "emotion_profiles": ("latest_state_updated_at",),
    "graph_edges": ("source_type", "source_id", "target_type", "target_id"),
    "graph_nodes": ("node_type", "node_id", "properties"),
    "documents": ("object_key", "embedding_id"),
    "conversations": ("session_id",),
}
"""What decides of rows whether they go."""


def read_with(tables: Tables, user_id: str, messages: Collection[uuid.UUID]) -> Query:
    """(message_id) of those whose vectors were made with one of certain messages as what was said before.

    Those before which at most CONTEXT_TURNS - 1 others stood between, known when the message became known.
    """
    table = tables.conversations.table
    gone, after, between = table.alias("gone"), table.alias("after"), table.alias("between_them")
    mine = (gone.c.user_id == user_id, after.c.user_id == user_id)
    nearer = (
        select(between.c.id)
        .where(
            between.c.user_id == user_id,
            between.c.session_id == after.c.session_id,
            between.c.seq > gone.c.seq,
            between.c.seq < after.c.seq,
            known_at(between, after.c.known_from),
        )
        .limit(CONTEXT_TURNS)
        .correlate(gone, after)
        .lateral("nearer")
    )
    count = select(func.count()).select_from(nearer).correlate(gone, after).scalar_subquery()
    return (
        select(after.c.message_id)
        .select_from(gone.join(after, and_(after.c.session_id == gone.c.session_id, after.c.seq > gone.c.seq)))
        .where(*mine, among(gone.c.message_id, messages), count < CONTEXT_TURNS)
        .distinct()
    )


def current_messages(tables: Tables, user_id: str, messages: Collection[uuid.UUID]) -> Query:
    """(message_id, session_id) of those that are current."""
    table = tables.conversations.table
    wanted = (table.c.user_id == user_id, among(table.c.message_id, messages), known_now(table))
    return select(table.c.message_id, table.c.session_id).where(*wanted)


def marks(tables: Tables, user_id: str, kind: str, things: Collection[uuid.UUID]) -> Query:
    """(id) of the links that say of things that they were read: messages by EXTRACTION, memories by DIGEST."""
    table = tables.memory_sources.table
    wanted = (table.c.derived_kind == kind, among(table.c.source_id, things))
    return select(table.c.id).where(table.c.user_id == user_id, *wanted)


def marks_of_nothing(tables: Tables, gone: ColumnElement[bool]) -> ColumnElement[bool]:
    """The links that say of a state of a memory that a digest has read it, where no such state stays. `gone`: which
    version rows of memories do not."""
    mark, memory = tables.memory_sources.table, tables.embeddings.table
    its = (memory.c.user_id == mark.c.user_id, memory.c.memory_id == mark.c.source_id)
    stays = exists().where(*its, gone.is_not(true()), said(memory) == mark.c.span[READ].astext)
    return and_(mark.c.derived_kind == DIGEST, ~stays)


def nodes_alone(
    tables: Tables,
    user_id: str,
    things: Collection[tuple[str, str]],
    runs: Collection[tuple[str, datetime]],
    edges: Collection[uuid.UUID],
) -> Query:
    """(key) of the nodes among certain ones at which no edge ever began or ended but those rows of edges.

    Asked for by type and id, or by who wrote them and when (origin, recorded_at).
    """
    node, edge = tables.graph_nodes.table, tables.graph_edges.table
    others = and_(edge.c.user_id == user_id, ~among(edge.c.id, edges))
    begins = exists().where(others, edge.c.source_type == node.c.node_type, edge.c.source_id == node.c.node_id)
    ends = exists().where(others, edge.c.target_type == node.c.node_type, edge.c.target_id == node.c.node_id)
    named = _one_of((node.c.node_type, node.c.node_id), String(), things)
    written = _one_of((node.c.origin, node.c.recorded_at), DateTime(timezone=True), runs)
    return select(node.c.node_key).where(node.c.user_id == user_id, or_(named, written), ~begins, ~ends).distinct()


def _one_of(
    columns: tuple[ColumnElement[Any], ColumnElement[Any]], kind: TypeEngine[Any], pairs: Collection[tuple[str, Any]]
) -> ColumnElement[bool]:
    wanted = (
        func.unnest(
            bindparam("first", [first for first, _ in pairs], type_=ARRAY(String), unique=True),
            bindparam("second", [second for _, second in pairs], type_=ARRAY(kind), unique=True),
        )
        .table_valued(column("first", String), column("second", kind))
        .render_derived()
    )
    return tuple_(*columns).in_(select(wanted.c.first, wanted.c.second))


def sessions_left_empty(
    tables: Tables, user_id: str, sessions: Collection[str], messages: Collection[uuid.UUID]
) -> ColumnElement[bool]:
    """Which of certain sessions hold no message but certain ones, at any version."""
    session, table = tables.conversation_sessions, tables.conversations.table
    other = exists().where(
        table.c.user_id == user_id, table.c.session_id == session.c.session_id, ~among(table.c.message_id, messages)
    )
    named = session.c.session_id.in_(list(sessions))
    return and_(session.c.user_id == user_id, named, ~other)


def objects(tables: Tables, where: ColumnElement[bool]) -> Query:
    """(object_key) of certain version rows of documents."""
    key = tables.documents.table.c.object_key
    return select(key).where(where, key.is_not(None)).distinct()


def horizon(tables: Tables, user_id: str) -> Query:
    """(before) from when on a user's history is complete, where any of it was erased."""
    table = tables.history_horizons
    return select(table.c.before).where(table.c.user_id == user_id)


def set_horizon(tables: Tables, user_id: str, before: datetime, purged_at: datetime) -> Insert:
    """Notes that history before a moment was erased; a later one counts."""
    table = tables.history_horizons
    new = insert(table).values(user_id=user_id, before=before, purged_at=purged_at)
    latest = func.greatest(table.c.before, new.excluded.before)
    return new.on_conflict_do_update(
        index_elements=["user_id"], set_={"before": latest, "purged_at": new.excluded.purged_at}
    )


def count(table: Table, where: ColumnElement[bool]) -> Query:
    return select(func.count()).select_from(table).where(where)


def ids(table: Table, where: ColumnElement[bool]) -> Query:
    return select(table.c.id).where(where)
