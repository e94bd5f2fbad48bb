"""Statements over what was reflected on, and what is news since."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    UUID,
    BigInteger,
    ColumnElement,
    DateTime,
    Insert,
    Integer,
    LargeBinary,
    Select,
    String,
    Table,
    and_,
    any_,
    bindparam,
    cast,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, aggregate_order_by, insert

from memground.clock import Stamp
from memground.postgres.engine import Query
from memground.postgres.versioned import known_now
from neuromem.models import Tables
from neuromem.queries.emotion import valence
from neuromem.queries.memories import columns
from neuromem.queries.scope import Shape, built_once, owned
from neuromem.types import MemoryType

DIGEST = "digest"
"""What a memory is a source of once a digest has read it, whatever that found; and the kind of a digest's job."""

LIMIT = "limit"
"""In a job's payload: how many memories to read."""

READ = "read"
"""In a mark: the fingerprint of what was read."""

_NOT_LIVED = (MemoryType.INSIGHT, MemoryType.DOCUMENT)
"""What a digest does not read: what it wrote itself, and what files say."""


def said(table: Table | Any) -> ColumnElement[str]:
    """A fingerprint of what a version of a memory says: its text, when that ended, what was felt."""
    ended = func.coalesce(cast(func.extract("epoch", table.c.valid_to), String), "")
    felt = func.coalesce(cast(table.c.metadata_.op("->")(literal("emotion", String)), String), "")
    return func.md5(func.concat(table.c.content, "\x1f", ended, "\x1f", felt))


def _news(tables: Tables) -> list[ColumnElement[bool]]:
    """Memories that say something no digest has read of them."""
    table, mark = tables.embeddings.table, tables.memory_sources.table
    its_own = (owned(mark), mark.c.source_id == table.c.memory_id, mark.c.derived_kind == DIGEST, known_now(mark))
    # Looked up for each: as a join, where statistics lag behind, every memory would be compared with every mark.
    read = select(mark.c.span[READ].astext).where(*its_own).limit(1).correlate(table).scalar_subquery()
    lived = (table.c.memory_type != kind for kind in _NOT_LIVED)
    return [owned(table), known_now(table), *lived, read.is_distinct_from(said(table))]


@built_once
def news(tables: Tables, shape: Shape) -> Query:
    """The :limit latest of the memories that are news."""
    table = tables.embeddings.table
    order = (table.c.event_at.desc(), table.c.version.desc(), table.c.id.desc())
    return select(*columns(tables)).where(*_news(tables)).order_by(*order).limit(bindparam("limit", type_=Integer))


@built_once
def first_news(tables: Tables, shape: Shape) -> Query:
    """(memory_id) of one of the memories that are news."""
    return select(tables.embeddings.table.c.memory_id).where(*_news(tables)).limit(1)


@built_once
def all_news(tables: Tables, shape: Shape) -> Query:
    """One row: count, `felt` (whether one tells of an emotion), `ids` of the version rows, 16 bytes each in a row."""
    table = tables.embeddings.table
    ids = func.string_agg(func.uuid_send(table.c.id), aggregate_order_by(literal(b"", LargeBinary), table.c.id))
    felt = func.coalesce(func.bool_or(valence(table.c.metadata_).is_not(None)), False)
    return select(func.count().label("count"), felt.label("felt"), ids.label("ids")).where(*_news(tables))


@built_once
def insights(tables: Tables, shape: Shape) -> Query:
    """(content) of the :limit latest insights."""
    table = tables.embeddings.table
    mine = (owned(table), known_now(table), table.c.memory_type == MemoryType.INSIGHT)
    latest = select(table.c.content).where(*mine).order_by(table.c.event_at.desc(), table.c.id)
    return latest.limit(bindparam("limit", type_=Integer))


def current_among(tables: Tables, user_id: str, record_ids: Sequence[uuid.UUID]) -> Query:
    """How many of certain version rows are still current."""
    table = tables.embeddings.table
    wanted = table.c.id == any_(bindparam("ids", list(record_ids), type_=ARRAY(UUID)))
    return select(func.count()).where(table.c.user_id == user_id, wanted, known_now(table))


def _listed(ids: bytes) -> Select[Any]:
    """Ids that stand behind each other, 16 bytes each, as rows."""
    all_of_them = bindparam("rows", ids, type_=LargeBinary)
    place = func.generate_series(0, len(ids) // 16 - 1).column_valued("place")
    one = func.substr(all_of_them, place * 16 + 1, 16)
    found: Select[Any] = select(cast(func.encode(one, "hex"), UUID))
    return found


def outdated_marks(tables: Tables, user_id: str, ids: bytes) -> Query:
    """The current marks of memories of which these version rows say something else."""
    table, mark = tables.embeddings.table, tables.memory_sources.table
    of_it = and_(table.c.memory_id == mark.c.source_id, table.c.user_id == user_id)
    mine = (mark.c.user_id == user_id, mark.c.derived_kind == DIGEST, known_now(mark))
    return select(mark.c.id).join(table, of_it).where(*mine, table.c.id.in_(_listed(ids)))


def mark(tables: Tables, user_id: str, ids: bytes, run: uuid.UUID, stamp: Stamp) -> Insert:
    """Records that a digest has read these version rows."""
    table, time = tables.embeddings.table, DateTime(timezone=True)
    values: dict[str, Any] = {
        "id": func.gen_random_uuid(),
        "link_id": func.gen_random_uuid(),
        "version": literal(stamp.version, BigInteger),
        "known_from": literal(stamp.at, time),
        "recorded_at": literal(stamp.at, time),
        "origin": literal(stamp.origin, String),
        "created_at": literal(stamp.at, time),
        "user_id": table.c.user_id,
        "derived_kind": literal(DIGEST, String),
        "derived_id": literal(run, UUID),
        "source_kind": literal("memory", String),
        "source_id": table.c.memory_id,
        "span": func.jsonb_build_object(literal(READ, String), said(table), type_=JSONB),
    }
    read = select(*values.values()).where(table.c.user_id == user_id, table.c.id.in_(_listed(ids)))
    return insert(tables.memory_sources.table).from_select(list(values), read)
