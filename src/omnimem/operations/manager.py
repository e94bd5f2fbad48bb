"""MemoryManager: creates, changes and deletes memories, and has the indexes follow."""

import asyncio
import re
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import zip_longest
from typing import Any, Protocol

from memground.clock import Clock, nanoseconds
from memground.errors import ConflictError, InvalidInputError, NotFoundError
from memground.text import show
from omnimem.models import Content, Memory, NewMemory, Page, Scope
from omnimem.models.base import name, whole
from omnimem.models.cursor import read_cursor, write_cursor
from omnimem.models.memory import MAX_VERSION, checked
from omnimem.storage.base import Change, RecordStore, Selection, StoredRecord, Vector, Work

MAX_CREATED = 10_000
"""Memories that may be created in one call: they are one transaction."""
_ID = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")


class Indexes(Protocol):
    """What a manager tells of its writes (`omnimem.pipeline.IndexSynchronizer`)."""

    async def known(self, work: Work, memories: Sequence[Memory]) -> dict[str, Vector]: ...
    async def prepare(self, memories: Sequence[Memory], known: Mapping[str, Vector]) -> dict[str, Vector]: ...
    def ready(self, memory: Memory, vectors: Mapping[str, Vector]) -> bool: ...
    async def written(
        self, work: Work, records: Sequence[StoredRecord], vectors: Mapping[str, Vector], *, first: Sequence[str] = ()
    ) -> None: ...
    async def removed(self, work: Work, memory_id: str) -> None: ...
    async def settle(self, changes: Sequence[Change], vectors: Mapping[str, Vector]) -> None: ...


