"""Works off the jobs of extraction: reads turns, asks the model, stores what it found once."""

import asyncio
import logging
import uuid
from datetime import UTC, tzinfo

from memground.embedding import EmbeddingProvider
from memground.errors import ConflictError, ModelMismatchError, TruncatedError, UnavailableError
from memground.postgres.engine import give_way
from memground.postgres.queue import Job, JobPolicy, JobQueue, Lease
from neuromem.db import Database, Session
from neuromem.extraction.asking import Asked
from neuromem.extraction.items import Extraction
from neuromem.extraction.policy import DigestPolicy, ExtractionPolicy, HygieneRules
from neuromem.providers.llm import LLMProvider
from neuromem.queries.extraction import ALL, MESSAGES, SESSION
from neuromem.services.digesting import DigestJobs
from neuromem.services.extraction import MemoryExtractionService, Vectors
from neuromem.services.extraction_jobs import ExtractionJobs
from neuromem.types import Source

CALLS_AT_ONCE = 4
"""Sessions that one program has the language model read at the same time."""

_PATIENCE, _PAUSE, _STORING = 0.5, 0.1, 200
"""Seconds that storing waits for others before it gives way, and then until it tries again; how often."""

_log = logging.getLogger("neuromem.background")


class MessageExtractor:
    """Makes memories of the turns that wait."""

    def __init__(
        self,
        database: Database,
        embedding: EmbeddingProvider,
        llm: LLMProvider,
        *,
        jobs: JobPolicy,
        policy: ExtractionPolicy,
        rules: HygieneRules,
        graph_enabled: bool = True,
        timezone: tzinfo = UTC,
        digest: DigestPolicy | None = None,
    ) -> None:
        self._database = database
        self._embedding = embedding
        self._llm = llm
        self._attempts = jobs.attempts
        self._queue = JobQueue(database.tables.jobs, jobs)
        self._policy = policy
        self._rules = rules
        self._graph_enabled = graph_enabled
        self._timezone = timezone
        self._digest = digest

    async def work(self, lease: Lease) -> None:
        """Each job by itself: one that fails leaves the others alone."""
        ended = await asyncio.gather(*(self._extract(lease, job) for job in lease.jobs), return_exceptions=True)
        for failure in ended:
            if failure is not None:
                raise failure

    async def _extract(self, lease: Lease, job: Job) -> None:
        async with self._database.read() as session:
            asked = await self._service(session).read(
                job.owner,
                job.payload[SESSION],
                self._policy,
                limit=self._turns(job),
                only=job.payload.get(MESSAGES, ()),
            )
        if asked is None:
            async with self._database.session() as session:
                await self._queue.finish(session, lease, [job.ref])
            return
        whole = asked
        try:
            while (found := await self._understand(asked)) is None:
                asked = asked.first_half
            await self._store(lease, job, asked, *found, all_of_it=asked is whole)
        except ModelMismatchError:
            raise
        except Exception as error:  # noqa: BLE001 - a provider may raise anything; the job shows it, the loop goes on
            await self._fail(lease, job, asked, error)

    async def _understand(self, asked: Asked) -> tuple[Extraction, Vectors] | None:
        """What was found in the turns; None where the model's answer about so many was too long for it.

        Both models are asked while no transaction is open: this session never begins one.
        """
        async with self._database.session() as session:
            service = self._service(session)
            try:
                extraction = await service._classify_messages(asked, self._policy)  # pyright: ignore[reportPrivateUsage]  # the seed's name
            except TruncatedError as error:
                if len(asked.turns) == 1:
                    raise
                _log.info("of %d turns: %s", len(asked.turns), error)
                return None
            return extraction, await service.embed(extraction)

    async def _store(
        self, lease: Lease, job: Job, asked: Asked, extraction: Extraction, vectors: Vectors, *, all_of_it: bool
    ) -> None:
        """Stores it once. What was left out (not `all_of_it`) goes on at once.

        A program's own transactions take the same locks in whatever order it calls us. Of two that wait for each
        other this one, which can be run again at no cost, gives way.
        """
        for _ in range(_STORING):
            try:
                return await self._try_to_store(lease, job, asked, extraction, vectors, all_of_it=all_of_it)
            except ConflictError as error:
                _log.info("storing what was extracted waits: %s", error)
                await asyncio.sleep(_PAUSE)
        return await self._try_to_store(lease, job, asked, extraction, vectors, all_of_it=all_of_it)

    async def _try_to_store(
        self, lease: Lease, job: Job, asked: Asked, extraction: Extraction, vectors: Vectors, *, all_of_it: bool
    ) -> None:
        async with self._database.session() as session:
            await give_way(session, _PATIENCE)
            await session.hold(job.owner)
            payload = await self._queue.payload(session, lease, job.ref)
            if payload is None or not await self._queue.finish(session, lease, [job.ref]):
                _log.info("an extraction took longer than its lease; another worker does it")
                return
            service = self._service(session)
            await service.hold(job.owner)
            if not await service.waits(job.owner, asked):
                _log.info("turns were extracted by somebody else meanwhile; what is left is read again")
                await ExtractionJobs(session, self._queue).again(
                    job.owner, job.payload[SESSION], self._policy, at_once=True
                )
                return
            stamp = session.stamp(f"extraction-{uuid.uuid4().hex[:12]}")
            result = await service.store(
                job.owner, extraction, vectors, stamp, sources=[Source("message", turn.id) for turn in asked.turns]
            )
            if self._digest is not None:
                await DigestJobs(session, self._queue).gather(job.owner, result.news, self._digest)
            at_once = ALL in payload or job.attempts > 1 or not all_of_it
            await ExtractionJobs(session, self._queue).again(
                job.owner, job.payload[SESSION], self._policy, at_once=at_once
            )
        _log.info(
            "extracted %d turns: %d memories added, %d told again, %d values",
            len(asked.turns),
            len(result.added),
            len(result.enriched) + len(result.restated),
            len(result.profile),
        )

    async def _fail(self, lease: Lease, job: Job, asked: Asked, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        _log.warning("extracting %d turns failed: %s", len(asked.turns), text)
        async with self._database.session() as session:
            await session.hold(job.owner)
            # Where the model answers, and no try could use its answer, it is these turns: the others go on.
            if job.attempts < self._attempts or isinstance(error, UnavailableError) or MESSAGES in job.payload:
                await self._queue.fail(session, lease, [job.ref], text)
                return
            jobs = ExtractionJobs(session, self._queue)
            if await jobs.set_aside(lease, job, [turn.id for turn in asked.turns], text):
                await jobs.again(job.owner, job.payload[SESSION], self._policy, at_once=True)

    def _turns(self, job: Job) -> int:
        """How many turns the model is shown: the same again once, then ever fewer, because one of them may be why."""
        return max(1, self._policy.messages >> max(0, job.attempts - 2))

    def _service(self, session: Session) -> MemoryExtractionService:
        return MemoryExtractionService(
            session,
            self._embedding,
            self._llm,
            rules=self._rules,
            graph_enabled=self._graph_enabled,
            timezone=self._timezone,
        )
