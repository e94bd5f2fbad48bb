"""IndexSynchronizer: what of a record the indexes get, and when.

What is embedded is known by the hash of its text. A vector that a memory has, or had, for the same text is used again.

Indexes beside the truth are written in its transactions. Those elsewhere converge: the change is kept in the
transaction of the truth, and whoever works it off brings the indexes to what the truth says at that time, then looks
whether it still says so. So it does not matter how often, how late or in which order that happens.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from memground.embedding import EmbeddingProvider, check_vectors
from memground.errors import ConfigurationError, UnavailableError
from omnimem.models import Memory
from omnimem.storage.base import (
    Change,
    KeywordEntry,
    KeywordIndex,
    Storage,
    StoredRecord,
    Vector,
    VectorEntry,
    VectorIndex,
    Work,
)
from omnimem.storage.values import Indexed

type Vectors = Mapping[str, Vector]
"""Vectors by the hash of their text."""

BATCH = 256
"""Texts given to the embedding model in one call."""

NEVER = datetime.min.replace(tzinfo=UTC)
"""No record ends then: it stands for what an index was not told yet."""
_OWN_SECONDS = 5.0
"""How long a client that applies its own change is left to it, before a worker does the same."""

_log = logging.getLogger("omnimem.synchronizer")


class IndexSynchronizer:
    """Keeps the indexes of a storage in step with its truth.

    `mode` "inline": what was written is found when the call returns. Beside the truth that is one transaction;
    elsewhere the call applies the change after its commit, and leaves it to a worker where an index cannot be reached.
    "async": the change is recorded in the transaction of the truth, and a worker applies it.
    """

    def __init__(
        self, storage: Storage, embedding: EmbeddingProvider, mode: Literal["inline", "async"] = "inline"
    ) -> None:
        if storage.outbox is None and not storage.is_one_place:
            raise ConfigurationError("indexes or a queue that are not beside the truth need an outbox there")
        self._inline = mode == "inline"
        self._together = storage.outbox is None
        self._storage = storage
        self._embedding = embedding

    async def known(self, work: Work, memories: Sequence[Memory]) -> dict[str, Vector]:
        """Of the vectors a write of these records will need, those the memories have or had, by the hash of their text.

        `work`: a transaction of the truth.
        """
        if not self._inline:
            return {}
        pairs = {
            (memory.memory_id, content_hash(text)) for memory in memories for text in vector_texts(memory).values()
        }
        try:
            found = await self._storage.vectors.known(work if self._together else None, pairs)
        except UnavailableError:
            if self._together:
                raise
            return {}  # the model is asked again: an index that is away keeps nobody from the truth
        return {digest: vector for (_, digest), vector in found.items()}

    async def prepare(self, memories: Sequence[Memory], known: Vectors) -> dict[str, Vector]:
        """The vectors a write of these records will need: the model makes those that are not `known`.

        Before any transaction. Raises what the embedding model raises; asynchronously nothing is needed.
        """
        return await self.embedded(memories, known, new=True) if self._inline else {}

    def ready(self, memory: Memory, vectors: Vectors) -> bool:
        """Whether all vectors of a record are there."""
        return not self._inline or all(content_hash(text) in vectors for text in vector_texts(memory).values())

    async def written(
        self, work: Work, records: Sequence[StoredRecord], vectors: Vectors, *, first: Sequence[str] = ()
    ) -> None:
        """Records were written in this transaction; `first`: ids of those that are their memory's first."""
        if self._inline and self._together:
            await self.apply(work, records, vectors, first=first)
        else:
            await self._keep(work, [Change.put(record.memory) for record in records])

    async def removed(self, work: Work, memory_id: str) -> None:
        """A memory was removed in this transaction."""
        if self._inline and self._together:
            await self.remove(work, [memory_id])
        else:
            await self._keep(work, [Change("delete", memory_id)])

    async def settle(self, changes: Sequence[Change], vectors: Vectors) -> None:
        """The transaction of these changes committed. Whatever happens here, they are kept."""
        if not self._inline or self._storage.outbox is None:
            return
        try:
            await self.converge(changes, vectors, refresh=True)
            await self._storage.outbox.forget(changes)
        except Exception as error:  # noqa: BLE001 - the write is committed, whatever an index or the model says
            _log.warning("%d changes were written but are not found yet, a worker follows: %s", len(changes), error)

    async def _keep(self, work: Work, changes: Sequence[Change]) -> None:
        await self._storage.record(work, changes, delay=_OWN_SECONDS if self._inline else 0.0)

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
        self, work: Work, records: Sequence[StoredRecord], vectors: Vectors, *, first: Sequence[str] = ()
    ) -> None:
        """Has both indexes take in records, in the transaction of the truth."""
        firsts = set(first)
        indexed = [Indexed.of(record, first=record.memory.record_id in firsts) for record in records]
        await _both(
            (
                self._storage.vectors.apply(work, [vector_entry(entry, vectors) for entry in indexed]),
                self._storage.keywords.apply(work, [keyword_entry(entry) for entry in indexed]),
            )
        )

    async def converge(self, changes: Sequence[Change], known: Vectors, *, refresh: bool = False) -> None:
        """Brings indexes that are elsewhere to what the truth says of changed records, until it stays as it was read.

        Raises UnavailableError, what the model raises, and InvalidInputError for a record an index cannot take.
        """
        put = {change.record_id for change in changes if change.record_id is not None}
        memory_ids = {change.memory_id for change in changes}
        vectors, removed = dict(known), set[str]()
        applied: dict[str, datetime | None] = {}
        while True:
            async with self._storage.records.reading() as work:
                found = await self._storage.records.records(work, put, predecessors=True)
            fresh = [r for r in found if applied.get(r.memory.record_id, NEVER) != r.superseded_time]
            gone = memory_ids - {record.memory.memory_id for record in found} - removed
            if not fresh and not gone:
                return
            vectors = await self._follow(fresh, put, vectors, refresh)
            await _both(index.remove(None, gone) for index in self._indexes if gone)
            applied |= {record.memory.record_id: record.superseded_time for record in fresh}
            removed |= gone

    async def _follow(
        self, records: Sequence[StoredRecord], put: Collection[str], known: Vectors, refresh: bool
    ) -> dict[str, Vector]:
        """Has both indexes take in records; those that were not `put` are for an index that must be told they ended."""
        vectors, keywords = self._indexes
        changed = [record for record in records if record.memory.record_id in put]
        with_vectors = changed if vectors.capabilities.retires else records
        with_words = changed if keywords.capabilities.retires else records
        numbers = await self.embedded([record.memory for record in with_vectors], known)
        await _both(
            (
                vectors.apply(
                    None, [vector_entry(Indexed.of(record), numbers) for record in with_vectors], refresh=refresh
                ),
                keywords.apply(None, [keyword_entry(Indexed.of(record)) for record in with_words], refresh=refresh),
            )
        )
        return numbers

    async def remove(self, work: Work, memory_ids: Sequence[str]) -> None:
        """Has both indexes forget memories for good, in the transaction of the truth."""
        for index in self._indexes:
            await index.remove(work, memory_ids)

    async def reset(self, work: Work | None, memory_ids: Sequence[str]) -> None:
        """Has both indexes forget memories, so that they can be taken in anew."""
        for index in self._indexes:
            await index.reset(work, memory_ids)

    @property
    def _indexes(self) -> tuple[VectorIndex, KeywordIndex]:
        return self._storage.vectors, self._storage.keywords

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


def vector_entry(record: Indexed, vectors: Vectors) -> VectorEntry:
    """What the vector index gets of a record."""
    texts = vector_texts(record.memory)
    return VectorEntry(record, {field: vectors[content_hash(text)] for field, text in texts.items()})


def keyword_entry(record: Indexed) -> KeywordEntry:
    """What the keyword index gets of a record."""
    text = words_text(record.memory)
    return KeywordEntry(record, text, content_hash(text))


async def _both(calls: Iterable[Awaitable[None]]) -> None:
    """Both at once; where one fails the other is finished first."""
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if outcome is not None:
            raise outcome


def _document(memory: Memory) -> dict[str, object]:
    return {"data": memory.content.data, "metadata": memory.metadata}