class MemoryManager:
    """Coordinates the truth and the indexes."""

    def __init__(self, records: RecordStore, indexes: Indexes, clock: Clock) -> None:
        self._records = records
        self._indexes = indexes
        self._clock = clock

    async def create(self, new: Sequence[NewMemory], turn: "Turn | None" = None) -> Sequence[Memory]:
        """Stores memories, all or none, in their turn."""
        turn = turn or Turn()
        if len(new) > MAX_CREATED:
            raise InvalidInputError(f"{len(new):,} memories at once; at most {MAX_CREATED:,} are accepted")
        if not new:
            return []
        drafts = [first_record(memory, self._clock.now()) for memory in new]
        vectors = await self._indexes.prepare(drafts, {})
        now = self._clock.now()  # after the model worked: what was not there at a moment is not found as of it
        stored = [StoredRecord(_dated(draft, now), None) for draft in drafts]

        async def body(work: Work) -> None:
            await self._records.insert(work, stored)
            turn.begun.set()
            await self._indexes.written(work, stored, vectors, first=[record.memory.record_id for record in stored])
            await turn.to_end()

        await turn.to_begin()
        await self._records.write(body)
        await self._indexes.settle([Change.put(record.memory) for record in stored], vectors)
        return [record.memory for record in stored]

    async def restore(
        self, memories: Sequence[Memory], turn: "Turn | None" = None, *, skip_existing: bool = False
    ) -> int:
        """Stores whole memories with all their records, all or none, as they were elsewhere; returns how many records.

        `skip_existing`: those that are there stay as they are, else they are a ConflictError.
        """
        ids = list(dict.fromkeys(memory.memory_id for memory in memories))
        if not ids:
            return 0
        async with self._records.reading() as work:
            known = await self._records.existing(work, ids)
        vectors = await self._indexes.prepare([memory for memory in memories if memory.memory_id not in known], {})
        await (turn or Turn()).to_end()  # what was before may have stored some of these

        async def body(work: Work) -> list[Memory]:
            there = await self._records.existing(work, ids)
            if there and not skip_existing:
                raise ConflictError(f"memory {show(sorted(there)[0])} cannot be imported here: its id is taken")
            # Of one that was deleted meanwhile there is no vector; it was there, so it is left out as well.
            new = [memory for memory in memories if memory.memory_id not in there | known]
            records, firsts = _lives(new)
            await self._records.insert(work, records, named=True)
            await self._indexes.written(work, records, vectors, first=firsts)
            return new

        new = await self._records.write(body)
        await self._indexes.settle([Change.put(memory) for memory in new], vectors)
        return len(new)

    async def update(
        self, memory_id: str, scope: Scope, changes: Mapping[str, Any], *, expected_version: int | None = None
    ) -> Memory:
        """Appends a record with fields changed, which becomes the latest.

        Raises NotFoundError, and ConflictError where the latest is not of the expected version.
        """
        memory_id = memory_key(memory_id)
        if expected_version is not None:
            whole(expected_version, "expected_version", 0, MAX_VERSION)
        async with self._records.reading() as work:
            current = await self._records.get(work, memory_id, scope)
            draft = successor(_checked_current(current, memory_id, expected_version), changes, self._clock.now())
            vectors = await self._indexes.known(work, [draft])

        async def body(work: Work) -> tuple[Memory, bool]:
            """The next record, and whether it was stored: the model may have to be asked first."""
            latest = await self._records.lock(work, memory_id, scope)
            record = successor(_checked_current(latest, memory_id, expected_version), changes, self._clock.now())
            if not self._indexes.ready(record, vectors):
                vectors.update(await self._indexes.known(work, [record]))
            if not self._indexes.ready(record, vectors):
                return record, False
            await self._records.supersede(work, record)
            await self._indexes.written(work, [StoredRecord(record, None)], vectors)
            return record, True

        while True:
            # The model works while nothing is locked. What it needs may change meanwhile, then it is asked again.
            vectors = await self._indexes.prepare([draft], vectors)
            draft, stored = await self._records.write(body)
            if stored:
                await self._indexes.settle([Change.put(draft)], vectors)
                return draft

    async def delete(self, memory_id: str, scope: Scope) -> int:
        """Removes all records of a memory, for good; returns how many. Raises NotFoundError."""
        memory_id = memory_key(memory_id)

        async def body(work: Work) -> int:
            if await self._records.lock(work, memory_id, scope) is None:
                raise not_found(memory_id)
            count = await self._records.remove(work, memory_id, self._clock.now())
            await self._indexes.removed(work, memory_id)
            return count

        count = await self._records.write(body)
        await self._indexes.settle([Change("delete", memory_id)], {})
        return count

    async def get(self, memory_id: str, scope: Scope, *, version: int | None = None) -> Memory | None:
        """The latest record, or that of a version; None where there is none."""
        memory_id = memory_key(memory_id)
        if version is not None:
            whole(version, "version", 0, MAX_VERSION)
        async with self._records.reading() as work:
            return await self._records.get(work, memory_id, scope, version=version)

    async def list(
        self, selection: Selection, *, limit: int, cursor: str | None, listing: Sequence[Any]
    ) -> Page[Memory]:
        """Memories, latest change first. A cursor goes on as of the moment the listing began."""
        mark = ["list", *listing]
        after: tuple[int, str] | None = None
        moment = selection.as_of
        if cursor is not None:
            began, version, memory_id = read_cursor(cursor, mark, str, int, str)
            moment, after = datetime.fromisoformat(began), (version, memory_id)
        now = self._clock.now()
        async with self._records.reading() as work:
            found = await self._records.select(work, replace(selection, as_of=moment), limit=limit + 1, after=after)
        more = None
        if len(found) > limit:
            last = found[limit - 1]
            more = write_cursor([(moment or now).isoformat(), last.version, last.memory_id], mark)
        return Page(tuple(found[:limit]), more)

    async def count(self, selection: Selection) -> int:
        """How many memories there are."""
        async with self._records.reading() as work:
            return await self._records.count(work, selection)


