"""Statements over messages, their sessions and their vectors."""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    UUID,
    BigInteger,
    Column,
    ColumnElement,
    Float,
    FromClause,
    LargeBinary,
    String,
    Table,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    exists,
    func,
    literal,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, Insert, distinct_on, insert
from sqlalchemy.sql.dml import ReturningInsert

from memground.postgres import arms
from memground.postgres.arms import Scan
from memground.postgres.bulk import given, insertion, unnest
from memground.postgres.engine import Query, holding
from memground.postgres.filter_sql import compile_sql
from memground.postgres.queue import enqueuing
from memground.postgres.versioned import known, known_at, known_now
from memground.view import View
from neuromem.models import Tables
from neuromem.queries.filters import message_columns
from neuromem.queries.scope import Shape, built_once, owned
from neuromem.ranking.turns import WORDS_READ

EXTRACTION = "extraction"
"""What a message is a source of once it was read by an extraction, whatever that found."""

LEADING = 40
"""Turns of which it is read what stands around them; measured, the surroundings of those below change nothing."""

EMBED_MESSAGE = "embed_message"
"""Kind of the job that makes a message's vector."""

CONTEXT_TURNS = 2
"""How many earlier turns of the session a message's vector reads beside the message."""


def columns(tables: Tables, seen: Callable[[Table], ColumnElement[bool]]) -> list[ColumnElement[Any]]:
    """What users see of a message: all but its words; and whether it was extracted, by the links `seen` admits."""
    hidden = ("words", "extracted")
    return [*(column for column in tables.conversations.table.c if column.name not in hidden), extracted(tables, seen)]


def extracted(tables: Tables, seen: Callable[[Table], ColumnElement[bool]]) -> ColumnElement[bool]:
    """Whether something was extracted from a message, were it only the knowledge that it says nothing."""
    link, message = tables.memory_sources.table, tables.conversations.table
    read = and_(
        link.c.user_id == message.c.user_id,
        link.c.source_id == message.c.message_id,
        link.c.derived_kind == EXTRACTION,
        seen(link),
    )
    return exists().where(read).correlate(message).label("extracted")


def extracted_among(tables: Tables, user_id: str, ids: Sequence[uuid.UUID], moment: datetime) -> Query:
    """Those of certain messages that were known to be extracted at a moment."""
    link = tables.memory_sources.table
    wanted = link.c.source_id == any_(_ids(ids))
    read = select(link.c.source_id).where(link.c.user_id == user_id, wanted, link.c.derived_kind == EXTRACTION)
    return read.where(known_at(link, moment)).distinct()


@built_once
def keyword_arm(tables: Tables, shape: Shape, limit: int) -> Query:
    """(message_id, score) for :words, best first."""
    table = tables.conversations.table
    return tables.message_words.candidates(
        table.c.message_id, [shape.known(table)], limit=limit, further=_passing(tables, shape)
    )


@built_once
def best_scan(tables: Tables, shape: Shape, limit: int) -> Query:
    """Which `Scan` finds the nearest of all the user's messages."""
    return tables.message_vectors.best_scan(bindparam("user_id", type_=String), limit)


@built_once
def is_few(tables: Tables, shape: Shape) -> Query:
    """Whether so few messages pass that all their vectors are compared."""
    return arms.is_few(tables.conversation_embeddings.table, _vector_conditions(tables, shape))


