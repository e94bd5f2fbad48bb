"""The four roles a storage backend can play, and what it must say about itself.

==============  ==========================================================================
RecordStore     the truth: every record of every memory
VectorIndex     finds memories by meaning
KeywordIndex    finds memories by word
ChangeQueue     keeps changes of the truth until the indexes have them
==============  ==========================================================================

Stores of one `place` share a transaction (`Work`): one that a RecordStore opened is handed to the others. A store of
another place is given None and makes its own; then changes are kept in an `Outbox` beside the truth, and the indexes
converge towards it (`omnimem.pipeline`). `omnimem.testing.conformance` holds what every adapter must do.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from memground.errors import UnavailableError, UnsupportedError
from memground.jobs import QueueStatus
from omnimem.models import Memory, Scope
from omnimem.storage.values import (
    Candidate,
    Change,
    Claim,
    FailedChange,
    KeywordContent,
    KeywordEntry,
    Selection,
    StoredRecord,
    Vector,
    VectorContent,
    VectorEntry,
)

if TYPE_CHECKING:
    from omnimem.storage.successor import VectorSuccessor


@dataclass(frozen=True)
class Capabilities:
    """`place`: stores of one place share transactions. `filters`: it applies filters itself (else they are finished on
    truth). `as_of`: it answers about the past (else it raises UnsupportedError when asked). `retires`: an index that
    ends a record by itself when a newer one of its memory is applied (else it is given both)."""

    place: str
    filters: bool
    as_of: bool
    retires: bool = True


class Work:
    """A transaction of a place; what is in it is the backend's own matter."""


class StorageProtocol(ABC):
    """What every store has."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this store can do."""

    async def about(self) -> dict[str, str]:
        """What an operator asks first, such as the versions of the server and its parts."""
        return {}


# ---------------------------------------------------------------- truth


class RecordStore(StorageProtocol):
    """The truth. Records never change; which one is the latest does."""

    @abstractmethod
    def reading(self) -> AbstractAsyncContextManager[Work]:
        """A read-only transaction in which all statements see the same moment."""

    @abstractmethod
    async def write[T](self, body: Callable[[Work], Awaitable[T]]) -> T:
        """Runs `body` in a transaction that commits at its end, or rolls back on an error.

        It may run several times, where others were in the way: it decides by what it reads in the transaction.
        """

    @abstractmethod
    async def insert(self, work: Work, records: Sequence[StoredRecord], *, named: bool = False) -> None:
        """Stores records of new memories; of one memory in the order of their versions.

        `named`: the ids are the caller's. Raises ConflictError where one is taken, or was and its memory deleted.
        """

    @abstractmethod
    async def lock(self, work: Work, memory_id: str, scope: Scope) -> Memory | None:
        """The current record; nobody else changes the memory until the transaction ends."""

    @abstractmethod
    async def hold(self, work: Work, memory_ids: Iterable[str]) -> None:
        """Nobody else changes the memories until the transaction ends, whether they are there or not."""

    @abstractmethod
    async def supersede(self, work: Work, successor: Memory) -> None:
        """Stores the next record of a locked memory, which becomes the latest."""

    @abstractmethod
    async def remove(self, work: Work, memory_id: str, at: datetime) -> int:
        """Removes every record of a locked memory, leaves a tombstone; returns how many records there were."""

    @abstractmethod
    async def get(self, work: Work, memory_id: str, scope: Scope, *, version: int | None = None) -> Memory | None:
        """The latest record, or that of a version."""

    @abstractmethod
    async def record(self, work: Work, memory_id: str, record_id: str, scope: Scope) -> Memory | None:
        """The record of that id, if it is one of the memory's."""

    @abstractmethod
    async def at(self, work: Work, memory_id: str, moment: datetime, scope: Scope) -> Memory | None:
        """The last record written up to `moment`."""

    @abstractmethod
    async def history(
        self, work: Work, memory_id: str, scope: Scope, *, limit: int, before: int | None = None
    ) -> list[Memory]:
        """Records newest first, of versions below `before`."""

    @abstractmethod
    async def select(
        self, work: Work, selection: Selection, *, limit: int, after: tuple[int, str] | None = None
    ) -> list[Memory]:
        """Memories by (version, memory_id), both descending; those after a place in this order."""

    @abstractmethod
    async def count(self, work: Work, selection: Selection) -> int:
        """How many memories there are."""

    @abstractmethod
    async def hydrate(self, work: Work, memory_ids: Sequence[str], selection: Selection) -> dict[str, Memory]:
        """Those of the memories that the selection has, by id."""

    @abstractmethod
    async def records(
        self, work: Work, record_ids: Collection[str], *, predecessors: bool = False
    ) -> list[StoredRecord]:
        """Records by id, by (memory_id, version); those that are gone are left out. `predecessors`: those right before
        them as well."""

    @abstractmethod
    async def of_memories(self, work: Work, memory_ids: Sequence[str]) -> list[StoredRecord]:
        """All records of the memories, by (memory_id, version)."""

    @abstractmethod
    async def scan(self, work: Work, scope: Scope, *, after: str, memories: int) -> list[StoredRecord]:
        """All records of the next `memories` memories after an id, by (memory_id, version)."""

    @abstractmethod
    async def existing(self, work: Work, memory_ids: Collection[str]) -> set[str]:
        """Which of the memories there are."""


