"""Statements over messages, their sessions and their vectors."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import UUID, ColumnElement, and_, any_, bindparam, exists, func, literal, select, true, union_all
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on

from memground.filters import Filter
from memground.postgres.bulk import unnest
from memground.postgres.engine import Query
from memground.postgres.filter_sql import compile_sql
from memground.postgres.versioned import known, known_at, known_now
from memground.view import View
from neuromem.models import Tables
from neuromem.queries.filters import message_columns

CONTEXT_TURNS = 2
"""How many earlier turns of the session a message's vector reads beside the message."""


def keyword_arm(tables: Tables, user_id: str, query: str, view: View, where: Filter | None, *, limit: int) -> Query:
    """(message_id, score), best first."""
    table = tables.conversations.table
    return tables.message_words.candidates(
        table.c.message_id,
        query,
        [table.c.user_id == user_id, known(table, view)],
        limit=limit,
        further=[] if where is None else [compile_sql(where, message_columns(tables))],
    )


def vector_conditions(
    tables: Tables, user_id: str, view: View, where: Filter | None
) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
    """Which vectors a read is about: conditions on their own table, and those that need the message."""
    table, message = tables.conversation_embeddings.table, tables.conversations.table
    mine = [table.c.user_id == user_id, known(table, view)]
    if where is None:
        return mine, []
    passing = exists().where(
        message.c.message_id == table.c.message_id,
        message.c.user_id == user_id,
        known(message, view),
        compile_sql(where, message_columns(tables)),
    )
    return mine, [passing]


def vector_arm(
    tables: Tables, vector: Sequence[float], where: Sequence[ColumnElement[bool]], *, limit: int, exact: bool
) -> Query:
    """(message_id, score), best first."""
    table = tables.conversation_embeddings.table
    return tables.message_vectors.candidates(table.c.message_id, vector, where, limit=limit, exact=exact)


def places(tables: Tables, user_id: str, ids: Sequence[uuid.UUID], view: View) -> Query:
    """(message_id, session_id, question_share) of candidates."""
    table = tables.conversations.table
    return select(table.c.message_id, table.c.session_id, table.c.question_share).where(
        _among(tables, user_id, ids), known(table, view)
    )


def neighbours(tables: Tables, user_id: str, ids: Sequence[uuid.UUID], view: View) -> Query:
    """(message_id, other, session_id, question_share, before): the turns the view knows just before and just after.

    `other` is the neighbour, `question_share` the neighbour's, `before` whether it precedes the message.
    """
    table = tables.conversations.table
    other = table.alias("other")
    turn = select(
        other.c.message_id, other.c.session_id, other.c.question_share, (other.c.seq < table.c.seq).label("before")
    )
    same = turn.where(other.c.user_id == user_id, other.c.session_id == table.c.session_id, known(other, view))
    previous = same.where(other.c.seq < table.c.seq).order_by(other.c.seq.desc()).limit(1)
    following = same.where(other.c.seq > table.c.seq).order_by(other.c.seq).limit(1)
    beside = union_all(previous.correlate(table), following.correlate(table)).lateral("beside")
    return (
        select(
            table.c.message_id,
            beside.c.message_id.label("other"),
            beside.c.session_id,
            beside.c.question_share,
            beside.c.before,
        )
        .select_from(table.join(beside, true()))
        .where(_among(tables, user_id, ids), known(table, view))
    )


def by_ids(tables: Tables, user_id: str, ids: Sequence[uuid.UUID], view: View) -> Query:
    """The messages as rows."""
    table = tables.conversations.table
    return select(table).where(_among(tables, user_id, ids), known(table, view))


def by_external_ids(tables: Tables, user_id: str, names: Sequence[tuple[str, str]]) -> Query:
    """The current messages of these (session id, external id)."""
    table = tables.conversations.table
    return _named(tables, user_id, names, select(table)).where(known_now(table))


def left(tables: Tables, user_id: str, names: Sequence[tuple[str, str]]) -> Query:
    """(session_id, external_id, left): when messages that were known once were known last."""
    table = tables.conversations.table
    last = select(table.c.session_id, table.c.external_id, func.max(table.c.known_to).label("left"))
    statement = _named(tables, user_id, names, last).where(~known_now(table))
    return statement.group_by(table.c.session_id, table.c.external_id)


def _named(tables: Tables, user_id: str, names: Sequence[tuple[str, str]], statement: Query) -> Query:
    table = tables.conversations.table
    sessions, external_ids = zip(*names, strict=True)
    wanted = unnest({table.c.session_id: sessions, table.c.external_id: external_ids}, "wanted")
    same = and_(table.c.session_id == wanted.c.session_id, table.c.external_id == wanted.c.external_id)
    return statement.select_from(wanted.join(table, same)).where(table.c.user_id == user_id)


def in_session(
    tables: Tables, user_id: str, session_id: str, view: View, *, after: int | None = None, limit: int | None = None
) -> Query:
    """A session's messages in order."""
    table = tables.conversations.table
    statement = select(table).where(table.c.user_id == user_id, table.c.session_id == session_id, known(table, view))
    if after is not None:
        statement = statement.where(table.c.seq > after)
    return statement.order_by(table.c.seq).limit(limit)


def unextracted(tables: Tables, user_id: str, session_id: str | None, limit: int) -> Query:
    """Current messages nothing was extracted from yet, oldest first."""
    table = tables.conversations.table
    statement = select(table).where(table.c.user_id == user_id, known_now(table), ~table.c.extracted)
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


def _among(tables: Tables, user_id: str, ids: Sequence[uuid.UUID]) -> ColumnElement[bool]:
    table = tables.conversations.table
    return and_(table.c.user_id == user_id, table.c.message_id == any_(_ids(ids)))