@built_once
def pool(tables: Tables, shape: Shape, limit: int, *, scan: Scan) -> Query:
    """The turns that come into question, in no order: what both arms found, and what stands around the best of it.

    For :vector and what the keyword arm found (:keyword_ids, :keyword_scores). Columns: message_id, similarity (NULL
    for what the vector arm did not list), earlier, later, session_id, question_share, speaker, seconds since 1970,
    words. Of the LEADING best, `earlier` and `later` name up to two turns that the view knows before and after in the
    session, nearest first. `words` is PostgreSQL's binary form of bigint[], as `read_words` takes it.
    """
    table, vectors = tables.conversations.table, tables.conversation_embeddings.table
    near = tables.message_vectors.candidates(
        vectors.c.message_id, _vector_conditions(tables, shape), limit=limit, scan=scan
    ).subquery("near")
    ids, scores = bindparam("keyword_ids", type_=ARRAY(UUID)), bindparam("keyword_scores", type_=ARRAY(Float))
    found = (
        func.unnest(ids, scores).table_valued(column("id", UUID), column("score", Float), name="found").render_derived()
    )
    # Only to choose whose surroundings are read; the ranking weighs more.
    nearest, least = func.max(near.c.score, type_=Float).over(), func.min(near.c.score, type_=Float).over()
    strongest = func.max(found.c.score, type_=Float).over()
    meaning = func.coalesce(near.c.score, least, type_=Float) / func.nullif(func.abs(nearest), 0.0, type_=Float)
    words = func.coalesce(found.c.score, 0.0, type_=Float) / func.nullif(strongest, 0.0, type_=Float)
    worth = func.coalesce(meaning, 0.0) + func.coalesce(words, 0.0)
    both = (
        select(func.coalesce(near.c.id, found.c.id).label("id"), near.c.score.label("similarity"), worth.label("worth"))
        .select_from(near.join(found, near.c.id == found.c.id, full=True))
        .subquery("both_arms")
    )
    place = func.row_number().over(order_by=(both.c.worth.desc(), both.c.id))
    listed = (
        select(table.c.message_id, both.c.similarity, table.c.seq, *_told(table), place.label("place"))
        .select_from(both.join(table, table.c.message_id == both.c.id))
        .where(shape.known(table))
        .subquery("listed")
    )
    leads = listed.c.place <= LEADING
    direct = (
        select(
            listed.c.message_id,
            listed.c.similarity,
            case((leads, _around(table, shape, listed, earlier=True))).label("earlier"),
            case((leads, _around(table, shape, listed, earlier=False))).label("later"),
            *(listed.c[column.name] for column in _told(table)),
        )
        .cte("direct")
        .prefix_with("MATERIALIZED")
    )
    around = select(func.unnest(direct.c.earlier + direct.c.later).label("message_id")).distinct().subquery("around")
    nothing = null().cast(ARRAY(UUID))
    beside = (
        select(table.c.message_id, null().cast(Float), nothing, nothing, *_told(table))
        .select_from(around.join(table, table.c.message_id == around.c.message_id))
        .where(shape.known(table), *_passing(tables, shape))
        .where(~exists().where(direct.c.message_id == around.c.message_id))
    )
    return select(union_all(select(direct), beside).subquery("pool"))


def _around(table: Table, shape: Shape, turn: FromClause, *, earlier: bool) -> ColumnElement[Any]:
    """The two turns before or after another that the view knows, nearest first, as an array of message ids."""
    other = table.alias("other")
    beyond = other.c.seq < turn.c.seq if earlier else other.c.seq > turn.c.seq
    nearest = other.c.seq.desc() if earlier else other.c.seq
    two = (
        select(other.c.message_id)
        .where(shape.known(other), other.c.session_id == turn.c.session_id, beyond)
        .order_by(nearest)
        .limit(2)
        .correlate(turn)
    )
    return func.array(two.scalar_subquery(), type_=ARRAY(UUID))


def _told(table: Table) -> list[ColumnElement[Any]]:
    """What the ranking needs to know of a turn."""
    c = table.c
    seconds = func.date_part("epoch", c.event_at, type_=Float).label("seconds")
    words = func.array_send(c.words[1:WORDS_READ], type_=LargeBinary).label("words")
    return [c.session_id, c.question_share, c.speaker, seconds, words]


def by_ids(tables: Tables, shape: Shape) -> Query:
    """The messages :ids as rows."""
    return _by_ids(tables, Shape(past=shape.past))


@built_once
def _by_ids(tables: Tables, shape: Shape) -> Query:
    table = tables.conversations.table
    wanted = table.c.message_id == any_(bindparam("ids", type_=ARRAY(UUID)))
    return select(*columns(tables, shape.known)).where(arms.on_row(shape.known(table)), wanted)


def _passing(tables: Tables, shape: Shape) -> list[ColumnElement[bool]]:
    return [] if shape.where is None else [compile_sql(shape.where, message_columns(tables))]


