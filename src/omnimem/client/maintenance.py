"""Calls that look after what is stored: verify, repair, export, import, and background work."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from memground.errors import ConflictError, InvalidInputError, UnavailableError, UnsupportedError
from memground.jobs import QueueStatus
from memground.text import show
from omnimem.client.context import Connection, Rooms
from omnimem.models import EVERYTHING, Memory, Scope
from omnimem.models.base import instance, whole
from omnimem.models.filter import MAX_LIMIT
from omnimem.operations.manager import memory_key, replace_stored
from omnimem.pipeline.reembedding import Reembedded, ReembedProgress
from omnimem.pipeline.verification import Progress, Report, Verification
from omnimem.storage.base import Change, FailedChange, StoredRecord, Work

_PART = 500
"""Records written in one transaction, a memory never torn apart."""


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

    async def about(self) -> dict[str, str]:
        """Where memories are kept, and the versions of what keeps them. For the unbound client."""
        self._for_all("about")
        return await self._opened_rooms.storage.about()

    async def status(self) -> QueueStatus:
        """How many changes wait for the indexes, and how many failed, in all. For the unbound client."""
        self._for_all("status")
        return await self._opened_rooms.storage.status()

    async def failed(self, limit: int = 100) -> list[FailedChange]:
        """Changes that were tried as often as the policy says and failed, latest first. For the unbound client."""
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
        await self._opened_rooms.worker.run()

    async def wait_idle(self, timeout: float | None = None) -> None:
        """Waits until the indexes have followed; failed changes do not count.

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

    async def export(self) -> AsyncIterator[dict[str, Any]]:
        """Every record of every memory as JSON-able values, the records of a memory together, oldest first."""
        truth = self._opened_rooms.storage.records
        after = ""
        while True:
            async with truth.reading() as work:
                part = await truth.scan(work, self._scope, after=after, memories=_PART)
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
    ) -> int:
        """Stores what `export` gave, with the same ids and history; returns how many records.

        It may be repeated with `skip_existing`: memories that are there already stay as they are. Raises
        InvalidInputError for a record that is none, is outside this client's scope, or breaks its memory's order, and
        ConflictError for a memory that is there, or was deleted here.
        """
        instance(skip_existing, "skip_existing", bool, "True or False")
        stored = 0
        part: list[Memory] = []
        async for memory in self._read(records):
            if len(part) >= _PART and memory.memory_id != part[-1].memory_id:
                stored += await self._import_part(part, skip_existing)
                part = []
            part.append(memory)
        stored += await self._import_part(part, skip_existing)
        return stored

    async def _read(
        self, records: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
    ) -> AsyncIterator[Memory]:
        previous: Memory | None = None
        now = self._connection.clock.now()
        async for number, value in _numbered(records):
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

    async def _import_part(self, part: Sequence[Memory], skip_existing: bool) -> int:
        rooms = self._opened_rooms
        truth = rooms.storage.records
        ids = list(dict.fromkeys(memory.memory_id for memory in part))
        async with truth.reading() as work:
            there = await truth.existing(work, ids) if ids else set[str]()
        if there and not skip_existing:
            raise ConflictError(f"memory {show(sorted(there)[0])} cannot be imported here: its id is taken")
        new = [memory for memory in part if memory.memory_id not in there]
        if not new:
            return 0
        records: list[StoredRecord] = []
        for memory, follower in zip(new, [*new[1:], None], strict=True):
            followed = follower is not None and follower.memory_id == memory.memory_id
            end = follower.created_time if followed and follower is not None else None
            records.append(StoredRecord(replace_stored(memory, is_latest=end is None), end))
        firsts: dict[str, str] = {}
        for memory in new:
            firsts.setdefault(memory.memory_id, memory.record_id)
        vectors = await rooms.synchronizer.prepare(new, {}, new=True)

        async def body(work: Work) -> None:
            await truth.insert(work, records, named=True)
            await rooms.synchronizer.written(work, records, vectors, first=list(firsts.values()))

        await truth.write(body)
        await rooms.synchronizer.settle([Change.put(memory) for memory in new], vectors)
        rooms.wake()
        return len(records)

    def _for_all(self, call: str) -> None:
        if self._scope != EVERYTHING:
            raise UnsupportedError(f"{call} is about everybody's memories; call it on the client that is not bound")

    def _verification(self) -> Verification:
        rooms = self._opened_rooms
        return Verification(rooms.storage, rooms.synchronizer)

    @property
    def _opened_rooms(self) -> Rooms:
        return self._connection.rooms


async def _numbered(
    records: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]],
) -> AsyncIterator[tuple[int, Mapping[str, Any]]]:
    number = 0
    if isinstance(records, AsyncIterable):
        async for value in records:
            number += 1
            yield number, value
    else:
        for value in records:
            number += 1
            yield number, value
