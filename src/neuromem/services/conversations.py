"""Messages and sessions."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import batched
from typing import Any

from sqlalchemy import func, update

from memground.clock import Stamp
from memground.errors import InvalidInputError, NotFoundError
from memground.postgres.bulk import driver_lists, lists
from memground.postgres.engine import Row
from memground.postgres.versioned import new_row
from memground.text import check_text, question_share, show
from memground.view import KNOWN_SINCE, View
from memground.words import keys, words
from neuromem import checks
from neuromem.db import Session
from neuromem.extraction.policy import ExtractionPolicy
from neuromem.queries import messages as queries
from neuromem.services import rows
from neuromem.services.extraction_jobs import ExtractionJobs
from neuromem.types import DEFAULT_ORIGIN, Message, NewMessage
from neuromem.types import Session as SessionInfo

_ROWS_AT_ONCE = 1_000

type _Name = tuple[str, str]
"""Session id and external id."""


class ConversationService:
    """Stores messages with the jobs they need, and reads them back."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.tables

    async def add_messages(
        self,
        user_id: str,
        session_id: str,
        messages: Sequence[NewMessage],
        *,
        origin: str = DEFAULT_ORIGIN,
        extraction: ExtractionPolicy | None = None,
    ) -> list[Message]:
        """Appends messages to a session, all or none, and records the jobs for their vectors and extraction.

        A message whose `external_id` the session already has is not stored again; the stored one is returned in its
        place.
        """
        checks.name(session_id, "session_id")
        conversations = {session_id: messages}
        stored = await self.add_conversations(user_id, conversations, origin=origin, extraction=extraction)
        return stored[session_id]

    async def add_conversations(
        self,
        user_id: str,
        conversations: Mapping[str, Sequence[NewMessage]],
        *,
        origin: str = DEFAULT_ORIGIN,
        extraction: ExtractionPolicy | None = None,
    ) -> dict[str, list[Message]]:
        """Appends messages to several sessions, all or none, in as many statements as for one.

        `extraction`: when they are extracted; None for never.
        """
        checks.name(user_id, "user_id")
        if not isinstance(conversations, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(
                f"conversations must be a dict of session id to messages, got {type(conversations).__name__}"
            )
        stamp = self._session.stamp(origin)
        for session_id in conversations:
            checks.name(session_id, "session_id")
        # By session id, so that two writers of the same sessions wait for instead of block each other.
        drafts = [
            _draft(user_id, message, stamp) | {"user_id": user_id, "session_id": session_id}
            for session_id, messages in sorted(conversations.items())
            for message in checks.items(messages, "messages", "NewMessage")
        ]
        if not drafts:
            return {session_id: [] for session_id in conversations}
        named = [_name(draft) for draft in drafts if draft["external_id"] is not None]
        # Most often one statement is all there is to do.
        whole = extraction is None and not (named or self._session.shared or len(drafts) > _ROWS_AT_ONCE)
        if not whole:
            await self._session.hold(user_id)
        known = await self._known(user_id, drafts, named, stamp) if named else {}
        fresh: list[dict[str, Any]] = []
        for draft in drafts:
            name = _name(draft)
            if draft["external_id"] is None or name not in known:
                fresh.append(draft)
                if draft["external_id"] is not None:
                    known[name] = draft
        if fresh:
            await self._store(user_id, fresh, stamp, whole=whole)
            if extraction is not None:
                said = Counter(draft["session_id"] for draft in fresh)
                await ExtractionJobs(self._session).gather(user_id, said, extraction)
        view = View(now=stamp.at)
        stored: dict[str, list[Message]] = {session_id: [] for session_id in conversations}
        for draft in drafts:
            row = draft if draft["external_id"] is None else known[_name(draft)]
            stored[draft["session_id"]].append(rows.message(row, view))
        return stored

    async def get_session_messages(
        self, user_id: str, session_id: str, view: View, *, limit: int | None = None, after: int | None = None
    ) -> list[Message]:
        """A session's messages in order; those after `seq` = `after`, at most `limit`."""
        checks.name(user_id, "user_id")
        checks.name(session_id, "session_id")
        bound = None if limit is None else checks.limit(limit)
        if after is not None:
            checks.whole(after, "after", 0, checks.MAX_PLACE)
        statement = queries.in_session(self._tables, user_id, session_id, view, after=after, limit=bound)
        return [rows.message(row, view) for row in (await self._session.execute(statement)).mappings()]

    async def list_sessions(self, user_id: str, view: View) -> list[SessionInfo]:
        """The user's sessions, the last active first."""
        statement = queries.sessions(self._tables, checks.name(user_id, "user_id"), view)
        return [
            SessionInfo(
                session_id=row.session_id,
                user_id=user_id,
                message_count=row.message_count,
                first_message_at=row.first_message_at,
                last_message_at=row.last_message_at,
                closed_at=view.mask(row.closed_at),
            )
            for row in await self._session.execute(statement)
        ]

    async def get_unextracted_messages(
        self, user_id: str, *, session_id: str | None = None, limit: int = 100
    ) -> list[Message]:
        """Messages that were not extracted, oldest first: those that wait, and those that could not be
        (`extraction_status` tells which these are)."""
        checks.name(user_id, "user_id")
        checks.optional_name(session_id, "session_id")
        statement = queries.unextracted(self._tables, user_id, session_id, checks.limit(limit))
        view = View(now=self._session.clock.now())
        return [rows.message(row, view) for row in (await self._session.execute(statement)).mappings()]

    async def close_session(self, user_id: str, session_id: str, *, extract: bool = False) -> None:
        """Marks a session as ended; raises NotFoundError when the user has none by this id.

        `extract`: what waits to be extracted is then due.
        """
        table = self._tables.conversation_sessions
        now = self._session.clock.now()
        result = await self._session.execute(
            update(table)
            .where(
                table.c.user_id == checks.name(user_id, "user_id"),
                table.c.session_id == checks.name(session_id, "session_id"),
            )
            .values(closed_at=func.coalesce(table.c.closed_at, now), updated_at=now)
            .returning(table.c.id)
        )
        if result.first() is None:
            raise NotFoundError(f"user {user_id!r} has no session {session_id!r}; list_sessions shows those there are")
        if extract:
            await ExtractionJobs(self._session).hurry(user_id, session_id)

    async def _known(
        self, user_id: str, drafts: Sequence[dict[str, Any]], named: Sequence[_Name], stamp: Stamp
    ) -> dict[_Name, Row]:
        """Locks the sessions and returns the stored messages by session and external id.

        A draft of what was known once and taken back is known from then on only, or a moment before would see it twice.
        """
        sessions = _sessions(user_id, drafts, stamp, count=False)
        table = self._tables.conversation_sessions
        await self._session.execute(queries.advance(self._tables), lists(table, queries.SESSION_COLUMNS, sessions))
        found = (await self._session.execute(queries.by_external_ids(self._tables), _wanted(user_id, named))).mappings()
        known: dict[_Name, Row] = {_name(row): row for row in found}
        if missing := [name for name in named if name not in known]:
            gone = await self._session.execute(queries.left(self._tables), _wanted(user_id, missing))
            left = {_name(row): row["left"] for row in gone.mappings()}
            for draft in drafts:
                draft["known_from"] = max(draft["known_from"], left.get(_name(draft), draft["known_from"]))
        return known

    async def _store(self, user_id: str, drafts: list[dict[str, Any]], stamp: Stamp, *, whole: bool) -> None:
        """Stores messages with the jobs for their vectors, and gives each its place in its session.

        `whole`: that is all of the transaction.
        """
        tables, columns = self._tables, (*drafts[0], "seq")
        for part in batched(drafts, _ROWS_AT_ONCE):
            left = Counter(draft["session_id"] for draft in part)
            for draft in part:
                left[draft["session_id"]] -= 1
                draft["seq"] = left[draft["session_id"]]
            sessions = _sessions(user_id, part, stamp)
            values = {
                "hold": self._session.key(user_id),
                **driver_lists(tables.conversation_sessions, queries.SESSION_COLUMNS, sessions, "given"),
                **driver_lists(tables.conversations.table, columns, part, "said"),
            }
            run = self._session.whole if whole else self._session.fetch
            stored = await run(queries.store(tables, columns), values)
            last = {row["session_id"]: row["message_count"] for row in stored}
            for draft in part:
                draft["seq"] = last[draft["session_id"]] - draft["seq"]


def _sessions(user_id: str, drafts: Sequence[dict[str, Any]], stamp: Stamp, *, count: bool = True) -> list[Row]:
    """The sessions of messages as rows, in the order they come; without `count` as if none were to be added."""
    said: dict[str, list[datetime]] = {}
    for draft in drafts:
        said.setdefault(draft["session_id"], []).append(draft["event_at"])
    return [
        {
            "id": uuid.uuid4(),
            "user_id": user_id,
            "session_id": session_id,
            "message_count": len(times) if count else 0,
            "last_message_at": max(times) if count else None,
            "created_at": stamp.at,
            "updated_at": stamp.at,
        }
        for session_id, times in said.items()
    ]


def _name(row: Row) -> _Name:
    return row["session_id"], row["external_id"]


def _wanted(user_id: str, names: Sequence[_Name]) -> dict[str, Any]:
    sessions, external_ids = zip(*names, strict=True)
    return {"user_id": user_id, "wanted_session_id": sessions, "wanted_external_id": external_ids}


def _draft(user_id: str, message: NewMessage, stamp: Stamp) -> dict[str, Any]:
    """The message as a row without its place. It was known when it was said, but never before now."""
    if not isinstance(message, NewMessage):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"a message must be a NewMessage, got {type(message).__name__} {show(message)}")
    said_at = checks.moment(message.timestamp, "timestamp") or stamp.at
    content = check_text(message.content, "content")
    speaker = checks.optional_name(message.speaker, "speaker")
    values = {
        "message_id": uuid.uuid4(),
        "role": checks.name(message.role, "role", limit=50),
        "speaker": speaker,
        "content": content,
        "extracted": False,  # as the row is written: what is said of it later is known by its links
        "metadata_": checks.metadata(message.metadata),
        "external_id": checks.optional_name(message.external_id, "external_id"),
        "event_at": said_at,
        "question_share": question_share(content),
        # A turn is found by who said it, too: "what did Anna say about …".
        "words": keys(user_id, words(content if speaker is None else f"{speaker} {content}")),
    }
    return new_row(stamp, values, known_from=max(min(said_at, stamp.at), KNOWN_SINCE))
