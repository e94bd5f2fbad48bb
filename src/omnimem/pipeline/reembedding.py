"""Another embedding model: every vector made anew from the truth beside those in use, then one switch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

from memground.embedding import EmbeddingProvider
from memground.errors import ConflictError
from omnimem.models.base import Value
from omnimem.pipeline.synchronizer import IndexSynchronizer, vector_entry
from omnimem.storage.base import Storage
from omnimem.storage.successor import VectorSuccessor
from omnimem.storage.values import Indexed

type ReembedProgress = Callable[[int, int], object]
"""Told how many memories have their new vectors, and how many there are."""

_PART = 64
"""Memories read and embedded at once, each with all its records."""
_FEW = 64
"""Memories left over that are no reason for another pass before the switch is tried."""
_PATIENT_ATTEMPTS = 3


@dataclass(frozen=True)
class Reembedded(Value):
    """A change of model: from which, to which of how many numbers, and for how many memories vectors were made."""

    model_before: str
    model: str
    dims: int
    memories: int


class Reembedding:
    """One change of model. `storage` is open with the model it records, `embedding` is the new one.

    The new vectors are made of the truth's texts and put into a successor of the vector index, memory by memory, all
    records of each. What is written meanwhile goes into the index in use, which tells what the successor is behind
    with.
    """

    def __init__(self, storage: Storage, embedding: EmbeddingProvider, progress: ReembedProgress | None = None) -> None:
        self._storage = storage
        self._embedding = embedding
        self._progress = progress or _silent
        self._done = self._total = 0
        self._made = 0

    async def run(self) -> Reembedded:
        """Makes what is missing and switches. Killed anywhere, it goes on where it was when it is run again.

        Raises ConflictError while another program does the same, ConfigurationError where a change to a third model is
        half done, and what the model raises.
        """
        index, dims, model_id = self._storage.vectors, self._embedding.dims, self._embedding.model_id
        before = index.model_id
        if (before, index.dims) != (model_id, dims):
            async with index.successor(dims=dims, model_id=model_id) as successor:
                self._done, self._total = await successor.progress()
                self._progress(self._done, self._total)
                for attempt in count(1):
                    while await self._pass(successor) > _FEW:
                        pass
                    # Where others write so much that it is never caught up with, the last few are made while they wait.
                    last = partial(self._catch_up, successor) if attempt > _PATIENT_ATTEMPTS else None
                    if await successor.switch(last):
                        break
        return Reembedded(before, model_id, dims, self._made)

    async def abandon(self) -> Reembedded:
        """Gives up a change that was begun, and drops its vectors."""
        index = self._storage.vectors
        await index.abandon()
        return Reembedded(index.model_id, index.model_id, index.dims, 0)

    async def _pass(self, successor: VectorSuccessor) -> int:
        """Makes the vectors of what the successor is behind with, once through; returns how many memories that were."""
        synchronizer = IndexSynchronizer(replace(self._storage, vectors=successor.index), self._embedding)
        truth, made, after = self._storage.records, 0, ""
        while ids := await successor.behind(after=after, limit=_PART):
            async with truth.reading() as work:
                records = await truth.of_memories(work, ids)
            vectors = await synchronizer.embedded([record.memory for record in records], {})
            await successor.index.apply(None, [vector_entry(Indexed.of(record), vectors) for record in records])
            gone = set(ids) - {record.memory.memory_id for record in records}
            if gone:
                await successor.index.remove(None, gone)
            made += len(ids)
            after = ids[-1]
            self._advance(len(ids))
        return made

    async def _catch_up(self, successor: VectorSuccessor) -> None:
        """Makes the very last vectors, while nobody can write others."""
        before: list[str] = []
        while await self._pass(successor):
            left = await successor.behind(after="", limit=1)
            if left and left == before:
                raise ConflictError(
                    f"the vector index has a record of memory {left[0]!r} that the truth has not; "
                    "run `omnimem repair` with the old model first"
                )
            before = left

    def _advance(self, memories: int) -> None:
        self._made += memories
        self._done += memories
        self._total = max(self._total, self._done)
        self._progress(self._done, self._total)


def _silent(done: int, total: int) -> None:
    """Tells nobody."""