# ---------------------------------------------------------------- indexes


type BuildProgress = Callable[[str, int, int | None], object]
"""Told a step of long work, how much of it is done, and of how much (None: not known)."""


class Index[Entry, Content](StorageProtocol):
    """What both kinds of index do.

    Applying is idempotent and gated by version: an older record never takes the place of a newer one, and a removed
    memory never comes back, in whatever order and however often changes arrive. A record that comes late as the latest
    of its memory, though a newer one is there, was read before that one was written: it is ignored.
    """

    @abstractmethod
    async def apply(self, work: Work | None, entries: Sequence[Entry], *, refresh: bool = False) -> None:
        """Takes in records. The newest of a memory is found now, the others by `as_of`. `refresh`: by the next search
        already, at whatever cost. `work`: the truth's transaction, in which nobody else changes these memories.

        Raises InvalidInputError where it cannot take in one of them, and UnavailableError.
        """

    @abstractmethod
    async def remove(self, work: Work | None, memory_ids: Iterable[str]) -> None:
        """Removes memories for good."""

    @abstractmethod
    async def reset(self, work: Work | None, memory_ids: Iterable[str]) -> None:
        """Forgets memories, and that they were removed, so that they can be taken in anew."""

    async def put_off(self) -> None:
        """Many memories are about to come: what is quicker made from all of them at once is put off until `build`.

        What is found meanwhile stays right, though it may take longer. Default: nothing is put off.
        """

    async def build(self, progress: BuildProgress | None = None) -> None:
        """Makes what was put off, also by who was stopped before its end. Others go on meanwhile."""

    @abstractmethod
    async def contents(self, work: Work | None, memory_ids: Sequence[str]) -> dict[str, Content]:
        """What the index holds of each of the memories' records, by record id."""

    @abstractmethod
    async def memory_ids(self, work: Work | None, *, after: str, limit: int) -> list[str]:
        """The ids of the memories in the index after an id, in order."""

    async def tend(self) -> None:
        """What keeps searches quick while much is written. Whoever works in the background calls it now and then; it is
        cut short by being cancelled. Default: nothing."""

    async def refresh(self) -> None:
        """Makes what was applied findable now; an index that does so by itself has nothing to do."""


class VectorIndex(Index[VectorEntry, VectorContent]):
    """Finds memories whose vectors are near, each once, by its best field."""

    @property
    @abstractmethod
    def dims(self) -> int:
        """How many numbers a vector has."""

    @property
    @abstractmethod
    def model_id(self) -> str:
        """Whose vectors they are."""

    @abstractmethod
    async def candidates(
        self, work: Work | None, vector: Sequence[float], selection: Selection, *, limit: int
    ) -> list[Candidate]:
        """The nearest memories, best first. score: cosine, −1 to 1."""

    @abstractmethod
    async def known(self, work: Work | None, texts: Collection[tuple[str, str]]) -> dict[tuple[str, str], Vector]:
        """Vectors the memories have or had, by (memory_id, content_hash): what was embedded is not embedded again."""

    @abstractmethod
    def successor(self, *, dims: int, model_id: str) -> "AbstractAsyncContextManager[VectorSuccessor]":
        """An index for the vectors of another model, begun or gone on with; it is kept when the block ends.

        Raises ConflictError while another program does the same, ConfigurationError where one of a third model is
        begun.
        """

    @abstractmethod
    async def abandon(self) -> bool:
        """Drops a successor that was begun; whether there was one."""


class KeywordIndex(Index[KeywordEntry, KeywordContent]):
    """Finds memories that share words with a question."""

    @abstractmethod
    async def candidates(self, work: Work | None, query: str, selection: Selection, *, limit: int) -> list[Candidate]:
        """The memories that share words with the query, best first. Scores compare within one answer."""

    def rebuilding(self) -> "AbstractAsyncContextManager[None]":
        """Makes the index anew while the old one is searched: every record of the truth is applied in the block.

        What anybody writes meanwhile goes into both; when the block ends the new one takes the old one's place. Raises
        UnsupportedError where there is no such thing.
        """
        raise UnsupportedError(
            f"the keyword index of {type(self).__name__} is kept right in place and is not made anew beside; "
            "`omnimem repair` makes what differs from the truth anew"
        )

    async def abandon(self) -> bool:
        """Gives up a rebuild that broke off; whether there was one."""
        return False