def _vector_conditions(tables: Tables, shape: Shape) -> list[ColumnElement[bool]]:
    vectors, message = tables.conversation_embeddings.table, tables.conversations.table
    if shape.where is None:
        return [shape.known(vectors)]
    passing = exists().where(
        message.c.message_id == vectors.c.message_id, shape.known(message), *_passing(tables, shape)
    )
    return [shape.known(vectors), passing]


def by_external_ids(tables: Tables) -> Query:
    """The user's current messages of these (:wanted_session_id, :wanted_external_id)."""
    table = tables.conversations.table
    return _named(table, select(*columns(tables, known_now))).where(known_now(table))


def left(tables: Tables) -> Query:
    """(session_id, external_id, left): when messages of these names that were known once were known last."""
    table = tables.conversations.table
    last = select(table.c.session_id, table.c.external_id, func.max(table.c.known_to).label("left"))
    return _named(table, last).where(~known_now(table)).group_by(table.c.session_id, table.c.external_id)


def _named(table: Table, statement: Query) -> Query:
    wanted = unnest([Column("session_id", String), Column("external_id", String)], "wanted")
    same = and_(table.c.session_id == wanted.c.session_id, table.c.external_id == wanted.c.external_id)
    return statement.select_from(wanted.join(table, same)).where(owned(table))


SESSION_COLUMNS = ("id", "user_id", "session_id", "message_count", "last_message_at", "created_at", "updated_at")


@lru_cache
def advance(tables: Tables) -> ReturningInsert[Any, Any]:
    """Locks sessions (made if new), counts messages in; (session_id, message_count)."""
    return _counted_in(tables, insertion(tables.conversation_sessions, SESSION_COLUMNS))


def _counted_in(tables: Tables, new: Insert) -> ReturningInsert[Any, Any]:
    table = tables.conversation_sessions
    return new.on_conflict_do_update(
        index_elements=["user_id", "session_id"],
        set_={
            "message_count": table.c.message_count + new.excluded.message_count,
            "last_message_at": func.greatest(table.c.last_message_at, new.excluded.last_message_at),
            "updated_at": new.excluded.updated_at,
        },
    ).returning(table.c.session_id, table.c.message_count)


@lru_cache
def store(tables: Tables, columns: tuple[str, ...]) -> Query:
    """Stores messages with the jobs for their vectors, in one statement; (session_id, message_count) of their sessions.

    It first does what `Session.hold` does, for :hold. So it may be a transaction by itself: it reads nothing that
    others may have changed while it waited for them. For `driver_lists` of the sessions, by the name "given", and of
    the messages' `columns`, by the name "said". There `seq` is how many messages of the session follow: its place is
    known once the session is locked.
    """
    table = tables.conversations.table
    held = select(holding(bindparam("hold", type_=BigInteger))).cte("held").prefix_with("MATERIALIZED")
    begun, values = given(tables.conversation_sessions, SESSION_COLUMNS, "given")
    rows = select(*values).select_from(held.join(begun, true()))
    new = insert(tables.conversation_sessions).from_select(SESSION_COLUMNS, rows)
    sessions = _counted_in(tables, new).cte("sessions")
    source, read = given(table, columns, "said")
    place = (sessions.c.message_count - source.c.seq).label("seq")
    said = [place if column == "seq" else expression for column, expression in zip(columns, read, strict=True)]
    chosen = select(*said).select_from(source.join(sessions, sessions.c.session_id == source.c.session_id))
    stored = insert(table).from_select(columns, chosen).returning(table.c.message_id, table.c.user_id).cte("stored")
    jobs = enqueuing(tables.jobs, EMBED_MESSAGE, cast(stored.c.message_id, String), stored.c.user_id).cte("jobs")
    return select(sessions.c.session_id, sessions.c.message_count).add_cte(jobs)


def in_session(
    tables: Tables, user_id: str, session_id: str, view: View, *, after: int | None = None, limit: int | None = None
) -> Query:
    """A session's messages in order."""
    table = tables.conversations.table
    mine = (table.c.user_id == user_id, table.c.session_id == session_id)
    statement = select(*columns(tables, lambda link: known(link, view))).where(*mine, known(table, view))
    if after is not None:
        statement = statement.where(table.c.seq > after)
    return statement.order_by(table.c.seq).limit(limit)


