"""What users call. A facade opens a session, hands it to a service and asks nothing of the database itself.

`Reader` holds the calls that read, `Writer` those that write; `NeuroMemory` is both, `Transaction` is both inside one
transaction, `AsOf` only reads, at one moment.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from memground.clock import Clock, as_utc
from memground.embedding import EmbeddingProvider
from memground.filters import Filter, parse
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.queries.scope import Scope
from neuromem.ranking import RankingProfile
from neuromem.services.conversations import ConversationService
from neuromem.services.history import HistoryService
from neuromem.services.kv import Entries, KVService
from neuromem.services.memories import MemoryService
from neuromem.services.recall import RecallQuestion, RecallService
from neuromem.services.search import UNCHANGED, SearchService
from neuromem.services.stats import StatsService
from neuromem.types import (
    DEFAULT_ORIGIN,
    DEFAULT_SESSION,
    Diff,
    Hit,
    KeyValue,
    Memory,
    MemoryRef,
    MemoryType,
    Message,
    Metadata,
    NewMemory,
    NewMessage,
    Page,
    RecallResult,
    Reversal,
    Source,
    Stats,
)
from neuromem.types import Session as SessionInfo

type Where = Filter | Mapping[str, Any]


class SessionSource(Protocol):
    """Where facades get their sessions: the opened database, or one transaction they all share."""

    def session(self) -> AbstractAsyncContextManager[Session]: ...

    def read(self) -> AbstractAsyncContextManager[Session]: ...


@dataclass(frozen=True)
class Context:
    """What facades stand on.

    `as_of`: the moment every read is about (None: each call says). `announce` is told after a write that made
    background work.
    """

    source: SessionSource
    clock: Clock
    embedding: EmbeddingProvider
    ranking: RankingProfile
    announce: Callable[[], None]
    as_of: datetime | None = None

    def view(self, as_of: datetime | None = None, valid_at: datetime | None = None) -> View:
        asked = None if as_of is None else as_utc(as_of, "as_of")
        if self.as_of is not None:
            # A view of the past knows nothing later than itself.
            asked = self.as_of if asked is None else min(asked, self.as_of)
        return View.of(self.clock, asked, valid_at)

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Session]:
        """A session whose commit wakes the background worker."""
        async with self.source.session() as session:
            yield session
        self.announce()


class KVReader:
    """Reads key-values. `scope_id` is the user's id for all user data; the profile is namespace "profile"."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, namespace: str, scope_id: str, key: str, default: Any = None) -> Any:
        """The value under a key, or `default`."""
        async with self._context.source.read() as session:
            return await KVService(session).get(namespace, scope_id, key, self._context.view(), default)

    async def list(self, namespace: str, scope_id: str, *, prefix: str = "") -> Entries:
        """The entries of a namespace by key; with `prefix`, those whose key begins with it."""
        async with self._context.source.read() as session:
            return await KVService(session).list(namespace, scope_id, self._context.view(), prefix=prefix)

    async def history(self, namespace: str, scope_id: str, key: str) -> Entries:
        """All versions of an entry, newest first."""
        async with self._context.source.read() as session:
            return await KVService(session).history(namespace, scope_id, key, self._context.view())


