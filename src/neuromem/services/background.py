"""Works off jobs while the program runs: the vectors of messages, and what is extracted from them."""

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy.dialects.postgresql import insert as upsert

from memground.embedding import EmbeddingProvider, check_vectors
from memground.errors import UnavailableError
from memground.postgres.queue import JobPolicy, JobQueue, Lease
from neuromem.db import Database, Session
from neuromem.providers.storage import ObjectStorage
from neuromem.queries import messages as queries
from neuromem.queries.digest import DIGEST
from neuromem.queries.extraction import EXTRACT
from neuromem.queries.messages import EMBED_MESSAGE
from neuromem.services.digesting import Digester
from neuromem.services.extracting import CALLS_AT_ONCE, MessageExtractor
from neuromem.services.job_loop import JobLoop
from neuromem.services.stored_objects import REMOVE_OBJECT, ObjectRemover

type _Vectors = dict[uuid.UUID, list[float]]
type _Failure = tuple[Exception, list[uuid.UUID]]

_log = logging.getLogger("neuromem.background")


class BackgroundWorker:
    """Makes the vectors of messages; with an extractor memories of conversations, with a digester insights of these;
    with a storage, removes objects.

    Each has a loop of its own, so that a slow language model keeps no vector waiting. Several workers, in one process
    or many, share the work.
    """

    def __init__(
        self,
        database: Database,
        embedding: EmbeddingProvider,
        policy: JobPolicy | None = None,
        *,
        extractor: MessageExtractor | None = None,
        digester: Digester | None = None,
        storage: ObjectStorage | None = None,
    ) -> None:
        policy = policy or JobPolicy()
        embedder = MessageEmbedder(database, embedding, JobQueue(database.tables.jobs, policy))
        self._loops = [JobLoop(database, policy, EMBED_MESSAGE, embedder.work)]
        self._extraction: JobLoop | None = None
        if extractor is not None:
            claims = replace(policy, batch=CALLS_AT_ONCE)
            self._extraction = JobLoop(database, claims, EXTRACT, extractor.work)
            self._loops.append(self._extraction)
        if digester is not None:
            self._loops.append(JobLoop(database, replace(policy, batch=1), DIGEST, digester.work))
        if storage is not None:
            remover = ObjectRemover(database, storage, policy)
            self._loops.append(JobLoop(database, policy, REMOVE_OBJECT, remover.work))

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    def wake(self) -> None:
        """Says that there may be new jobs."""
        for loop in self._loops:
            loop.wake()

    async def stop(self) -> None:
        """Stops after giving claimed jobs back."""
        await asyncio.gather(*(loop.stop() for loop in self._loops))

    async def work_once(self) -> int:
        """Works off one claim of each kind; returns how many jobs that is."""
        return sum([await loop.work_once() for loop in self._loops])

    async def extract_what_is_due(self) -> None:
        """Extracts until nothing more can be: what fails is left to a later start."""
        while self._extraction is not None and await self._extraction.work_once():
            pass


class MessageEmbedder:
    """Makes the vectors of messages and stores each once."""

    def __init__(self, database: Database, embedding: EmbeddingProvider, queue: JobQueue) -> None:
        self._database = database
        self._embedding = embedding
        self._queue = queue

    async def work(self, lease: Lease) -> None:
        ids = [uuid.UUID(job.ref) for job in lease.jobs]
        async with self._database.read() as session:
            found = (await session.execute(queries.to_embed(session.tables, ids))).all()
        texts = {row.message_id: queries.text_to_embed(row) for row in found}
        vectors, failures = await self._embed(texts)
        gone = [str(key) for key in ids if key not in texts]
        async with self._database.session() as session:
            await self._store(session, lease, vectors, gone)
        for error, keys in failures:
            async with self._database.session() as session:
                await self._queue.fail(session, lease, map(str, keys), f"{type(error).__name__}: {error}")

    async def _embed(self, texts: Mapping[uuid.UUID, str]) -> tuple[_Vectors, list[_Failure]]:
        """Vectors of what can be embedded, and what cannot: one bad text must not fail those beside it."""
        if not texts:
            return {}, []
        provider = self._embedding
        try:
            answer = await provider.embed_batch(list(texts.values()))
            vectors = check_vectors(answer, count=len(texts), dims=provider.dims, model_id=provider.model_id)
        except Exception as error:  # noqa: BLE001 - a provider may raise anything; the job shows it, the loop goes on
            keys = list(texts)
            if len(keys) == 1 or isinstance(error, UnavailableError):
                _log.warning("embedding %d messages failed: %s: %s", len(keys), type(error).__name__, error)
                return {}, [(error, keys)]
            middle = len(keys) // 2
            halves = [await self._embed({key: texts[key] for key in half}) for half in (keys[:middle], keys[middle:])]
            return halves[0][0] | halves[1][0], halves[0][1] + halves[1][1]
        return dict(zip(texts, vectors, strict=True)), []

    async def _store(self, session: Session, lease: Lease, vectors: _Vectors, gone: Sequence[str]) -> None:
        """Stores vectors beside every version of their messages, for the jobs whose lease still holds.

        The messages are held before they are read: whoever ends or restores them waits, or is seen.
        """
        tables = session.tables
        ids = sorted(vectors)
        for owner in sorted({job.owner for job in lease.jobs}):
            await session.hold(owner)
        await session.execute(queries.lock_messages(tables, ids))
        held = await self._queue.finish(session, lease, [*map(str, ids), *gone])
        kept = [key for key in ids if str(key) in held]
        if not kept:
            return
        rows = [
            {
                "id": uuid.uuid4(),
                **{name: row[name] for name in _MIRRORED},
                tables.vector_column: vectors[row["message_id"]],
            }
            for row in (await session.execute(queries.versions(tables, kept))).mappings()
        ]
        table = tables.conversation_embeddings.table
        await session.execute(upsert(table).on_conflict_do_nothing(index_elements=["message_id", "version"]), rows)


_MIRRORED: Sequence[str] = (
    "message_id", "user_id", "version", "known_from", "known_to", "recorded_at", "origin", "closed_origin",
    "created_at",
)  # fmt: skip
