"""IndexSynchronizer: what of a record the indexes get, and when.

What is embedded is known by the hash of its text. A vector that a memory has, or had, for the same text is used again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

from memground.embedding import EmbeddingProvider, check_vectors
from memground.errors import ConfigurationError
from omnimem.models import Memory
from omnimem.storage.base import Change, Indexed, KeywordEntry, Storage, StoredRecord, Vector, VectorEntry, Work

type Vectors = Mapping[str, Vector]
"""Vectors by the hash of their text."""

BATCH = 256
"""Texts given to the embedding model in one call."""


class IndexSynchronizer:
    """Keeps the indexes of a storage in step with its truth.

    `mode` "inline": a write of the truth and of the indexes are one transaction; "async": the change is recorded in the
    transaction of the truth, and a worker applies it.
    """

    def __init__(
        self, storage: Storage, embedding: EmbeddingProvider, mode: Literal["inline", "async"] = "inline"
    ) -> None:
        place = storage.records.capabilities.place
        self._inline = mode == "inline"
        if self._inline and {storage.vectors.capabilities.place, storage.keywords.capabilities.place} != {place}:
            raise ConfigurationError('sync="inline" needs the indexes beside the truth; use sync="async"')
        if storage.queue.capabilities.place != place:
            raise ConfigurationError("the change queue must share transactions with the truth")
        self._storage = storage
        self._embedding = embedding

    async def prepare(self, memories: Sequence[Memory], known: Vectors, *, new: bool = False) -> dict[str, Vector]:
        """The vectors a write of these records will need, `known` ones included. Before any transaction.

        `new`: no memory was there before. Raises what the embedding model raises; asynchronously nothing is needed.
        """
        return await self.embedded(memories, known, new=new) if self._inline else {}

    def ready(self, memory: Memory, vectors: Vectors) -> bool:
        """Whether all vectors of a record are there."""
        return not self._inline or all(content_hash(text) in vectors for text in vector_texts(memory).values())

    async def written(
        self, work: Work, records: Sequence[StoredRecord], vectors: Vectors, *, first: Sequence[str] = ()
    ) -> None:
        """Records were written in this transaction; `first`: ids of those that are their memory's first."""
        if not self._inline:
            changes = [Change("put", record.memory.memory_id, record.memory.record_id) for record in records]
            await self._storage.queue.record(work, changes)
            return
        await self.apply(work, records, vectors, first=first)

    async def removed(self, work: Work, memory_id: str) -> None:
        """A memory was removed in this transaction."""
        if not self._inline:
            await self._storage.queue.record(work, [Change("delete", memory_id)])
            return
        await self.remove(work, [memory_id])

    # ---------------------------------------------------------------- what a worker and a repair do as well

    async def embedded(self, memories: Sequence[Memory], known: Vectors, *, new: bool = False) -> dict[str, Vector]:
        """All vectors of these records by the hash of their text, as far as possible without asking the model."""
        texts: dict[str, str] = {}
        pairs: set[tuple[str, str]] = set()
        for memory in memories:
            for text in vector_texts(memory).values():
                digest = content_hash(text)
                texts[digest] = text
                pairs.add((memory.memory_id, digest))
        vectors = {digest: known[digest] for digest in texts if digest in known}
        if not new:
            index = self._storage.vectors
            found = await index.known(None, [(key, digest) for key, digest in pairs if digest not in vectors])
            vectors |= {digest: vector for (_, digest), vector in found.items()}
        missing = [digest for digest in texts if digest not in vectors]
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            vectors |= await self._embed({digest: texts[digest] for digest in part})
        return vectors

    async def apply(
        self, work: Work | None, records: Sequence[StoredRecord], vectors: Vectors, *, first: Sequence[str] = ()
    ) -> None:
        """Has both indexes take in records."""
        firsts = set(first)
        indexed = [Indexed.of(record, first=record.memory.record_id in firsts) for record in records]
        storage = self._storage
        await storage.vectors.apply(
            self._within(work, storage.vectors.capabilities.place),
            [
                VectorEntry(
                    entry, {field: vectors[content_hash(text)] for field, text in vector_texts(record.memory).items()}
                )
                for entry, record in zip(indexed, records, strict=True)
            ],
        )
        texts = [words_text(record.memory) for record in records]
        await storage.keywords.apply(
            self._within(work, storage.keywords.capabilities.place),
            [KeywordEntry(entry, text, content_hash(text)) for entry, text in zip(indexed, texts, strict=True)],
        )

    async def remove(self, work: Work | None, memory_ids: Sequence[str]) -> None:
        """Has both indexes forget memories for good."""
        for index in (self._storage.vectors, self._storage.keywords):
            await index.remove(self._within(work, index.capabilities.place), memory_ids)

    async def reset(self, work: Work | None, memory_ids: Sequence[str]) -> None:
        """Has both indexes forget memories, so that they can be taken in anew."""
        for index in (self._storage.vectors, self._storage.keywords):
            await index.reset(self._within(work, index.capabilities.place), memory_ids)

    def _within(self, work: Work | None, place: str) -> Work | None:
        return work if place == self._storage.records.capabilities.place else None

    async def _embed(self, texts: Mapping[str, str]) -> dict[str, Vector]:
        provider = self._embedding
        answer = await provider.embed_batch(list(texts.values()))
        numbers = check_vectors(answer, count=len(texts), dims=provider.dims, model_id=provider.model_id)
        return {digest: Vector(digest, vector) for digest, vector in zip(texts, numbers, strict=True)}


def content_hash(text: str) -> str:
    """What a text is known by in the indexes: 128 bits of its hash."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def vector_texts(memory: Memory) -> dict[str, str]:
    """What of a record is embedded, by field."""
    return memory.index_hint.vector_texts(memory.content.text, _document(memory))


def words_text(memory: Memory) -> str:
    """The text whose words are found."""
    return memory.index_hint.words_of(memory.content.text, _document(memory))


def _document(memory: Memory) -> dict[str, object]:
    return {"data": memory.content.data, "metadata": memory.metadata}
