"""OmniMemClient: every call of omnimem, inside a scope."""

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from typing import Any, Self, cast

from memground.clock import Clock, SystemClock
from memground.embedding import EmbeddingProvider
from memground.errors import InvalidInputError
from memground.text import show
from memground.view import View
from omnimem.client.context import Connection, Rooms
from omnimem.client.maintenance import Maintenance
from omnimem.models import (
    EVERYTHING,
    Content,
    Filters,
    IndexHint,
    Memory,
    NewMemory,
    Page,
    Scope,
    SearchQuery,
    SearchResult,
    SourceReference,
    read_filters,
    read_scope,
)
from omnimem.models.base import instance, items, optional_moment, whole
from omnimem.models.filter import MAX_LIMIT, Mode
from omnimem.models.index import NO_HINT
from omnimem.models.memory import MemoryType
from omnimem.operations.loading import Loader, numbered, parted
from omnimem.operations.manager import checked_changes
from omnimem.storage.base import BuildProgress, Selection
from omnimem.storage.factory import Settings

type Records = list[Memory]
"""A list of memories or records; the client's own `list` is a call."""

UNCHANGED: Any = object()
"""Default of `update`: leave the field as it is (None would mean: clear it)."""


class OmniMemClient(Maintenance):
    """Versioned, scoped, searchable memories.

    ::

        async with OmniMemClient.connect() as client:
            anna = client.within(Scope(tenant_id="acme", user_id="anna"))
            memory = await anna.create("Prefers the window seat.")
            found = await anna.search("where does she like to sit?")

    A client that is bound `within` a scope sees and touches nothing outside it, by any call. The unbound one is for
    administrators. One connection belongs to one event loop.
    """

    def __init__(self, connection: Connection, scope: Scope = EVERYTHING) -> None:
        self._connection = connection
        self._scope = scope
        self._opened = AsyncExitStack()

    @classmethod
    def connect(
        cls,
        url_or_settings: str | Settings | None = None,
        *,
        embedding: EmbeddingProvider | None = None,
        background: bool = True,
        clock: Clock | None = None,
    ) -> Self:
        """A client, to be opened by `async with` or `await`.

        `url_or_settings`: a PostgreSQL URL, None for an embedded PostgreSQL in your home folder, or Settings.
        `embedding`: default the local MiniLM (English; install it once with `neuromem model install`).
        `background`: whether this program applies waiting changes (`sync="async"`). `clock`: tells the time.
        """
        settings = url_or_settings if isinstance(url_or_settings, Settings) else Settings(database_url=url_or_settings)
        instance(embedding, "embedding", EmbeddingProvider | None, "an EmbeddingProvider")
        instance(background, "background", bool, "True or False")
        instance(clock, "clock", Clock | None, "a Clock")
        return cls(Connection(settings, embedding, clock or SystemClock(), background=background))

    def within(self, scope: Scope) -> "OmniMemClient":
        """A client that cannot see or touch anything outside the scope, by any call, including by id.

        It shares this one's connection; closing is this one's matter.
        """
        return OmniMemClient(self._connection, self._inside(scope))

    @property
    def scope(self) -> Scope:
        """What this client is bound to; the empty scope for all."""
        return self._scope

    async def open(self) -> None:
        """Connects, creating or upgrading the tables. Does nothing the second time.

        Raises ConfigurationError, ModelMissingError, ModelMismatchError, UnavailableError.
        """
        if not self._connection.is_open:
            await self._opened.enter_async_context(self._connection.opened())

    async def close(self) -> None:
        """Gives the connections back; changes that wait stay recorded."""
        await self._opened.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    # ---------------------------------------------------------------- writing

    async def create(
        self,
        content: str | Content,
        *,
        scope: Scope | None = None,
        metadata: Mapping[str, Any] | None = None,
        type: str = MemoryType.GENERAL,
        sources: Sequence[SourceReference] = (),
        index_hint: IndexHint = NO_HINT,
        event_time: datetime | None = None,
        valid_time_from: datetime | None = None,
        valid_time_to: datetime | None = None,
    ) -> Memory:
        """Stores a memory in the scope: this client's, narrowed by `scope`."""
        new = NewMemory(
            content=content,
            scope=self._inside(scope),
            metadata={} if metadata is None else metadata,
            type=type,
            sources=sources,
            index_hint=index_hint,
            event_time=event_time,
            valid_time_from=valid_time_from,
            valid_time_to=valid_time_to,
        )
        created = await self._rooms.manager.create([new])
        self._rooms.wake()
        return created[0]

    async def create_many(
        self, memories: Sequence[NewMemory | Content | str], *, scope: Scope | None = None
    ) -> Records:
        """Stores up to 10,000 memories, all or none, in the order given."""
        inside = self._inside(scope)
        given = items(memories, "memories", "NewMemory, Content or str")
        created = await self._rooms.manager.create(
            [_new_memory(memory, position, inside) for position, memory in enumerate(given)]
        )
        self._rooms.wake()
        return [*created]

    async def load(
        self,
        memories: Iterable[NewMemory | Content | str] | AsyncIterable[NewMemory | Content | str],
        *,
        scope: Scope | None = None,
        progress: BuildProgress | None = None,
    ) -> int:
        """Stores any number of memories, quicker than `create_many` part by part; returns how many.

        They are stored in parts of 500, each whole or not at all, and found when the call returns, whatever `sync`
        says. On an error the parts before it stay; `progress` was told how many memories that are.

        Where at most 20,000 memories were there before, what makes searches quick is made at the end: meanwhile they
        are right, but slower the more there is. (Killed before that, `repair` makes it, or the next load.) Where more
        were there it is kept up, as by `create_many`, and nobody waits for the load. `progress`: called with a step,
        how much of it is done, and of how much.
        """
        inside, rooms = self._inside(scope), self._rooms
        loader, given = Loader(rooms.storage, progress), numbered(memories, "memories")

        async def new() -> AsyncGenerator[NewMemory]:
            async for position, memory in given:
                yield _new_memory(memory, position, inside)

        async with loader.indexes_built_after():
            return await loader.run(parted(new()), rooms.loading.create)

    async def update(
        self,
        memory_id: str,
        *,
        content: str | Content = UNCHANGED,
        metadata: Mapping[str, Any] = UNCHANGED,
        type: str = UNCHANGED,
        sources: Sequence[SourceReference] = UNCHANGED,
        index_hint: IndexHint = UNCHANGED,
        event_time: datetime | None = UNCHANGED,
        valid_time_from: datetime | None = UNCHANGED,
        valid_time_to: datetime | None = UNCHANGED,
        scope: Scope | None = None,
        expected_version: int | None = None,
    ) -> Memory:
        """Appends a record in which what is given replaces what was there as a whole; it becomes the latest.

        `expected_version`: only if the latest is of this version, else ConflictError. Raises NotFoundError.
        """
        given = {
            "content": content,
            "metadata": metadata,
            "type": type,
            "sources": sources,
            "index_hint": index_hint,
            "event_time": event_time,
            "valid_time_from": valid_time_from,
            "valid_time_to": valid_time_to,
        }
        changes = {key: value for key, value in given.items() if value is not UNCHANGED}
        if not changes:
            raise InvalidInputError(f"update of nothing; give at least one of {', '.join(given)}")
        memory = await self._rooms.manager.update(
            memory_id, self._inside(scope), checked_changes(changes), expected_version=expected_version
        )
        self._rooms.wake()
        return memory

    async def delete(self, memory_id: str, *, scope: Scope | None = None) -> int:
        """Removes a memory with all its records, for good; returns how many. Raises NotFoundError.

        Asked about earlier moments, it is absent as well.
        """
        count = await self._rooms.manager.delete(memory_id, self._inside(scope))
        self._rooms.wake()
        return count

    async def revert(self, memory_id: str, record_id: str, *, scope: Scope | None = None) -> Memory:
        """Appends a record with content, metadata, type and hint of an earlier record. Raises NotFoundError."""
        memory = await self._rooms.travel.revert(memory_id, record_id, self._inside(scope))
        self._rooms.wake()
        return memory

    # ---------------------------------------------------------------- reading

    async def get(self, memory_id: str, *, scope: Scope | None = None, version: int | None = None) -> Memory | None:
        """The latest record of a memory, or that of a version; None where there is none here."""
        return await self._rooms.manager.get(memory_id, self._inside(scope), version=version)

    async def history(
        self, memory_id: str, *, limit: int = 20, cursor: str | None = None, scope: Scope | None = None
    ) -> Page[Memory]:
        """The records of a memory, newest first."""
        whole(limit, "limit", 1, MAX_LIMIT)
        return await self._rooms.travel.history(memory_id, self._inside(scope), limit=limit, cursor=cursor)

    async def at_time(self, memory_id: str, t: datetime, *, scope: Scope | None = None) -> Memory | None:
        """The record that was the latest at a moment; None where there was none."""
        return await self._rooms.travel.at_time(memory_id, t, self._inside(scope))

    async def list(
        self,
        *,
        scope: Scope | None = None,
        filters: Filters = None,
        limit: int = 50,
        cursor: str | None = None,
        as_of: datetime | None = None,
    ) -> Page[Memory]:
        """Memories, latest change first. The pages of a cursor are of the moment the first one was read."""
        whole(limit, "limit", 1, MAX_LIMIT)
        selection = self._selection(scope, filters, as_of)
        listing = [selection.scope.to_dict(), SearchQuery(filters=filters, as_of=as_of).to_dict()]
        return await self._rooms.manager.list(selection, limit=limit, cursor=cursor, listing=listing)

    async def count(self, *, scope: Scope | None = None, filters: Filters = None, as_of: datetime | None = None) -> int:
        """How many memories there are, or were."""
        return await self._rooms.manager.count(self._selection(scope, filters, as_of))

    async def search(
        self,
        query: str | SearchQuery | None,
        *,
        scope: Scope | None = None,
        filters: Filters = None,
        mode: Mode = "hybrid",
        limit: int = 10,
        as_of: datetime | None = None,
        weights: Mapping[str, float] | None = None,
        explain: bool = False,
        cursor: str | None = None,
        query_embedding: Sequence[float] | None = None,
        strict: bool = False,
    ) -> SearchResult:
        """The best memories by meaning and by word; without a query what passes the filters, latest change first.

        `as_of`: what would have been found then. `query_embedding`: the query's vector, where you have it. A
        SearchQuery stands for all other arguments but `scope`. `cursor` of a result gets its next part. `strict`: an
        index that cannot be reached is an UnavailableError, instead of a warning beside what the other one found.
        """
        if not isinstance(query, SearchQuery):
            if query is not None and not isinstance(query, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidInputError(f"query must be a str, a SearchQuery or None, got {show(query)}")
            query = SearchQuery(
                text=query,
                mode=mode,
                filters=filters,
                limit=limit,
                as_of=as_of,
                weights=weights or {},
                explain=explain,
                cursor=cursor,
                strict=strict,
            )
        return await self._rooms.engine.search(query, self._inside(scope), query_embedding=query_embedding)

    # ---------------------------------------------------------------- the architecture document's names

    async def get_memory_history(self, memory_id: str, limit: int = 20) -> Records:
        """`history` as a list."""
        return [*await self.history(memory_id, limit=limit)]

    async def get_memory_at_time(self, memory_id: str, target_time: datetime) -> Memory | None:
        """`at_time` by another name."""
        return await self.at_time(memory_id, target_time)

    async def revert_to_record(self, memory_id: str, target_record_id: str) -> Memory:
        """`revert` by another name."""
        return await self.revert(memory_id, target_record_id)

    async def update_memory(self, memory_id: str, new_content: str | Content) -> Memory:
        """`update` of the content."""
        return await self.update(memory_id, content=new_content)

    # ---------------------------------------------------------------- inside

    @property
    def _rooms(self) -> Rooms:
        return self._connection.rooms

    def _inside(self, scope: Scope | None) -> Scope:
        return self._scope.narrowed(read_scope(scope))

    def _selection(self, scope: Scope | None, filters: Filters, as_of: datetime | None) -> Selection:
        moment = optional_moment(as_of, "as_of")
        known_at = View.of(self._connection.clock, moment).known_at
        return Selection(self._inside(scope), read_filters(filters), known_at)


def _new_memory(given: object, position: int, inside: Scope) -> NewMemory:
    """A memory as callers may give it, in a scope. Raises InvalidInputError."""
    instance(given, f"memories[{position}]", NewMemory | str | Content, "a NewMemory, Content or str")
    memory = given if isinstance(given, NewMemory) else NewMemory(cast("str | Content", given))
    return replace(memory, scope=inside.narrowed(memory.scope))
