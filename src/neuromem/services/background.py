"""Works off jobs while the program runs: the vectors of messages."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Mapping, Sequence

from sqlalchemy.dialects.postgresql import insert as upsert

from memground.embedding import EmbeddingProvider, check_vectors
from memground.errors import ModelMismatchError, UnavailableError
from memground.postgres.queue import JobPolicy, JobQueue, Lease
from neuromem.db import Database, Session
from neuromem.queries import messages as queries
from neuromem.queries.messages import EMBED_MESSAGE

type _Vectors = dict[uuid.UUID, list[float]]
type _Failure = tuple[Exception, list[uuid.UUID]]

_log = logging.getLogger("neuromem.background")


class BackgroundWorker:
    """Claims jobs, works with no transaction open, and stores each result once.

    Several workers, in one process or many, share the work.
    """

    def __init__(self, database: Database, embedding: EmbeddingProvider, policy: JobPolicy | None = None) -> None:
        self._database = database
        self._embedding = embedding
        self._policy = policy or JobPolicy()
        self._queue = JobQueue(database.tables.jobs, self._policy)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.run(), name="neuromem-background")

    def wake(self) -> None:
        """Says that there may be new jobs."""
        self._news.set()

    async def stop(self) -> None:
        """Stops after giving claimed jobs back."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def run(self) -> None:
        """Works until cancelled; a server that is away is waited for."""
        while True:
            self._news.clear()
            busy = 0
            try:
                busy = await self.work_once()
            except ModelMismatchError as error:
                _log.error("background work stops: %s", error)
                return
            except UnavailableError as error:
                _log.warning("background work waits: %s", error)
                await asyncio.sleep(self._policy.poll)
            except Exception:  # noqa: BLE001 - whatever one batch met, its lease ends and the next try may do better
                _log.exception("background work failed; it is tried again")
                await asyncio.sleep(self._policy.poll)
            if not busy:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), self._policy.poll)

    async def work_once(self) -> int:
        """Works off one batch; returns how many jobs it claimed."""
        async with self._database.session() as session:
            lease = await self._queue.claim(session, [EMBED_MESSAGE])
        if not lease.jobs:
            return 0
        keeper = asyncio.create_task(self._keep(lease))
        try:
            await self._embed_messages(lease)
        except (asyncio.CancelledError, ModelMismatchError):
            await self._give_back(lease)
            raise
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)  # it may be in the middle of a statement
        _log.info("jobs worked off: %d", len(lease.jobs))
        return len(lease.jobs)

    async def _embed_messages(self, lease: Lease) -> None:
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

    async def _give_back(self, lease: Lease) -> None:
        with contextlib.suppress(Exception):  # stopping: an expired lease does the same, only later
            async with self._database.session() as session:
                await self._queue.release(session, lease)

    async def _keep(self, lease: Lease) -> None:
        """Renews the lease while the model works."""
        while True:
            await asyncio.sleep(self._policy.lease / 3)
            with contextlib.suppress(UnavailableError):
                async with self._database.session() as session:
                    await self._queue.extend(session, lease)


_MIRRORED: Sequence[str] = (
    "message_id", "user_id", "version", "known_from", "known_to", "recorded_at", "origin", "closed_origin",
    "created_at",
)  # fmt: skip