class KVFacade(KVReader):
    """Key-values: any JSON under (namespace, scope_id, key), every change a version."""

    async def set(
        self, namespace: str, scope_id: str, key: str, value: Any, *, origin: str = DEFAULT_ORIGIN
    ) -> KeyValue:
        """Sets a value; an equal one changes nothing."""
        async with self._context.source.session() as session:
            return await KVService(session).set(namespace, scope_id, key, value, origin=origin)

    async def batch_set(
        self, namespace: str, scope_id: str, values: Mapping[str, Any], *, origin: str = DEFAULT_ORIGIN
    ) -> Entries:
        """Sets several values, all or none."""
        async with self._context.source.session() as session:
            return await KVService(session).batch_set(namespace, scope_id, values, origin=origin)

    async def delete(self, namespace: str, scope_id: str, key: str, *, origin: str = DEFAULT_ORIGIN) -> bool:
        """Ends an entry; earlier moments still see it. Whether there was one."""
        async with self._context.source.session() as session:
            return await KVService(session).delete(namespace, scope_id, key, origin=origin)


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
    """Conversations: messages in sessions, stored at once, embedded in the background."""

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
                user_id, DEFAULT_SESSION if session_id is None else session_id, messages, origin=origin
            )

    async def add_conversations(
        self, user_id: str, conversations: Mapping[str, Sequence[NewMessage]], *, origin: str = DEFAULT_ORIGIN
    ) -> dict[str, list[Message]]:
        """Stores messages of several sessions (session id to messages), all or none; see `add_messages_batch`."""
        async with self._context.write() as session:
            return await ConversationService(session).add_conversations(user_id, conversations, origin=origin)

    async def close_session(self, user_id: str, session_id: str) -> None:
        """Marks a session as ended; raises NotFoundError when there is none."""
        async with self._context.source.session() as session:
            await ConversationService(session).close_session(user_id, session_id)

    async def get_unextracted_messages(
        self, user_id: str, *, session_id: str | None = None, limit: int = 100
    ) -> list[Message]:
        """Messages from which nothing was extracted yet, oldest first."""
        async with self._context.source.read() as session:
            return await ConversationService(session).get_unextracted_messages(
                user_id, session_id=session_id, limit=limit
            )


class Reader:
    """Everything that reads memories. Reads never write."""

    kv: KVReader
    conversations: ConversationsReader

    def __init__(self, context: Context) -> None:
        self._context = context
        self.kv = KVReader(context)
        self.conversations = ConversationsReader(context)

    async def recall(
        self,
        user_id: str,
        query: str,
        *,
        limit: int = 20,
        as_of: datetime | None = None,
        valid_at: datetime | None = None,
        memory_types: Sequence[str] | None = None,
        where: Where | None = None,
        include_conversations: bool = True,
        query_embedding: Sequence[float] | None = None,
        explain: bool = False,
    ) -> RecallResult:
        """What is remembered about `query`: memories, conversation turns and the profile, in one ranking (`.merged`).

        `as_of`: answer as at that moment, with what was known then. `valid_at`: only memories true in the world then.
        `where`: a filter such as `F("metadata.topic") == "work"` over memories and messages; a field one of them lacks
        matches nothing there. `memory_types` restricts the memories. `query_embedding`: the query's vector, if you have
        it (no model call). `explain` adds why each hit stands where it does. Raises InvalidInputError.
        """
        question = RecallQuestion(
            user_id=user_id,
            query=query,
            view=self._context.view(as_of, valid_at),
            limit=checks.limit(limit),
            memory_types=_types(memory_types),
            where=parse(where),
            include_conversations=include_conversations,
        )
        async with self._context.source.read() as session:
            service = RecallService(session, self._context.embedding, self._context.ranking.reaching(question.limit))
            return await service.recall(question, query_embedding=query_embedding, explain=explain)

    async def search(
        self,
        user_id: str,
        query: str,
        *,
        limit: int = 10,
        where: Where | None = None,
        memory_types: Sequence[str] | None = None,
        as_of: datetime | None = None,
        valid_at: datetime | None = None,
        query_embedding: Sequence[float] | None = None,
        explain: bool = False,
    ) -> list[Hit]:
        """The memories that fit `query` best by meaning and by word; the arguments are those of `recall`."""
        scope = Scope(user_id, self._context.view(as_of, valid_at), _types(memory_types), parse(where))
        ranking = self._context.ranking.reaching(checks.limit(limit))
        async with self._context.source.read() as session:
            service = SearchService(session, self._context.embedding, ranking)
            return await service.search(scope, query, limit=limit, query_embedding=query_embedding, explain=explain)

    async def get_memory(self, user_id: str, memory_id: MemoryRef) -> Memory | None:
        """One memory, or None when the user has none by this id (now, or at the moment of the view)."""
        async with self._context.source.read() as session:
            return await MemoryService(session).get(user_id, memory_id, self._context.view())

    async def find_memory_id(self, user_id: str, prefix: str) -> str:
        """The whole id of the memory, current or not, whose id begins with `prefix` (four characters or more).

        Raises NotFoundError where none does, InvalidInputError where several do.
        """
        async with self._context.source.read() as session:
            return await MemoryService(session).find_id(user_id, prefix, self._context.view())

    async def list_memories(
        self,
        user_id: str,
        *,
        cursor: str | None = None,
        limit: int = 50,
        where: Where | None = None,
        memory_types: Sequence[str] | None = None,
    ) -> Page[Memory]:
        """A page of the user's memories, the last written first; `.cursor` leads to the next."""
        scope = Scope(user_id, self._context.view(), _types(memory_types), parse(where))
        async with self._context.source.read() as session:
            return await MemoryService(session).list(scope, cursor=cursor, limit=limit)

    async def history(self, user_id: str, memory_id: MemoryRef) -> list[Memory]:
        """All versions of a memory, newest first; raises NotFoundError."""
        async with self._context.source.read() as session:
            return await MemoryService(session).history(user_id, memory_id, self._context.view())

    async def diff(self, user_id: str, t1: datetime, t2: datetime) -> Diff:
        """What was learned, changed and forgotten about the user from `t1` to `t2`."""
        async with self._context.source.read() as session:
            return await HistoryService(session).diff(user_id, t1, t2, self._context.view())

    async def stats(self, user_id: str) -> Stats:
        """How much is known about the user: counts, first and last time, background work."""
        async with self._context.source.read() as session:
            return await StatsService(session).stats(user_id, self._context.view())


