"""Compares the indexes with the truth, part by part, and rebuilds what differs."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from omnimem.models import EVERYTHING, Scope
from omnimem.models.base import Value
from omnimem.pipeline.synchronizer import IndexSynchronizer, content_hash, vector_texts, words_text
from omnimem.storage.base import Change, KeywordContent, Storage, StoredRecord, Vector, VectorContent, Work

PART = 200
"""Memories compared at once."""
_TOO_MUCH = "has a record that the truth has not"
SHOWN = 1_000
"""Differences a report lists; it counts all."""

type Progress = Callable[[int, str], Any]
"""Told how many memories were compared, and the id of the last one."""


@dataclass(frozen=True)
class Difference(Value):
    """What an index has otherwise than the truth."""

    memory_id: str
    record_id: str | None
    index: str
    problem: str


@dataclass(frozen=True)
class Report(Value):
    """What a comparison found. `waiting`: changes not applied yet, which explain differences (0 within a
    scope); `repaired`: memories whose index was made anew."""

    memories: int
    records: int
    count: int
    differences: tuple[Difference, ...]
    waiting: int = 0
    repaired: int = 0


class Verification:
    """Reads truth and indexes in parts, each at one moment."""

    def __init__(self, storage: Storage, synchronizer: IndexSynchronizer) -> None:
        self._storage = storage
        self._synchronizer = synchronizer
        self._together = storage.outbox is None

    async def run(
        self, scope: Scope, *, after: str = "", repair: bool = False, progress: Progress | None = None
    ) -> Report:
        """Compares a scope from an id on (the empty one: also for what the indexes have too much); `repair` makes
        differing memories anew."""
        memories = records = count = repaired = 0
        shown: list[Difference] = []
        if repair:
            for index in (self._storage.vectors, self._storage.keywords):
                await index.build()
        async for found, part in self._parts(scope, after):
            memories += len({record.memory.memory_id for record in part})
            records += len(part)
            count += len(found)
            shown += found[: SHOWN - len(shown)]
            if repair and found:
                repaired += await self._rebuild(sorted({difference.memory_id for difference in found}))
            if progress is not None and part:
                progress(memories, part[-1].memory.memory_id)
        # How much others have to wait for is not to be seen from within a scope.
        waiting = (await self._storage.status()).waiting if scope == EVERYTHING else 0
        return Report(memories, records, count, tuple(shown), waiting, repaired)

    async def _parts(self, scope: Scope, after: str) -> AsyncIterator[tuple[list[Difference], list[StoredRecord]]]:
        truth = self._storage.records
        while True:
            async with truth.reading() as work:
                part = await truth.scan(work, scope, after=after, memories=PART)
                found = await self._compared(work, part) if part else []
            if not part:
                break
            yield await self._lasting(found), part
            after = part[-1].memory.memory_id
        if scope == EVERYTHING:
            async for orphans in self._orphans():
                yield orphans, []

    async def _compared(self, work: Work, part: Sequence[StoredRecord]) -> list[Difference]:
        ids = list(dict.fromkeys(record.memory.memory_id for record in part))
        vectors = await self._storage.vectors.contents(self._within(work), ids)
        keywords = await self._storage.keywords.contents(self._within(work), ids)
        found: list[Difference] = []
        for record in part:
            key = record.memory.record_id
            problems = {
                "vector": _vector_problem(record, vectors.pop(key, None)),
                "keyword": _keyword_problem(record, keywords.pop(key, None)),
            }
            found += [Difference(record.memory.memory_id, key, i, p) for i, p in problems.items() if p is not None]
        # What is left belongs to memories of this part, but to none of their records.
        for index, left in (("vector", vectors), ("keyword", keywords)):
            found += [Difference(held.memory_id, key, index, _TOO_MUCH) for key, held in left.items()]
        return found

    async def _lasting(self, found: list[Difference]) -> list[Difference]:
        """Of differences those that are no matter of the moments at which indexes elsewhere were read."""
        if self._together or not found:
            return found
        truth = self._storage.records
        async with truth.reading() as work:
            part = await truth.of_memories(work, sorted({difference.memory_id for difference in found}))
            again = await self._compared(work, part)
        return [difference for difference in found if difference in again]

    async def _orphans(self) -> AsyncIterator[list[Difference]]:
        truth = self._storage.records
        for name, index in (("vector", self._storage.vectors), ("keyword", self._storage.keywords)):
            after = ""
            while True:
                async with truth.reading() as work:
                    ids = await index.memory_ids(self._within(work), after=after, limit=PART)
                    there = await truth.existing(work, ids)
                if not ids:
                    break
                yield [
                    Difference(key, None, name, "has a memory that the truth has not")
                    for key in ids
                    if key not in there
                ]
                after = ids[-1]

    async def _rebuild(self, ids: Sequence[str]) -> int:
        truth = self._storage.records
        vectors: dict[str, Vector] = {}

        async def body(work: Work) -> bool:
            await truth.hold(work, ids)
            records = await truth.of_memories(work, ids)
            texts = (text for record in records for text in vector_texts(record.memory).values())
            if any(content_hash(text) not in vectors for text in texts):
                return False  # changed meanwhile
            there = {record.memory.memory_id for record in records}
            await self._synchronizer.reset(work, sorted(there))
            await self._synchronizer.apply(work, records, vectors)
            await self._synchronizer.remove(work, [key for key in ids if key not in there])
            return True

        while True:
            async with truth.reading() as work:
                records = await truth.of_memories(work, ids)
            vectors |= await self._synchronizer.embedded([record.memory for record in records], vectors)
            if not self._together:
                there = {record.memory.memory_id for record in records}
                await self._synchronizer.reset(None, sorted(there))
                gone = [Change("delete", key) for key in ids if key not in there]
                await self._synchronizer.converge([*(Change.put(r.memory) for r in records), *gone], vectors)
                return len(ids)
            if await truth.write(body):
                return len(ids)

    def _within(self, work: Work) -> Work | None:
        return work if self._together else None


def _vector_problem(record: StoredRecord, found: VectorContent | None) -> str | None:
    expected = {field: content_hash(text) for field, text in vector_texts(record.memory).items()}
    if not expected:
        return None if found is None else "has vectors of a record that has nothing to embed"
    if found is None:
        return "has no vectors of the record"
    if dict(found.hashes) != expected:
        return "has vectors of other texts"
    return _time_problem(record, found)


def _keyword_problem(record: StoredRecord, found: KeywordContent | None) -> str | None:
    if found is None:
        return "has no words of the record"
    if found.content_hash != content_hash(words_text(record.memory)):
        return "has words of another text"
    return _time_problem(record, found)


def _time_problem(record: StoredRecord, found: VectorContent | KeywordContent) -> str | None:
    if found.superseded_time != record.superseded_time:
        return f"says superseded at {found.superseded_time}, the truth {record.superseded_time}"
    return None
