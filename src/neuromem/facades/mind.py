"""The calls of a mind itself. `Reader` holds those that read, `Writer` those that write."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from memground.filters import parse
from neuromem import checks
from neuromem.facades.context import Context, Where
from neuromem.facades.conversations import ConversationsFacade, ConversationsReader
from neuromem.facades.graph import GraphFacade, GraphReader
from neuromem.facades.kv import KVFacade, KVReader
from neuromem.queries.scope import Scope
from neuromem.ranking.calendar import Granularity
from neuromem.services.extraction import MemoryExtractionService
from neuromem.services.given import extraction_of
from neuromem.services.history import HistoryService
from neuromem.services.memories import MemoryService, checked_sources
from neuromem.services.recall import RecallQuestion, RecallService
from neuromem.services.search import UNCHANGED, SearchService
from neuromem.services.stats import StatsService
from neuromem.services.temporal import TemporalService
from neuromem.types import (
    DEFAULT_ORIGIN,
    Diff,
    Episode,
    ExtractionResult,
    Fact,
    Hit,
    Memory,
    MemoryRef,
    MemoryType,
    Message,
    Metadata,
    NewMemory,
    Page,
    Period,
    RecallResult,
    Reversal,
    Source,
    Stats,
    Triple,
)


class Reader:
    """Everything that reads memories. Reads never write."""

    kv: KVReader
    conversations: ConversationsReader
    graph: GraphReader

    def __init__(self, context: Context) -> None:
        self._context = context
        self.kv = KVReader(context)
        self.conversations = ConversationsReader(context)
        self.graph = GraphReader(context)

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
        timezone: str | None = None,
    ) -> RecallResult:
        """What is remembered about `query`: memories, turns, relations and the profile, in one ranking (`.merged`).

        `as_of`: answer as at that moment, with what was known then. `valid_at`: only memories true in the world then.
        `where`: a filter such as `F("metadata.topic") == "work"` over memories and messages; a field one of them lacks
        matches nothing there. `memory_types` restricts the memories. `query_embedding`: the query's vector, if you have
        it (no model call). `explain` adds why each hit stands where it does. What is of a time the query names ("last
        May", 三年前) ranks higher; `timezone`: by whose clocks (an IANA name; default: the mind's). Raises
        InvalidInputError.
        """
        question = RecallQuestion(
            user_id=user_id,
            query=query,
            view=self._context.view(as_of, valid_at),
            limit=checks.limit(limit),
            memory_types=_types(memory_types),
            where=parse(where),
            include_conversations=include_conversations,
            include_graph=self._context.graph_enabled,
            timezone=self._context.zone(timezone),
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
        timezone: str | None = None,
    ) -> list[Hit]:
        """The memories that fit `query` best by meaning and by word; the arguments are those of `recall`."""
        scope = Scope(user_id, self._context.view(as_of, valid_at), _types(memory_types), parse(where))
        ranking = self._context.ranking.reaching(checks.limit(limit))
        zone = self._context.zone(timezone)
        async with self._context.source.read() as session:
            service = SearchService(session, self._context.embedding, ranking)
            return await service.search(
                scope, query, limit=limit, query_embedding=query_embedding, explain=explain, timezone=zone
            )

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

    async def get_memories_by_time_range(
        self,
        user_id: str,
        start: datetime | None,
        end: datetime | None,
        *,
        memory_types: Sequence[str] | None = None,
        where: Where | None = None,
        limit: int = 100,
    ) -> list[Memory]:
        """The memories whose time (`event_at`) lies in [start, end), the earliest first; None is open.

        For those that were true during it, whenever they began, ask with `valid_at=`.
        """
        scope = Scope(user_id, self._context.view(), _types(memory_types), parse(where))
        async with self._context.source.read() as session:
            return await TemporalService(session).by_time_range(scope, start, end, limit=limit)

    async def get_recent_memories(
        self,
        user_id: str,
        *,
        days: int = 7,
        memory_types: Sequence[str] | None = None,
        where: Where | None = None,
        limit: int = 50,
    ) -> list[Memory]:
        """The memories of the last so many days (of 24 hours), the latest first; what lies ahead is not recent."""
        scope = Scope(user_id, self._context.view(), _types(memory_types), parse(where))
        async with self._context.source.read() as session:
            return await TemporalService(session).recent(scope, days=days, limit=limit)

    async def memory_timeline(
        self,
        user_id: str,
        *,
        granularity: Granularity = "month",
        start: datetime | None = None,
        end: datetime | None = None,
        memory_types: Sequence[str] | None = None,
        where: Where | None = None,
        timezone: str | None = None,
    ) -> list[Period]:
        """How many memories are of each day, week (from Monday), month or year, by `event_at`; those that have any.

        Days begin at midnight in `timezone` (an IANA name; default: the mind's). Counted is what lies in [start, end).
        """
        scope = Scope(user_id, self._context.view(), _types(memory_types), parse(where))
        zone = self._context.zone(timezone)
        async with self._context.source.read() as session:
            return await TemporalService(session).timeline(scope, granularity, zone, start=start, end=end)

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
    graph: GraphFacade

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.kv = KVFacade(context)  # pyright: ignore[reportIncompatibleVariableOverride]  # set once, never reassigned
        self.conversations = ConversationsFacade(context)  # pyright: ignore[reportIncompatibleVariableOverride]
        self.graph = GraphFacade(context)  # pyright: ignore[reportIncompatibleVariableOverride]

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

    async def apply_extraction(
        self,
        user_id: str,
        *,
        facts: Sequence[Fact | Mapping[str, Any]] = (),
        episodes: Sequence[Episode | Mapping[str, Any]] = (),
        triples: Sequence[Triple | Mapping[str, Any]] = (),
        profile_updates: Mapping[str, Any] = MappingProxyType({}),
        sources: Sequence[Source | MemoryRef] = (),
        origin: str = DEFAULT_ORIGIN,
    ) -> ExtractionResult:
        """Remembers what you extracted yourself, as if the language model had: all or none, nothing twice.

        Items are `Fact`, `Episode` and `Triple` values, or dicts of their fields. `profile_updates`: key to value, None
        ends one. `sources`: the messages (ids) all of it came from; it counts as known since the last of them was, and
        they as extracted. One embedding batch. Raises InvalidInputError, NotFoundError (a source), ProviderError.
        """
        checks.name(user_id, "user_id")
        named = list({source.id: source for source in checked_sources(sources)}.values())
        ids = tuple(source.id for source in named)
        given = extraction_of(facts, episodes, triples, profile_updates, ids)
        async with self._context.source.session() as session:
            service = MemoryExtractionService(
                session,
                self._context.embedding,
                rules=self._context.hygiene,
                graph_enabled=self._context.graph_enabled,
            )
            return await service.apply(user_id, given, sources=named, origin=origin)

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
