"""Has memories reflected on: for whoever asks, and in the background; by one at a time."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Mapping
from datetime import UTC, tzinfo

from memground.embedding import EmbeddingProvider
from memground.errors import ConflictError, ModelMismatchError
from memground.postgres.engine import give_way
from memground.postgres.queue import Job, JobPolicy, JobQueue, Lease, NewJob
from memground.view import View
from neuromem import checks
from neuromem.db import Database, Session
from neuromem.extraction.policy import DigestPolicy, HygieneRules
from neuromem.providers.llm import LLMProvider
from neuromem.queries.digest import DIGEST, LIMIT
from neuromem.services.emotion import EmotionService
from neuromem.services.job_loop import keeping
from neuromem.services.reflection import Material, Reflected, ReflectionService
from neuromem.types import DigestResult

_PATIENCE, _PAUSE, _STORING = 0.5, 0.1, 200
"""Seconds that storing waits for others before it gives way, and then until it tries again; how often."""

_READINGS = 3
"""How often memories are read again that others changed meanwhile."""

_GATHERED = "gathered"

_log = logging.getLogger("neuromem.background")


class DigestJobs:
    """Records when a user's memories are to be reflected on, in the session's transaction. One job per user."""

    def __init__(self, session: Session, queue: JobQueue | None = None) -> None:
        self._session = session
        self._jobs = session.tables.jobs
        self._queue = queue or JobQueue(session.tables.jobs)

    async def gather(self, user_id: str, count: int, policy: DigestPolicy) -> None:
        """So many new memories wait."""
        if count:
            job = digest_job(user_id, policy.limit)
            await self._queue.gather(self._session, [(job, count)], enough=policy.memories, idle=policy.idle)

    async def hurry(self) -> int:
        """Makes waiting work due; returns how many jobs."""
        return await self._queue.hurry(self._session, self._jobs.c.kind == DIGEST, note={})

    async def restart(self, user_id: str) -> None:
        """After memories came or went: what is being found is not stored; what was planned is planned anew."""
        mine = (self._jobs.c.kind == DIGEST, self._jobs.c.owner == user_id)
        planned = self._jobs.select().where(*mine)
        found = (await self._session.execute(planned)).mappings().first()
        if found is not None and await self._queue.cancel(self._session, *mine) and _GATHERED in found["payload"]:
            await self._queue.enqueue(self._session, [NewJob(DIGEST, found["ref"], user_id, found["payload"])])


class Digester:
    """Reads news, asks the models with no transaction open, and stores all that was found at once, or nothing."""

    def __init__(
        self,
        database: Database,
        embedding: EmbeddingProvider,
        llm: LLMProvider,
        *,
        jobs: JobPolicy,
        policy: DigestPolicy | None = None,
        rules: HygieneRules | None = None,
        timezone: tzinfo = UTC,
    ) -> None:
        self._database = database
        self._embedding = embedding
        self._llm = llm
        self._queue = JobQueue(database.tables.jobs, jobs)
        self._policy = policy
        self._rules = rules
        self._timezone = timezone

    async def digest(self, user_id: str, *, limit: int) -> DigestResult:
        """Digests now. Whoever comes second waits, and then finds what is still news.

        Raises what the models raise; then nothing was stored.
        """
        checks.name(user_id, "user_id")
        checks.limit(limit)
        if await self._nothing_new(user_id):
            return await self._unchanged(user_id)
        while True:
            lease = await self._take(user_id, limit)
            try:
                async with keeping(self._database, self._queue, lease):
                    done = await self._work(lease, lease.jobs[0], limit)
            except _Lost:
                continue
            except BaseException:
                await self._leave(lease)
                raise
            return done or await self._unchanged(user_id)

    async def work(self, lease: Lease) -> None:
        """Works off jobs in the background, each by itself: one that fails leaves the others alone."""
        ended = await asyncio.gather(*(self._background(lease, job) for job in lease.jobs), return_exceptions=True)
        for failure in ended:
            if failure is not None:
                raise failure

    async def _background(self, lease: Lease, job: Job) -> None:
        limit = job.payload.get(LIMIT) or DigestPolicy().limit
        try:
            done = await self._work(lease, job, limit)
        except ModelMismatchError:
            raise
        except _Lost:
            _log.info("a digest took longer than its lease, or memories came or went; it is not stored")
            return
        except Exception as error:  # noqa: BLE001 - a provider may raise anything; the job shows it, the loop goes on
            _log.warning("a digest failed: %s: %s", type(error).__name__, error)
            async with self._database.session() as session:
                await self._queue.fail(session, lease, [job.ref], f"{type(error).__name__}: {error}")
            return
        if done is not None:
            _log.info("digested %d memories: %d insights", done.read, len(done.insights) + len(done.restated))

    async def _work(self, lease: Lease, job: Job, limit: int) -> DigestResult | None:
        """Digests under a lease; None where nothing was news. The job is then done. Raises _Lost with the lease."""
        for reading in range(_READINGS):
            async with self._database.read() as session:
                material = await self._service(session).read(job.owner, limit=limit)
            if material is None:
                async with self._database.session() as session:
                    await self._queue.finish(session, lease, [job.ref])
                return None
            async with self._database.session() as session:  # takes no connection: it runs no statement
                reflected = await self._service(session).reflect(material)
            try:
                return await self._store(lease, job, material, reflected)
            except _Changed:
                _log.info("memories were changed while they were digested (%d); they are read again", reading + 1)
        raise ConflictError(f"the memories of {job.owner!r} are changed again and again while they are digested")

    async def _store(self, lease: Lease, job: Job, material: Material, reflected: Reflected) -> DigestResult:
        """Stores it once. A program's own transactions take the same locks in any order: this one gives way."""
        for _ in range(_STORING):
            try:
                return await self._try_to_store(lease, job, material, reflected)
            except ConflictError as error:
                _log.info("storing a digest waits: %s", error)
                await asyncio.sleep(_PAUSE)
        return await self._try_to_store(lease, job, material, reflected)

    async def _try_to_store(self, lease: Lease, job: Job, material: Material, reflected: Reflected) -> DigestResult:
        async with self._database.session() as session:
            await give_way(session, _PATIENCE)
            await session.hold(job.owner)
            service = self._service(session)
            if not await self._queue.finish(session, lease, [job.ref]):
                raise _Lost
            if not await service.stands(job.owner, material):
                raise _Changed
            done = await service.store(job.owner, material, reflected)
            if self._policy is not None:
                left = await service.count_news(job.owner)
                await DigestJobs(session, self._queue).gather(job.owner, left, self._policy)
            return done

    async def _take(self, user_id: str, limit: int) -> Lease:
        job = digest_job(user_id, limit)
        while True:
            async with self._database.session() as session:
                if (lease := await self._queue.take(session, job)) is not None:
                    return lease
            await asyncio.sleep(_PAUSE)

    async def _leave(self, lease: Lease) -> None:
        """After an error: a job that was planned stays so, one that was only this call's goes."""
        with contextlib.suppress(Exception):  # an expired lease does the same, only later
            async with self._database.session() as session:
                if _GATHERED in lease.jobs[0].payload:
                    await self._queue.release(session, lease)
                else:
                    await self._queue.finish(session, lease, [job.ref for job in lease.jobs])

    async def _nothing_new(self, user_id: str) -> bool:
        async with self._database.read() as session:
            return not await self._service(session).has_news(user_id)

    async def _unchanged(self, user_id: str) -> DigestResult:
        async with self._database.read() as session:
            view = View(now=session.clock.now())
            emotion = await EmotionService(session).profile(user_id, view)
        return DigestResult(None, view.now, emotion=emotion if emotion.annotated else None)

    def _service(self, session: Session) -> ReflectionService:
        return ReflectionService(session, self._embedding, self._llm, rules=self._rules, timezone=self._timezone)


class _Changed(Exception):
    """What was read is no longer as it was."""


class _Lost(Exception):
    """The lease is another's now, or its job was cancelled: a result must not be stored."""


def digest_job(user_id: str, limit: int) -> NewJob:
    """The one job there is of a user's digest."""
    ref = uuid.uuid5(uuid.NAMESPACE_OID, f"digest/{user_id}")
    payload: Mapping[str, int] = {LIMIT: limit}
    return NewJob(DIGEST, ref.hex, user_id, payload)
