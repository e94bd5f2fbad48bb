"""Statements over what conversations were extracted into, and what still waits."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    REAL,
    UUID,
    BigInteger,
    ColumnElement,
    DateTime,
    Float,
    String,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    exists,
    func,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from memground.postgres.arms import Scan
from memground.postgres.backdated import known_since
from memground.postgres.engine import Query
from memground.postgres.versioned import known_at, known_now
from neuromem.models import Tables
from neuromem.queries.memories import columns
from neuromem.queries.messages import EXTRACTION, extracted
from neuromem.queries.scope import Shape, built_once, owned

EXTRACT = "extract"
"""Kind of the job that extracts the waiting turns of a session."""

SESSION, MESSAGES, ALL = "session_id", "message_ids", "all"
"""What a job's payload says: of which session; which turns, where it is about certain ones that could not be extracted;
whether all that wait are due, and not only a full batch."""

_CANDIDATES = 8
_SAME_WORDS = 20


@built_once
def alike(tables: Tables, shape: Shape, *, scan: Scan) -> Query:
    """The version rows that may say what new memories say: nearest to one, or with the same words.

    The memories are given by their :types and :words (as PostgreSQL writes arrays), since when they are known (:since)
    and their vectors, one after the other in :vectors. Of the same type each, known then or at any time after. Columns:
    `place` of the new memory, from 1 on; the memory's; `similarity` (NULL where there are only the same words); and
    `was_other`, whether a version learned later was another one then.
    """
    table = tables.embeddings.table
    time = DateTime(timezone=True)
    given = (
        func.unnest(
            bindparam("types", type_=ARRAY(String)),
            bindparam("words", type_=ARRAY(Text)),
            bindparam("since", type_=ARRAY(time)),
        )
        .table_valued(
            column("memory_type", String), column("words", Text), column("since", time), with_ordinality="place"
        )
        .render_derived(name="given")
    )
    vectors = select(bindparam("vectors", type_=ARRAY(REAL)).label("numbers")).subquery("vectors")
    new = (
        select(
            given.c.place,
            given.c.memory_type,
            cast(given.c.words, ARRAY(BigInteger)).label("words"),
            given.c.since,
            tables.memory_vectors.one_of(vectors.c.numbers, given.c.place).label("vector"),
        )
        .select_from(given.join(vectors, true()))
        .cte("new")
        .prefix_with("MATERIALIZED")
    )
    mine = [owned(table), table.c.memory_type == new.c.memory_type, known_since(table, new.c.since)]
    near = tables.memory_vectors.candidates(table.c.id, mine, limit=_CANDIDATES, scan=scan, to=new.c.vector)
    words = select(table.c.id, null().cast(Float).label("score")).where(*mine, table.c.words == new.c.words)
    ways = [way.correlate(new).lateral() for way in (near, words.limit(_SAME_WORDS))]
    both = union_all(*(select(way.c.id, way.c.score).correlate(new) for way in ways)).lateral("both_ways")
    similarity = func.max(both.c.score).label("similarity")
    best = select(both.c.id, similarity).group_by(both.c.id).correlate(new).lateral("best")
    then = table.alias("then")
    was_other = exists().where(owned(then), then.c.memory_id == table.c.memory_id, known_at(then, new.c.since))
    later = case((table.c.known_from > new.c.since, was_other), else_=False)
    return (
        select(new.c.place, *columns(tables), best.c.similarity, later.label("was_other"))
        .select_from(new.join(best, true()).join(table, table.c.id == best.c.id))
        .order_by(new.c.place, best.c.similarity.desc().nulls_last(), table.c.version)
    )


def saying(tables: Tables, user_id: str, memory_type: str, words: Sequence[int], moment: datetime) -> Query:
    """The first memories of a type known at a moment as true without end that hold all of these words."""
    table = tables.embeddings.table
    all_of_them = table.c.words.contains(bindparam("words", list(words), type_=ARRAY(BigInteger)))
    wanted = (table.c.memory_type == memory_type, all_of_them, known_at(table, moment), table.c.valid_to.is_(None))
    return select(table).where(table.c.user_id == user_id, *wanted).order_by(table.c.version).limit(_SAME_WORDS)


def linked(tables: Tables, user_id: str, derived: Sequence[uuid.UUID], sources: Sequence[uuid.UUID]) -> Query:
    """(derived_id, source_id, known_from, known_to, origin) of all links there ever were between these."""
    c = tables.memory_sources.table.c
    ends = (
        c.derived_id == any_(bindparam("derived", list(derived), type_=ARRAY(UUID))),
        c.source_id == any_(bindparam("sources", list(sources), type_=ARRAY(UUID))),
    )
    told = select(c.derived_id, c.source_id, c.known_from, c.known_to, c.origin)
    return told.where(c.user_id == user_id, *ends)


def taken_back(tables: Tables, user_id: str, ids: Sequence[uuid.UUID]) -> Query:
    """(source_id, moment): when the extraction of those of certain messages that were extracted once was undone."""
    table = tables.memory_sources.table
    c = table.c
    wanted = c.source_id == any_(bindparam("ids", list(ids), type_=ARRAY(UUID)))
    ended = select(c.source_id, func.max(c.known_to).label("moment")).where(
        c.user_id == user_id, c.derived_kind == EXTRACTION, wanted
    )
    return ended.group_by(c.source_id).having(func.bool_and(~known_now(table)))


def last(tables: Tables, user_id: str, memory_id: uuid.UUID) -> Query:
    """(known_to, closed_origin) of a memory's last version."""
    table = tables.embeddings.table
    mine = and_(table.c.user_id == user_id, table.c.memory_id == memory_id)
    return select(table.c.known_to, table.c.closed_origin).where(mine).order_by(table.c.version.desc()).limit(1)


