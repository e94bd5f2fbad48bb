"""Storing what readers give, in batches that are whole or not there."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from memground.clock import SystemClock
from neuromem._core import NeuroMemory
from neuromem.errors import ConflictError, InvalidInputError
from neuromem.importers.items import Fact, Item, Remark, Turn
from neuromem.types import Memory, NewMemory, NewMessage, Value

BATCH = 500
"""Messages stored in one transaction."""
_MEMORIES = 64
"""Memories stored at once; they are embedded on the way."""
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Tally(Value):
    """How often something was left out or changed, and where first."""

    count: int
    first: str


@dataclass(slots=True)
class Report(Value):
    """What an import found and did.

    `there`: messages and memories that were stored before. `changed`: memories a newer export tells differently.
    `left_out`, `altered`: by reason. `first`, `last`: the earliest and the latest time of what was read. `title`: the
    last conversation's. `broken`: why the files could not be read to their end; what stands before is stored.
    """

    conversations: int = 0
    messages: int = 0
    memories: int = 0
    there: int = 0
    changed: int = 0
    left_out: dict[str, Tally] = field(default_factory=dict[str, Tally])
    altered: dict[str, Tally] = field(default_factory=dict[str, Tally])
    first: datetime | None = None
    last: datetime | None = None
    title: str | None = None
    broken: str | None = None
    seconds: float = 0.0

    @property
    def read(self) -> int:
        """Messages and memories read so far, new or not."""
        return self.messages + self.memories + self.there + self.changed

    def note(self, remark: Remark) -> None:
        tallies = self.left_out if remark.lost else self.altered
        known = tallies.get(remark.reason, Tally(0, remark.place))
        tallies[remark.reason] = Tally(known.count + 1, known.first)

    def see(self, message: NewMessage) -> None:
        self.at(message.timestamp)
        self.title = (message.metadata or {}).get("title", self.title)

    def at(self, moment: datetime | None) -> None:
        if moment is not None:
            self.first = moment if self.first is None else min(self.first, moment)
            self.last = moment if self.last is None else max(self.last, moment)


async def load(
    nm: NeuroMemory,
    user_id: str,
    items: Iterable[Item],
    *,
    origin: str,
    session_prefix: str = "",
    progress: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Stores items for a user, in order; those that are there already are counted and left as they are.

    A batch is one transaction: killed at any moment and started again with the same items, the import ends as if
    nothing had happened. `session_prefix` is put before every session's id. `progress` is told after every batch.
    """
    return await _Loader(nm, user_id, origin, session_prefix, progress).run(items)


async def survey(items: Iterable[Item], *, progress: Callable[[Report], None] = lambda _: None) -> Report:
    """What an import of these items would find; stores nothing. All count as new."""
    report, sessions, begun = Report(), set[str](), time.perf_counter()
    for item in _whole(items, report):
        match item:
            case Remark():
                report.note(item)
            case Turn():
                sessions.add(item.session_id)
                report.messages += 1
                report.see(item.message)
            case Fact():
                report.memories += 1
                report.at(item.memory.known_at)
        report.conversations, report.seconds = len(sessions), time.perf_counter() - begun
        if report.read % BATCH == 0:
            progress(report)
            await asyncio.sleep(0)  # Ctrl-C is heard here
    return report


def _whole(items: Iterable[Item], report: Report) -> Iterator[Item]:
    """The items up to where the files break; raises InvalidInputError when that is before the first."""
    begun = False
    try:
        for item in items:
            begun = True
            yield item
    except InvalidInputError as error:
        if not begun:
            raise
        report.broken = str(error)


class _Loader:
    def __init__(
        self, nm: NeuroMemory, user_id: str, origin: str, prefix: str, progress: Callable[[Report], None]
    ) -> None:
        self._nm = nm
        self._user = user_id
        self._origin = origin
        self._prefix = prefix
        self._progress = progress
        self._report = Report()
        self._sessions: set[str] = set()
        self._turns: dict[str, list[NewMessage]] = {}
        self._waiting = 0
        self._facts: list[NewMemory] = []
        self._now = SystemClock().now()

    async def run(self, items: Iterable[Item]) -> Report:
        begun = time.perf_counter()
        for item in _whole(items, self._report):
            match item:
                case Remark():
                    self._report.note(item)
                case Turn():
                    session_id = self._prefix + item.session_id
                    self._turns.setdefault(session_id, []).append(item.message)
                    self._waiting += 1
                case Fact():
                    self._facts.append(self._known_by_now(item.memory))
            if self._waiting >= BATCH:
                await self._store_turns()
            if len(self._facts) >= _MEMORIES:
                await self._store_facts()
            self._report.seconds = time.perf_counter() - begun
        await self._store_turns()
        await self._store_facts()
        self._report.seconds = time.perf_counter() - begun
        self._progress(self._report)
        return self._report

    async def _store_turns(self) -> None:
        turns, self._turns, self._waiting = self._turns, {}, 0
        if not turns:
            return
        self._sessions |= turns.keys()
        for messages in turns.values():
            for message in messages:
                self._report.see(message)
        new = await self._add(turns)
        self._report.messages += new
        self._report.there += sum(map(len, turns.values())) - new
        self._report.conversations = len(self._sessions)
        self._progress(self._report)

    async def _add(self, turns: dict[str, list[NewMessage]]) -> int:
        """Stores the turns of several sessions in one transaction; returns how many were new."""
        for attempt in range(_TRIES):
            try:
                before = SystemClock().now()
                stored = await self._nm.conversations.add_conversations(self._user, turns, origin=self._origin)
                return sum(message.recorded_at >= before for messages in stored.values() for message in messages)
            except ConflictError:
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError  # the last try returns or raises

    async def _store_facts(self) -> None:
        facts, self._facts = self._facts, []
        if not facts:
            return
        before = SystemClock().now()
        stored = await self._nm.add_memories(self._user, facts, origin=self._origin)
        for new, memory in zip(facts, stored, strict=True):
            self._report.at(new.known_at)
            if memory.recorded_at >= before:
                self._report.memories += 1
            elif await self._renewed(new, memory):
                self._report.changed += 1
            else:
                self._report.there += 1
        self._progress(self._report)

    async def _renewed(self, new: NewMemory, stored: Memory) -> bool:
        """Takes over what a newer export tells differently; what was changed here since then stays."""
        if new.known_at is None or new.known_at <= stored.known_from or new.content == stored.content:
            return False
        await self._nm.update_memory(
            self._user,
            stored.memory_id,
            content=new.content,
            metadata=new.metadata,
            valid_to=new.valid_to,
            known_at=new.known_at,
            origin=self._origin,
        )
        return True

    def _known_by_now(self, memory: NewMemory) -> NewMemory:
        """A memory cannot be known from a moment to come: a clock was ahead, so it is known from now."""
        if memory.known_at is not None and memory.known_at > self._now:
            return replace(memory, known_at=None)
        return memory
