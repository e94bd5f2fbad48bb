"""The keyword index made anew from the truth beside the one in use, then one switch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from omnimem.models import EVERYTHING
from omnimem.models.base import Value
from omnimem.pipeline.synchronizer import NEVER, keyword_entry
from omnimem.storage.base import Storage
from omnimem.storage.values import Indexed, Selection, StoredRecord

type ReindexProgress = Callable[[int, int], object]
"""Told how many memories are in the new index, and how many there were when it was begun."""

_PART = 200
"""Memories read at once, each with all its records."""


@dataclass(frozen=True)
class Reindexed(Value):
    """What the new index was given."""

    memories: int
    records: int


async def reindex(storage: Storage, progress: ReindexProgress | None = None) -> Reindexed:
    """Gives a new keyword index every record of the truth, and puts it in the place of the old one.

    Whoever writes meanwhile writes to both. Broken off, it begins from the first memory again, with the new index that
    is there. Raises UnsupportedError where the index knows no such thing, and UnavailableError.
    """
    truth, after = storage.records, ""
    memories = records = 0
    async with storage.keywords.rebuilding():
        async with truth.reading() as work:
            total = await truth.count(work, Selection())
        while True:
            async with truth.reading() as work:
                part = await truth.scan(work, EVERYTHING, after=after, memories=_PART)
            if not part:
                break
            await _take_in(storage, part)
            after = part[-1].memory.memory_id
            memories += len({record.memory.memory_id for record in part})
            records += len(part)
            if progress is not None:
                progress(memories, max(memories, total))
    return Reindexed(memories, records)


async def _take_in(storage: Storage, part: Sequence[StoredRecord]) -> None:
    """Until the truth says of these memories what it said when they were read: an end may come between the two."""
    ids = list(dict.fromkeys(record.memory.memory_id for record in part))
    applied: dict[str, datetime | None] = {}
    while fresh := [r for r in part if applied.get(r.memory.record_id, NEVER) != r.superseded_time]:
        await storage.keywords.apply(None, [keyword_entry(Indexed.of(record)) for record in fresh])
        applied |= {record.memory.record_id: record.superseded_time for record in fresh}
        async with storage.records.reading() as work:
            part = await storage.records.of_memories(work, ids)