# ---------------------------------------------------------------- changes


class Outbox(ABC):
    """Keeps changes beside the truth, in its transactions, until a queue that is elsewhere has them."""

    @abstractmethod
    async def record(self, work: Work, changes: Sequence[Change], *, delay: float = 0.0) -> None:
        """Keeps changes, due after `delay` seconds."""

    @abstractmethod
    async def lead(self, owner: str, seconds: float) -> bool:
        """Whether `owner` is the one to relay, for some seconds from now; nobody else is meanwhile."""

    @abstractmethod
    async def due(self, limit: int) -> list[Change]:
        """Changes that are due, oldest first."""

    @abstractmethod
    async def forget(self, changes: Sequence[Change]) -> None:
        """Drops changes that the queue has, or that were applied already."""

    @abstractmethod
    async def status(self) -> QueueStatus:
        """How much waits here."""


class ChangeQueue(StorageProtocol):
    """Keeps changes, each until it was worked off; may hand one out twice, loses none."""

    @abstractmethod
    async def record(self, work: Work | None, changes: Sequence[Change]) -> None:
        """Keeps changes: in the transaction of the truth, or (None) for certain once the call returns."""

    @abstractmethod
    async def claim(self, *, wait: float = 0.0) -> Claim:
        """Some changes that are due, oldest first; none where nothing waits. A queue that can tell when something comes
        may wait for it, at most so many seconds."""

    @abstractmethod
    async def extend(self, claim: Claim) -> None:
        """Says that the work goes on."""

    @abstractmethod
    async def finish(self, work: Work | None, claim: Claim, changes: Sequence[Change]) -> list[Change]:
        """Forgets changes that are done; returns those the claim still held: only their results may be stored."""

    @abstractmethod
    async def fail(self, claim: Claim, changes: Sequence[Change], error: str) -> None:
        """Puts changes back, to be tried again after a pause."""

    @abstractmethod
    async def release(self, claim: Claim) -> None:
        """Puts all back at once: the worker stops."""

    @abstractmethod
    async def status(self) -> QueueStatus:
        """How much waits, and how much failed for good."""

    @abstractmethod
    async def failed(self, limit: int) -> list[FailedChange]:
        """Some of what failed for good, latest first."""

    @abstractmethod
    async def retry_failed(self) -> int:
        """Makes what failed for good due again; returns how many."""


@dataclass(frozen=True)
class Storage:
    """The stores that play the four roles, opened."""

    records: RecordStore
    vectors: VectorIndex
    keywords: KeywordIndex
    queue: ChangeQueue
    location: str
    """The address in use, without a password."""
    outbox: Outbox | None = None
    """Beside the truth, where the queue is elsewhere."""

    async def about(self) -> dict[str, str]:
        """What an operator asks first of each store; one that cannot be reached says why."""
        found = {"address": self.location}
        for store in (self.records, self.vectors, self.keywords, self.queue):
            try:
                found |= await store.about()
            except UnavailableError as error:
                found[f"{type(store).__name__}"] = f"cannot be reached: {error}"
        return found

    @property
    def is_one_place(self) -> bool:
        """Whether truth, indexes and queue share transactions."""
        stores = (self.records, self.vectors, self.keywords, self.queue)
        return len({store.capabilities.place for store in stores}) == 1

    async def tend(self) -> None:
        """Looks after the indexes; see `Index.tend`."""
        for index in (self.vectors, self.keywords):
            await index.tend()

    async def record(self, work: Work, changes: Sequence[Change], *, delay: float = 0.0) -> None:
        """Keeps changes in a transaction of the truth until the indexes have them."""
        if self.outbox is None:
            await self.queue.record(work, changes)
        else:
            await self.outbox.record(work, changes, delay=delay)

    async def status(self) -> QueueStatus:
        """How much waits, in the outbox and in the queue."""
        if self.outbox is None:
            return await self.queue.status()
        # The outbox first: what is moved on while we ask is then counted twice rather than not at all.
        kept = await self.outbox.status()
        queued = await self.queue.status()
        oldest = min((time for time in (kept.oldest, queued.oldest) if time is not None), default=None)
        return QueueStatus(
            kept.waiting + queued.waiting,
            kept.failed + queued.failed,
            oldest,
            queued.last_error or kept.last_error,
            {**kept.parts, **queued.parts},
        )
