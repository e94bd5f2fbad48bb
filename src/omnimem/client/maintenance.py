"""Calls that look after what is stored: verify, repair, export, import, and background work."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from memground.errors import InvalidInputError, UnavailableError, UnsupportedError
from memground.jobs import QueueStatus
from memground.upkeep import Upkeep
from omnimem.client.context import Connection, Rooms
from omnimem.models import EVERYTHING, Memory, Scope
from omnimem.models.base import instance, whole
from omnimem.models.filter import MAX_LIMIT
from omnimem.operations.loading import PART, Loader, numbered
from omnimem.operations.manager import Turn, memory_key
from omnimem.pipeline.reembedding import Reembedded, ReembedProgress
from omnimem.pipeline.reindexing import Reindexed, ReindexProgress, reindex
from omnimem.pipeline.verification import Progress, Report, Verification
from omnimem.storage.base import BuildProgress, FailedChange


class Maintenance:
    """What administrators and programs that move memories call. All of it stays inside the client's scope."""

    _connection: Connection
    _scope: Scope

    async def verify(self, *, after: str = "", progress: Progress | None = None) -> Report:
        """Compares the indexes with the truth, memory by memory in the order of their ids, in constant memory.

        `progress` is told how many memories were compared and the id of the last one; `after`: go on behind that id.
        """
        return await self._verification().run(self._scope, after=after, progress=progress)

    async def repair(self, *, after: str = "", progress: Progress | None = None) -> Report:
        """Compares, and makes the index of every memory that differs anew from the truth."""
        return await self._verification().run(self._scope, after=after, repair=True, progress=progress)

    async def reembed(self, *, progress: ReembedProgress | None = None, abandon: bool = False) -> Reembedded:
        """Changes the embedding model of all that is stored to this client's: makes every vector anew, those of earlier
        records too, then switches at once. For the unbound client, before it is opened.

        Other programs work on with the old model until the switch; from then on they raise ModelMismatchError. Killed
        or failed, it goes on where it was when it is called again. `progress` is told how many memories have their new
        vectors and how many there are. `abandon`: give up a change that was begun, and drop its vectors, instead.

        Raises ConfigurationError (a change to a third model is half done), ConflictError (another program does the same
        now), and what the model raises.
        """
        self._for_all("reembed")
        return await self._connection.reembed(progress, abandon=abandon)

    async def reindex(self, *, progress: ReindexProgress | None = None) -> Reindexed:
        """Makes the keyword index anew from the truth beside the one in use, then switches at once: for another mapping
        or number of shards, or after a loss. For the unbound client.

        Everybody reads and writes on meanwhile. Broken off, call it again, or `abandon_reindex`. `progress` is told how
        many memories the new index has and how many there are. Raises UnsupportedError where the keyword index is not
        Elasticsearch's, and UnavailableError.
        """
        self._for_all("reindex")
        return await reindex(self._opened_rooms.storage, progress)

    async def abandon_reindex(self) -> bool:
        """Drops what a `reindex` that broke off has made; whether there was anything. For the unbound client."""
        self._for_all("abandon_reindex")
        return await self._opened_rooms.storage.keywords.abandon()

    async def about(self) -> dict[str, str]:
        """Where memories are kept, and the versions of what keeps them. For the unbound client."""
        self._for_all("about")
        return await self._opened_rooms.storage.about()

    async def status(self) -> QueueStatus:
        """How many changes wait for the indexes, and how many failed, in all. For the unbound client."""
        self._for_all("status")
        return await self._opened_rooms.storage.status()

    async def failed(self, *, limit: int = 100) -> list[FailedChange]:
        """Changes that failed for good, latest first; `retry_failed` tries them again. For the unbound client."""
        self._for_all("failed")
        return await self._opened_rooms.storage.queue.failed(whole(limit, "limit", 1, MAX_LIMIT))

    async def retry_failed(self) -> int:
        """Gives changes that failed another round of tries; returns how many. For the unbound client."""
        self._for_all("retry_failed")
        count = await self._opened_rooms.storage.queue.retry_failed()
        self._opened_rooms.wake()
        return count

    async def work(self) -> int:
        """Applies waiting changes until nothing more is due; returns how many. For the unbound client."""
        self._for_all("work")
        done = 0
        while count := await self._opened_rooms.worker.work_once():
            done += count
        return done

    @property
    def applied(self) -> int:
        """How many changes this program applied for the queue since it was opened."""
        return self._opened_rooms.worker.applied

    async def work_forever(self) -> None:
        """Applies changes as they come, until cancelled; several programs share the work. For the unbound client."""
        self._for_all("work_forever")
        rooms = self._opened_rooms
        async with Upkeep(rooms.storage.tend):
            await rooms.worker.run()

    async def wait_idle(self, timeout: float | None = None) -> None:
        """Waits until the indexes have followed and searches find it; failed changes do not count.

        Raises UnavailableError after `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while (await self._opened_rooms.storage.status()).waiting:
            if deadline is not None and loop.time() > deadline:
                raise UnavailableError(f"changes are still waiting after {timeout} s")
            if self._opened_rooms.works:
                self._opened_rooms.wake()
            await asyncio.sleep(0.02)
        for index in (self._opened_rooms.storage.vectors, self._opened_rooms.storage.keywords):
            await index.refresh()

    async def export(self) -> AsyncIterator[dict[str, Any]]:
        """Every record of every memory as JSON-able values, the records of a memory together, oldest first."""
        truth = self._opened_rooms.storage.records
        after = ""
        while True:
            async with truth.reading() as work:
                part = await truth.scan(work, self._scope, after=after, memories=PART)
            if not part:
                return
            for record in part:
                yield record.memory.to_dict()
            after = part[-1].memory.memory_id

    async def import_records(
        self,
        records: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]],
        *,
        skip_existing: bool = False,
        bulk: bool = False,
        progress: BuildProgress | None = None,
    ) -> int:
        """Stores what `export` gave, with the same ids and history; returns how many records.

        `bulk`: for very many, as `load` does it: the memories are found when the call returns, and what makes searches
        quick is made at the end where little was there before. `progress`: called with a step, how much of it is done
        ("memories": how many records were stored or skipped), and of how much.

        It may be repeated with `skip_existing`: memories that are there already stay as they are. Raises
        InvalidInputError for a record that is none, is outside this client's scope, or breaks its memory's order, and
        ConflictError for a memory that is there, or was deleted here.
        """
        instance(skip_existing, "skip_existing", bool, "True or False")
        instance(bulk, "bulk", bool, "True or False")
        rooms = self._opened_rooms
        manager = rooms.loading if bulk else rooms.manager
        loader, given = Loader(rooms.storage, progress), self._read(numbered(records, "records"))
        stored = 0

        async def store(part: Sequence[Memory], turn: Turn) -> None:
            nonlocal stored
            stored += await manager.restore(part, turn, skip_existing=skip_existing)

        async with loader.indexes_built_after() if bulk else nullcontext():
            await loader.run(_whole_memories(given), store)
        rooms.wake()
        return stored

    async def _read(self, records: AsyncIterable[tuple[int, Mapping[str, Any]]]) -> AsyncIterator[Memory]:
        previous: Memory | None = None
        now = self._connection.clock.now()
        async for position, value in records:
            number = position + 1
            try:
                memory = Memory.from_dict(value)
                memory_key(memory.memory_id)
                memory_key(memory.record_id, "record_id")
            except InvalidInputError as error:
                raise InvalidInputError(f"record {number}: {error}") from None
            if not self._scope.admits(memory.scope):
                raise InvalidInputError(f"record {number}: its scope lies outside the scope of this client")
            if memory.created_time > now:
                raise InvalidInputError(f"record {number}: created_time={memory.created_time} lies in the future")
            if previous is not None and previous.memory_id == memory.memory_id:
                if memory.version <= previous.version or memory.created_time < previous.created_time:
                    raise InvalidInputError(f"record {number}: it does not follow the one before it of the same memory")
                if memory.scope != previous.scope:
                    raise InvalidInputError(f"record {number}: the records of a memory have one scope")
            yield memory
            previous = memory

    def _for_all(self, call: str) -> None:
        if self._scope != EVERYTHING:
            raise UnsupportedError(f"{call} is about everybody's memories; call it on the client that is not bound")

    def _verification(self) -> Verification:
        rooms = self._opened_rooms
        return Verification(rooms.storage, rooms.synchronizer)

    @property
    def _opened_rooms(self) -> Rooms:
        return self._connection.rooms


async def _whole_memories(records: AsyncIterable[Memory]) -> AsyncGenerator[list[Memory]]:
    """Records in parts, a memory never torn apart."""
    part: list[Memory] = []
    async for memory in records:
        if len(part) >= PART and memory.memory_id != part[-1].memory_id:
            yield part
            part = []
        part.append(memory)
    if part:
        yield part
