"""The calls of a mind itself that write."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from neuromem import checks
from neuromem.facades.context import Context
from neuromem.facades.conversations import ConversationsFacade
from neuromem.facades.erasing import Erasing
from neuromem.facades.files import FilesFacade
from neuromem.facades.graph import GraphFacade
from neuromem.facades.kv import KVFacade
from neuromem.facades.reading import Reader
from neuromem.services.digesting import DigestJobs
from neuromem.services.extraction import MemoryExtractionService
from neuromem.services.given import extraction_of
from neuromem.services.history import HistoryService
from neuromem.services.memories import MemoryService, checked_sources
from neuromem.services.search import UNCHANGED, SearchService
from neuromem.types import (
    DEFAULT_ORIGIN,
    Episode,
    ExtractionResult,
    Fact,
    Memory,
    MemoryRef,
    MemoryType,
    Message,
    Metadata,
    NewMemory,
    Reversal,
    Source,
    Triple,
)


class Writer(Erasing, Reader):
    """Everything that reads and writes memories."""

    kv: KVFacade
    conversations: ConversationsFacade
    graph: GraphFacade
    files: FilesFacade

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.kv = KVFacade(context)  # pyright: ignore[reportIncompatibleVariableOverride]  # set once, never reassigned
        self.conversations = ConversationsFacade(context)  # pyright: ignore[reportIncompatibleVariableOverride]
        self.graph = GraphFacade(context)  # pyright: ignore[reportIncompatibleVariableOverride]
        self.files = FilesFacade(context)  # pyright: ignore[reportIncompatibleVariableOverride]

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
        async with self._context.write() as session:
            service = SearchService(session, self._context.embedding, self._context.ranking)
            added = await service.add(user_id, new, origin=origin, stored=stored)
            if (policy := self._context.digest) is not None:
                await DigestJobs(session).gather(user_id, len(added), policy)
            return added

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
        async with self._context.write() as session:
            service = MemoryExtractionService(
                session,
                self._context.embedding,
                rules=self._context.hygiene,
                graph_enabled=self._context.graph_enabled,
            )
            done = await service.apply(user_id, given, sources=named, origin=origin)
            if (policy := self._context.digest) is not None:
                await DigestJobs(session).gather(user_id, done.news, policy)
            return done

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
        async with self._context.write() as session:
            service = SearchService(session, self._context.embedding, self._context.ranking)
            updated = await service.update(user_id, memory_id, changes, known_at=known_at, origin=origin)
            if (policy := self._context.digest) is not None:
                await DigestJobs(session).gather(user_id, 1, policy)
            return updated

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