class AsOf(Reader):
    """All reads, at one moment of the past. Made by `nm.as_of(t)`."""


class Writer(Reader):
    """Everything that reads and writes memories."""

    kv: KVFacade
    conversations: ConversationsFacade

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.kv = KVFacade(context)  # pyright: ignore[reportIncompatibleVariableOverride]  # set once, never reassigned
        self.conversations = ConversationsFacade(context)  # pyright: ignore[reportIncompatibleVariableOverride]

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
        """Stores a message of a conversation and returns it; its vector follows in the background, durably.

        `timestamp`: when it was said (default: now); the message counts as known since then, so that an imported year
        can be travelled. `external_id`: your id for it; ingesting a known one returns what is stored. `session_id`:
        default "default". `role` is free ("user", "assistant", …), `speaker` a name where that says more.
        """
        return await self.conversations.ingest(
            user_id,
            role,
            content,
            session_id=session_id,
            metadata=metadata,
            timestamp=timestamp,
            external_id=external_id,
            speaker=speaker,
            origin=origin,
        )

    async def add_memory(
        self,
        user_id: str,
        content: str,
        *,
        memory_type: str = MemoryType.GENERAL,
        metadata: Metadata | None = None,
        importance: int | None = None,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        known_at: datetime | None = None,
        origin: str = DEFAULT_ORIGIN,
        sources: Sequence[Source | MemoryRef] = (),
    ) -> Memory:
        """Remembers one thing (one embedding call) and returns it.

        `importance`: 1–10 (default 5). `valid_from`, `valid_to`: when it is true in the world, [from, to). `known_at`:
        since when it was known, for imports (default: now). `sources`: messages (ids) or files it came from. `origin`:
        who writes, for `undo`. Raises InvalidInputError, NotFoundError (a source), ProviderError.
        """
        new = NewMemory(content, memory_type, metadata, importance, valid_from, valid_to, known_at, sources)
        stored = await self.add_memories(user_id, [new], origin=origin)
        return stored[0]

    async def add_memories(
        self, user_id: str, memories: Sequence[str | NewMemory], *, origin: str = DEFAULT_ORIGIN
    ) -> list[Memory]:
        """Remembers several things with one embedding batch, all or none; known external ids come back as stored."""
        given = checks.items(memories, "memories", "str or NewMemory (for one there is add_memory)")
        new = [NewMemory(memory) if isinstance(memory, str) else memory for memory in given]
        names = [memory.external_id for memory in new if isinstance(memory, NewMemory) and memory.external_id]  # pyright: ignore[reportUnnecessaryIsInstance]  # `add` refuses the rest
        stored: set[UUID] = set()
        if names:
            async with self._context.source.read() as session:
                stored = await SearchService(session, self._context.embedding).stored(user_id, names)
        async with self._context.source.session() as session:
            service = SearchService(session, self._context.embedding, self._context.ranking)
            return await service.add(user_id, new, origin=origin, stored=stored)

    async def update_memory(
        self,
        user_id: str,
        memory_id: MemoryRef,
        *,
        content: str = UNCHANGED,
        memory_type: str = UNCHANGED,
        metadata: Metadata | None = UNCHANGED,
        importance: int = UNCHANGED,
        valid_from: datetime | None = UNCHANGED,
        valid_to: datetime | None = UNCHANGED,
        known_at: datetime | None = None,
        origin: str = DEFAULT_ORIGIN,
    ) -> Memory:
        """Appends a version with the given fields changed; what is not given stays. Equal content makes no version.

        A correction needs only this. When the world changed, end the old fact (`valid_to=`) and add the new one.
        Raises NotFoundError, InvalidInputError.
        """
        changes = {
            "content": content,
            "memory_type": memory_type,
            "metadata": metadata,
            "importance": importance,
            "valid_from": valid_from,
            "valid_to": valid_to,
        }
        async with self._context.source.session() as session:
            service = SearchService(session, self._context.embedding, self._context.ranking)
            return await service.update(user_id, memory_id, changes, known_at=known_at, origin=origin)

    async def delete_memory(self, user_id: str, memory_id: MemoryRef, *, origin: str = DEFAULT_ORIGIN) -> None:
        """Forgets a memory from now on; earlier moments still see it, `revert` restores it. Raises NotFoundError."""
        async with self._context.source.session() as session:
            await MemoryService(session).delete(user_id, memory_id, origin=origin)

    async def revert(self, user_id: str, memory_id: MemoryRef, version: int, *, origin: str = DEFAULT_ORIGIN) -> Memory:
        """Makes a memory equal to one of its versions again, by appending one. Raises NotFoundError."""
        async with self._context.source.session() as session:
            return await MemoryService(session).revert(user_id, memory_id, version, origin=origin)

    async def rollback(self, user_id: str, to_time: datetime) -> Reversal:
        """Makes everything known about a user what it was at `to_time`. Appends, so `undo` takes it back."""
        async with self._context.write() as session:
            return await HistoryService(session).rollback(user_id, to_time)

    async def undo(
        self, user_id: str, *, origin: str | None = None, recorded_since: datetime | None = None
    ) -> Reversal:
        """Takes back what one writer wrote (`origin=`), what was recorded since a time, or both together.

        What others changed on top stays. Appends, so it can itself be undone: `undo(user, origin=reversal.origin)`.
        """
        async with self._context.write() as session:
            return await HistoryService(session).undo(user_id, origin=origin, recorded_since=recorded_since)


class Transaction(Writer):
    """The same calls inside one transaction: all of them take effect, or none. Made by `nm.transaction()`."""


def _types(memory_types: Sequence[str] | None) -> Sequence[str] | None:
    if memory_types is None:
        return None
    return [checks.name(item, "memory_types") for item in checks.items(memory_types, "memory_types", "names")]
