"""`nm.conversations`."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from neuromem.facades.context import Context
from neuromem.services.conversations import ConversationService
from neuromem.types import DEFAULT_ORIGIN, DEFAULT_SESSION, Message, Metadata, NewMessage
from neuromem.types import Session as SessionInfo


class ConversationsReader:
    """Reads conversations."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get_session_messages(
        self, user_id: str, session_id: str = DEFAULT_SESSION, *, limit: int | None = None, after: int | None = None
    ) -> list[Message]:
        """A session's messages in order: all, or at most `limit` of those after `seq` = `after`."""
        async with self._context.source.read() as session:
            return await ConversationService(session).get_session_messages(
                user_id, session_id, self._context.view(), limit=limit, after=after
            )

    async def list_sessions(self, user_id: str) -> list[SessionInfo]:
        """The user's sessions, the last active first."""
        async with self._context.source.read() as session:
            return await ConversationService(session).list_sessions(user_id, self._context.view())


class ConversationsFacade(ConversationsReader):
    """Conversations: messages in sessions, stored at once, embedded and extracted in the background."""

    async def ingest(
        self,
        user_id: str,
        role: str,
        content: str,
        *,
        session_id: str | None = None,
        metadata: Metadata | None = None,
        timestamp: datetime | None = None,
        external_id: str | None = None,
        speaker: str | None = None,
        origin: str = DEFAULT_ORIGIN,
    ) -> Message:
        """Stores one message; see `NeuroMemory.ingest`."""
        message = NewMessage(role, content, timestamp, external_id, speaker, metadata)
        stored = await self.add_messages_batch(user_id, [message], session_id=session_id, origin=origin)
        return stored[0]

    async def add_messages_batch(
        self,
        user_id: str,
        messages: Sequence[NewMessage],
        *,
        session_id: str | None = None,
        origin: str = DEFAULT_ORIGIN,
    ) -> list[Message]:
        """Stores messages in order, all or none; those whose `external_id` is known come back as stored."""
        async with self._context.write() as session:
            return await ConversationService(session).add_messages(
                user_id,
                DEFAULT_SESSION if session_id is None else session_id,
                messages,
                origin=origin,
                extraction=self._context.extraction,
            )

    async def add_conversations(
        self, user_id: str, conversations: Mapping[str, Sequence[NewMessage]], *, origin: str = DEFAULT_ORIGIN
    ) -> dict[str, list[Message]]:
        """Stores messages of several sessions (session id to messages), all or none; see `add_messages_batch`."""
        async with self._context.write() as session:
            return await ConversationService(session).add_conversations(
                user_id, conversations, origin=origin, extraction=self._context.extraction
            )

    async def close_session(self, user_id: str, session_id: str) -> None:
        """Marks a session as ended, and lets what waits be extracted; raises NotFoundError when there is none."""
        policy = self._context.extraction
        async with self._context.write() as session:
            await ConversationService(session).close_session(
                user_id, session_id, extract=policy is not None and policy.on_close
            )

    async def get_unextracted_messages(
        self, user_id: str, *, session_id: str | None = None, limit: int = 100
    ) -> list[Message]:
        """Messages that were not extracted, oldest first: those that wait, and those that could not be
        (`extraction_status` tells which these are)."""
        async with self._context.source.read() as session:
            return await ConversationService(session).get_unextracted_messages(
                user_id, session_id=session_id, limit=limit
            )
