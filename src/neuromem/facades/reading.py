"""The calls of a mind itself that read."""

from collections.abc import Sequence
from datetime import datetime

from memground.filters import parse
from neuromem import checks
from neuromem.facades.context import Context, Where
from neuromem.facades.conversations import ConversationsReader
from neuromem.facades.entities import Profiling
from neuromem.facades.feeling import Feeling
from neuromem.facades.files import FilesReader
from neuromem.facades.graph import GraphReader
from neuromem.facades.kv import KVReader
from neuromem.queries.scope import Scope
from neuromem.ranking.calendar import Granularity
from neuromem.services.history import HistoryService
from neuromem.services.memories import MemoryService
from neuromem.services.recall import RecallQuestion, RecallService
from neuromem.services.search import SearchService
from neuromem.services.stats import StatsService
from neuromem.services.temporal import TemporalService
from neuromem.types import (
    Diff,
    Hit,
    Memory,
    MemoryRef,
    Page,
    Period,
    RecallResult,
    Stats,
)


class Reader(Feeling, Profiling):
    """Everything that reads memories. Reads never write."""

    kv: KVReader
    conversations: ConversationsReader
    graph: GraphReader
    files: FilesReader

    def __init__(self, context: Context) -> None:
        self._context = context
        self.kv = KVReader(context)
        self.conversations = ConversationsReader(context)
        self.graph = GraphReader(context)
        self.files = FilesReader(context)

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


def _types(memory_types: Sequence[str] | None) -> Sequence[str] | None:
    if memory_types is None:
        return None
    return [checks.name(item, "memory_types") for item in checks.items(memory_types, "memory_types", "names")]
