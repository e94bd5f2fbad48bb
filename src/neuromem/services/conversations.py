"""Messages and sessions."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import any_, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY, VARCHAR
from sqlalchemy.dialects.postgresql import insert as upsert

from memground.clock import Stamp
from memground.errors import InvalidInputError, NotFoundError
from memground.postgres.engine import Row
from memground.postgres.queue import JobQueue, NewJob
from memground.postgres.versioned import known_now, new_row
from memground.text import check_text, question_share, show
from memground.view import KNOWN_SINCE, View
from memground.words import keys, words
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import messages as queries
from neuromem.services import rows
from neuromem.types import DEFAULT_ORIGIN, Message, NewMessage
from neuromem.types import Session as SessionInfo

EMBED_MESSAGE = "embed_message"
"""Kind of the job that makes a message's vector."""

_ROWS_AT_ONCE = 1_000


class ConversationService:
    """Stores messages with the jobs they need, and reads them back."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.tables

    async def add_messages(
        self, user_id: str, session_id: str, messages: Sequence[NewMessage], *, origin: str = DEFAULT_ORIGIN
    ) -> list[Message]:
        """Appends messages to a session, all or none, and records the jobs for their vectors.

        A message whose `external_id` the session already has is not stored again; the stored one is returned in its
        place.
        """
        checks.name(user_id, "user_id")
        checks.name(session_id, "session_id")
        stamp = self._session.stamp(origin)
        drafts = [_draft(user_id, message, stamp) for message in checks.items(messages, "messages", "NewMessage")]
        if not drafts:
            return []
        named = [draft["external_id"] for draft in drafts if draft["external_id"] is not None]
        await self._session.hold(user_id)
        known: dict[str, Row] = {}
        left: dict[str, datetime] = {}
        if named:
            await self._advance(user_id, session_id, [], stamp)
            known = await self._by_external_id(user_id, session_id, named)
            left = await self._left(user_id, session_id, named)
        fresh: list[dict[str, Any]] = []
        for draft in drafts:
            external = draft["external_id"]
            if external is None or external not in known:
                fresh.append(draft)
                if external is not None:
                    known[external] = draft
                    # Taken back and here again: known from then on only, or a moment before would see it twice.
                    draft["known_from"] = max(draft["known_from"], left.get(external, draft["known_from"]))
        if fresh:
            last = await self._advance(user_id, session_id, fresh, stamp)
            for seq, draft in enumerate(fresh, start=last - len(fresh) + 1):
                draft |= {"user_id": user_id, "session_id": session_id, "seq": seq}
            await self._store(fresh)
        stored = (draft if draft["external_id"] is None else known[draft["external_id"]] for draft in drafts)
        view = View(now=stamp.at)
        return [rows.message(row, view) for row in stored]

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

    async def get_message(self, user_id: str, message_id: uuid.UUID, view: View) -> Message | None:
        statement = queries.by_id(self._tables, checks.name(user_id, "user_id"), message_id, view)
        row = (await self._session.execute(statement)).mappings().first()
        return None if row is None else rows.message(row, view)

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
        """Messages from which nothing was extracted yet, oldest first."""
        checks.name(user_id, "user_id")
        checks.optional_name(session_id, "session_id")
        statement = queries.unextracted(self._tables, user_id, session_id, checks.limit(limit))
        view = View(now=self._session.clock.now())
        return [rows.message(row, view) for row in (await self._session.execute(statement)).mappings()]

    async def close_session(self, user_id: str, session_id: str) -> None:
        """Marks a session as ended; raises NotFoundError when the user has none by this id."""
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

    async def _advance(self, user_id: str, session_id: str, drafts: list[dict[str, Any]], stamp: Stamp) -> int:
        """Locks the session (made if new), counts the messages in and returns the last message's place."""
        table = self._tables.conversation_sessions
        last = max((draft["event_at"] for draft in drafts), default=None)
        insertion = upsert(table).values(
            id=uuid.uuid4(),
            user_id=user_id,
            session_id=session_id,
            message_count=len(drafts),
            last_message_at=last,
            created_at=stamp.at,
            updated_at=stamp.at,
        )
        statement = insertion.on_conflict_do_update(
            index_elements=["user_id", "session_id"],
            set_={
                "message_count": table.c.message_count + insertion.excluded.message_count,
                "last_message_at": func.greatest(table.c.last_message_at, insertion.excluded.last_message_at),
                "updated_at": insertion.excluded.updated_at,
            },
        ).returning(table.c.message_count)
        return await self._session.scalar(statement)

    async def _by_external_id(self, user_id: str, session_id: str, external_ids: Sequence[str]) -> dict[str, Row]:
        table = self._tables.conversations.table
        statement = select(table).where(
            table.c.user_id == user_id,
            table.c.session_id == session_id,
            known_now(table),
            table.c.external_id == _any_of(external_ids),
        )
        return {row["external_id"]: row for row in (await self._session.execute(statement)).mappings()}

    async def _left(self, user_id: str, session_id: str, external_ids: Sequence[str]) -> dict[str, datetime]:
        """When messages that were known once were known last."""
        table = self._tables.conversations.table
        statement = (
            select(table.c.external_id, func.max(table.c.known_to).label("left"))
            .where(
                table.c.user_id == user_id,
                table.c.session_id == session_id,
                ~known_now(table),
                table.c.external_id == _any_of(external_ids),
            )
            .group_by(table.c.external_id)
        )
        return {row.external_id: row.left for row in await self._session.execute(statement)}

    async def _store(self, drafts: list[dict[str, Any]]) -> None:
        queue = JobQueue(self._tables.jobs)
        for start in range(0, len(drafts), _ROWS_AT_ONCE):
            part = drafts[start : start + _ROWS_AT_ONCE]
            await self._session.execute(insert(self._tables.conversations.table), part)
            await queue.enqueue(
                self._session, [NewJob(EMBED_MESSAGE, str(row["message_id"]), row["user_id"]) for row in part]
            )


def _any_of(external_ids: Sequence[str]) -> Any:
    return any_(bindparam("external_ids", list(external_ids), type_=ARRAY(VARCHAR)))


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
        "extracted": False,
        "metadata_": checks.metadata(message.metadata),
        "external_id": checks.optional_name(message.external_id, "external_id"),
        "event_at": said_at,
        "question_share": question_share(content),
        # A turn is found by who said it, too: "what did Anna say about …".
        "words": keys(user_id, words(content if speaker is None else f"{speaker} {content}")),
    }
    return new_row(stamp, values, known_from=max(min(said_at, stamp.at), KNOWN_SINCE))