def _unread(tables: Tables, user_id: str, session_id: str | None) -> list[ColumnElement[bool]]:
    """Current messages that were not extracted, and are not set aside."""
    table, jobs = tables.conversations.table, tables.jobs
    message_id = func.to_jsonb(cast(table.c.message_id, String))
    aside = exists().where(
        jobs.c.kind == EXTRACT, jobs.c.owner == user_id, jobs.c.payload[MESSAGES].op("@>")(message_id)
    )
    session = [] if session_id is None else [table.c.session_id == session_id]
    return [table.c.user_id == user_id, known_now(table), ~extracted(tables, known_now), ~aside, *session]


def waiting(tables: Tables, user_id: str, session_id: str | None) -> Query:
    """(session_id, turns) per session with messages that wait."""
    table = tables.conversations.table
    counted = select(table.c.session_id, func.count().label("turns")).where(*_unread(tables, user_id, session_id))
    return counted.group_by(table.c.session_id)


def unread(tables: Tables, user_id: str, session_id: str, limit: int) -> Query:
    """The first messages of a session that wait."""
    table = tables.conversations.table
    return select(*_told(table)).where(*_unread(tables, user_id, session_id)).order_by(table.c.seq).limit(limit)


def among(tables: Tables, user_id: str, ids: Sequence[uuid.UUID]) -> Query:
    """Those of certain messages that are current and were not extracted."""
    table = tables.conversations.table
    wanted = table.c.message_id == any_(bindparam("ids", list(ids), type_=ARRAY(UUID)))
    unextracted = ~extracted(tables, known_now)
    return (
        select(*_told(table))
        .where(table.c.user_id == user_id, known_now(table), unextracted, wanted)
        .order_by(table.c.seq)
    )


def before(tables: Tables, user_id: str, session_id: str, seq: int, limit: int) -> Query:
    """The last turns of a session before a place, the last first."""
    table = tables.conversations.table
    mine = (table.c.user_id == user_id, table.c.session_id == session_id, known_now(table), table.c.seq < seq)
    return select(*_told(table)).where(*mine).order_by(table.c.seq.desc()).limit(limit)


def counted(tables: Tables, user_id: str) -> Query:
    """(total, extracted) of a user's messages."""
    table = tables.conversations.table
    every = select(func.count()).select_from(table).where(table.c.user_id == user_id, known_now(table))
    # Two counts: as a filter of one, whether a message was extracted would be looked up for each by itself.
    read = every.where(extracted(tables, known_now))
    return select(every.scalar_subquery().label("total"), read.scalar_subquery().label("extracted"))


def planned(tables: Tables, user_id: str) -> Query:
    """The sessions of which something waits to be extracted, or could not be."""
    c = tables.jobs.c
    return select(c.payload[SESSION].astext).where(c.kind == EXTRACT, c.owner == user_id).distinct()


def jobs_of(tables: Tables, user_id: str) -> Query:
    """(payload, run_after, attempts, failed_at, last_error) of a user's extraction jobs, the oldest first."""
    c = tables.jobs.c
    told = select(c.payload, c.run_after, c.attempts, c.failed_at, c.last_error)
    return told.where(c.kind == EXTRACT, c.owner == user_id).order_by(c.id)


def _told(table: Table) -> list[ColumnElement[Any]]:
    c = table.c
    return [c.message_id, c.session_id, c.seq, c.role, c.speaker, c.content, c.event_at]
