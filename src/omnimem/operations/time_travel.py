"""TimeTravel: the history of a memory, its state at a moment, and the way back."""

from datetime import datetime

from memground.clock import Clock, as_utc
from memground.errors import NotFoundError
from memground.text import show
from omnimem.models import Memory, Page, Scope
from omnimem.models.cursor import read_cursor, write_cursor
from omnimem.operations.manager import MemoryManager, memory_key, not_found
from omnimem.storage.base import RecordStore

_COPIED = ("content", "metadata", "type", "index_hint")
"""What a revert takes from the earlier record."""


class TimeTravel:
    """Reads and restores what was. Only the truth is asked: it has every record."""

    def __init__(self, records: RecordStore, manager: MemoryManager, clock: Clock) -> None:
        self._records = records
        self._manager = manager
        self._clock = clock

    async def history(self, memory_id: str, scope: Scope, *, limit: int, cursor: str | None = None) -> Page[Memory]:
        """The records of a memory, newest first; none where there is no such memory."""
        memory_id = memory_key(memory_id)
        mark = ["history", memory_id, scope.to_dict()]
        before = None if cursor is None else read_cursor(cursor, mark, int)[0]
        async with self._records.reading() as work:
            found = await self._records.history(work, memory_id, scope, limit=limit + 1, before=before)
        more = write_cursor([found[limit - 1].version], mark) if len(found) > limit else None
        return Page(tuple(found[:limit]), more)

    async def at_time(self, memory_id: str, moment: datetime, scope: Scope) -> Memory | None:
        """The last record written up to a moment; None where there was none."""
        memory_id, moment = memory_key(memory_id), as_utc(moment, "t")
        async with self._records.reading() as work:
            return await self._records.at(work, memory_id, moment, scope)

    async def revert(self, memory_id: str, record_id: str, scope: Scope) -> Memory:
        """Appends a record with the content, metadata, type and hint of an earlier one.

        Raises NotFoundError where there is no such memory, or the record is none of its own.
        """
        memory_id, record_id = memory_key(memory_id), memory_key(record_id, "record_id")
        async with self._records.reading() as work:
            if await self._records.get(work, memory_id, scope) is None:
                raise not_found(memory_id)
            earlier = await self._records.record(work, memory_id, record_id, scope)
        if earlier is None:
            raise NotFoundError(f"memory {show(memory_id)} has no record {show(record_id)}")
        return await self._manager.update(memory_id, scope, {key: getattr(earlier, key) for key in _COPIED})