def unextracted(tables: Tables, user_id: str, session_id: str | None, limit: int) -> Query:
    """Current messages nothing was extracted from yet, oldest first."""
    table = tables.conversations.table
    waits = ~extracted(tables, known_now)
    statement = select(*columns(tables, known_now)).where(table.c.user_id == user_id, known_now(table), waits)
    if session_id is not None:
        statement = statement.where(table.c.session_id == session_id)
    return statement.order_by(table.c.version, table.c.seq).limit(limit)


def sessions(tables: Tables, user_id: str, view: View) -> Query:
    """(session_id, message_count, first_message_at, last_message_at, closed_at), the last active first.

    Counted from the messages the view knows; `closed_at` is the present's.
    """
    table, session = tables.conversations.table, tables.conversation_sessions
    last = func.max(table.c.event_at)
    counted = (
        select(
            table.c.session_id,
            func.count().label("message_count"),
            func.min(table.c.event_at).label("first_message_at"),
            last.label("last_message_at"),
        )
        .where(table.c.user_id == user_id, known(table, view))
        .group_by(table.c.session_id)
        .subquery("counted")
    )
    return (
        select(counted, session.c.closed_at)
        .select_from(
            counted.join(session, and_(session.c.user_id == user_id, session.c.session_id == counted.c.session_id))
        )
        .order_by(counted.c.last_message_at.desc(), counted.c.session_id)
    )


def to_embed(tables: Tables, ids: Sequence[uuid.UUID]) -> Query:
    """(message_id, user_id, said, context) for messages whose vectors are to be made.

    `context` are the CONTEXT_TURNS turns before, nearest first, that were known when the message became known: so the
    vector is the same whenever it is computed.
    """
    table = tables.conversations.table
    first = (
        select(table)
        .where(table.c.message_id == any_(_ids(ids)))
        .ext(distinct_on(table.c.message_id))
        .order_by(table.c.message_id, table.c.version)
        .subquery("message")
    )
    earlier = table.alias("earlier")
    turns = (
        select(_said(earlier.c).label("said"), earlier.c.seq)
        .where(
            earlier.c.user_id == first.c.user_id,
            earlier.c.session_id == first.c.session_id,
            earlier.c.seq < first.c.seq,
            known_at(earlier, first.c.known_from),
        )
        .order_by(earlier.c.seq.desc())
        .limit(CONTEXT_TURNS)
        .correlate(first)
        .lateral("turns")
    )
    context = (
        select(func.array_agg(turns.c.said).label("context")).select_from(turns).correlate(first).lateral("context")
    )
    return select(first.c.message_id, first.c.user_id, _said(first.c).label("said"), context.c.context).select_from(
        first.join(context, true())
    )


def text_to_embed(row: Any) -> str:
    """The text a message's vector is made of, from a row of `to_embed`."""
    return "\n".join([row.said, *(row.context or ())])


def lock_messages(tables: Tables, ids: Sequence[uuid.UUID]) -> Query:
    """Holds messages as they are: whoever would end or restore them waits for this transaction."""
    table = tables.conversations.table
    return (
        select(table.c.id).where(table.c.message_id == any_(_ids(ids))).order_by(table.c.id).with_for_update(read=True)
    )


def versions(tables: Tables, ids: Sequence[uuid.UUID]) -> Query:
    """All version rows of messages."""
    table = tables.conversations.table
    return select(table).where(table.c.message_id == any_(_ids(ids)))


def unembedded(tables: Tables, user_id: str) -> Query:
    """Current messages without a current vector."""
    table, vectors = tables.conversations.table, tables.conversation_embeddings.table
    has = exists().where(vectors.c.message_id == table.c.message_id, known_now(vectors))
    return select(table.c.message_id).where(table.c.user_id == user_id, known_now(table), ~has)


def _said(c: Any) -> ColumnElement[str]:
    return func.concat_ws(literal(": "), c.speaker, c.content)


def _ids(ids: Sequence[uuid.UUID]) -> Any:
    return bindparam("ids", list(ids), type_=ARRAY(UUID), unique=True)