class Turn:
    """The place of a write among others that are under way: it ends after the one before it, or not at all.

    It also begins after that: a transaction that waits for another must not hold the connection the other one needs.
    """

    def __init__(self, before: "Turn | None" = None) -> None:
        self.begun = asyncio.Event()
        self._task: asyncio.Task[object] | None = None
        self._begun_before = None if before is None else before.begun
        self._task_before = None if before is None else before._task

    def run(self, write: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Runs the write whose turn this is."""
        self._task = task = asyncio.create_task(write)
        task.add_done_callback(lambda _: self.begun.set())
        return task

    async def to_begin(self) -> None:
        """Waits until the write before has its connection, or is over."""
        if self._begun_before is not None:
            await self._begun_before.wait()

    async def to_end(self) -> None:
        """Waits until the write before is over; raises what made it fail."""
        if self._task_before is not None:
            await asyncio.shield(self._task_before)


def _lives(memories: Sequence[Memory]) -> tuple[list[StoredRecord], list[str]]:
    """Records of whole memories as they are stored, and the ids of those that are their memory's first."""
    records: list[StoredRecord] = []
    firsts: dict[str, str] = {}
    for memory, follower in zip_longest(memories, memories[1:]):
        followed = follower is not None and follower.memory_id == memory.memory_id
        end = follower.created_time if followed and follower is not None else None
        records.append(StoredRecord(replace_stored(memory, is_latest=end is None), end))
        firsts.setdefault(memory.memory_id, memory.record_id)
    return records, list(firsts.values())


def first_record(new: NewMemory, now: datetime) -> Memory:
    """The first record of a new memory."""
    return Memory.stored(
        memory_id=f"mem_{uuid.uuid4().hex}",
        record_id=f"rec_{uuid.uuid4().hex}",
        version=nanoseconds(now),
        is_latest=True,
        created_time=now,
        **checked(new),
    )


def successor(current: Memory, changes: Mapping[str, Any], now: datetime) -> Memory:
    """The next record of a memory: versions strictly increase, times never go back."""
    fields = {**checked_fields(current), **changes}
    start, end = fields["valid_time_from"], fields["valid_time_to"]
    if start is not None and end is not None and end < start:
        raise InvalidInputError(f"valid_time_to={end.isoformat()} lies before valid_time_from={start.isoformat()}")
    return Memory.stored(
        memory_id=current.memory_id,
        record_id=f"rec_{uuid.uuid4().hex}",
        version=max(nanoseconds(now), current.version + 1),
        is_latest=True,
        created_time=max(now, current.created_time),
        **fields,
    )


def checked_fields(memory: Memory) -> dict[str, Any]:
    """The fields of a record that a new one may have as well."""
    return {key: getattr(memory, key) for key in ("scope", *CHANGEABLE)}


CHANGEABLE = (
    "content", "metadata", "type", "sources", "index_hint", "event_time", "valid_time_from", "valid_time_to",
)  # fmt: skip


def checked_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Fields to be changed, each as accepted; raises InvalidInputError."""
    content = changes.get("content", "unchanged")
    given: dict[str, Any] = {**changes, "content": Content(content) if isinstance(content, str) else content}
    new = NewMemory(**given)
    return {key: getattr(new, key) for key in changes}


def memory_key(value: object, what: str = "memory_id") -> str:
    """An id of a memory or record as callers may give it."""
    text = name(value, what)
    if not _ID.fullmatch(text):
        raise InvalidInputError(f"{what}={show(text)} is no id; accepted: up to 200 characters without white space")
    return text


def not_found(memory_id: str) -> NotFoundError:
    return NotFoundError(f"there is no memory {show(memory_id)} here")


def _checked_current(current: Memory | None, memory_id: str, expected: int | None) -> Memory:
    if current is None:
        raise not_found(memory_id)
    if expected is not None and current.version != expected:
        raise ConflictError(
            f"memory {show(memory_id)} has version {current.version}, not the expected {expected}; "
            "read it again and decide anew"
        )
    return current


def _dated(memory: Memory, now: datetime) -> Memory:
    return replace_stored(memory, created_time=now, version=nanoseconds(now))


def replace_stored(memory: Memory, **changes: Any) -> Memory:
    """A record with fields changed that need no check."""
    return Memory.stored(**{**vars(memory), **changes})
