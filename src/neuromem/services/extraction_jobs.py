"""Which conversations wait to be extracted: one job per session, beside one for each batch that could not be."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime

from memground.postgres.queue import Job, JobQueue, Lease, NewJob
from neuromem import checks
from neuromem.db import Session
from neuromem.extraction.policy import ExtractionPolicy
from neuromem.queries import extraction as queries
from neuromem.queries.extraction import ALL, EXTRACT, MESSAGES, SESSION
from neuromem.types import ExtractionFailure, ExtractionStatus


class ExtractionJobs:
    """Records, hurries and counts the work of extraction in the session's transaction."""

    def __init__(self, session: Session, queue: JobQueue | None = None) -> None:
        self._session = session
        self._tables = session.tables
        self._queue = queue or JobQueue(session.tables.jobs)

    async def gather(self, user_id: str, turns: Mapping[str, int], policy: ExtractionPolicy) -> None:
        """So many new turns per session wait."""
        jobs = [(_session_job(user_id, session_id), count) for session_id, count in turns.items()]
        await self._queue.gather(self._session, jobs, enough=policy.messages, idle=policy.idle)

    async def hurry(self, user_id: str | None = None, session_id: str | None = None) -> int:
        """Makes waiting work due: all, a user's, a session's; returns how many jobs."""
        jobs = self._tables.jobs
        where = [jobs.c.kind == EXTRACT]
        if user_id is not None:
            where.append(jobs.c.owner == user_id)
            if session_id is not None:
                where.append(jobs.c.ref == _session_job(user_id, session_id).ref)
        return await self._queue.hurry(self._session, *where, note={ALL: True})

    async def plan(self, user_id: str, session_id: str | None = None) -> int:
        """Plans the extraction of every message that was not extracted, at once; returns how many there are."""
        checks.name(user_id, "user_id")
        checks.optional_name(session_id, "session_id")
        await self._session.hold(user_id)
        found = await self._waiting(user_id, session_id)
        jobs = [(_session_job(user_id, name, all_of_it=True), count) for name, count in found.items()]
        await self._queue.gather(self._session, jobs, enough=1, idle=0)
        return sum(found.values())

    async def again(self, user_id: str, session_id: str, policy: ExtractionPolicy, *, at_once: bool = False) -> None:
        """After a batch was done: what is left in the session waits, too."""
        if count := (await self._waiting(user_id, session_id)).get(session_id):
            enough, idle = (1, 0.0) if at_once else (policy.messages, policy.idle)
            job = _session_job(user_id, session_id, all_of_it=at_once)
            await self._queue.gather(self._session, [(job, count)], enough=enough, idle=idle)

    async def set_aside(self, lease: Lease, job: Job, message_ids: Sequence[str], error: str) -> bool:
        """After the last try: these messages fail by themselves, so that those after them are extracted."""
        session_id = job.payload[SESSION]
        ref = f"{job.ref.partition('/')[0]}/{uuid.UUID(message_ids[0]).hex}"
        failed = NewJob(EXTRACT, ref, job.owner, {SESSION: session_id, MESSAGES: list(message_ids)})
        return await self._queue.set_aside(self._session, lease, job.ref, failed, error)

    async def restart(self, user_id: str) -> None:
        """After messages came or went: results on their way are not stored; what still waits is planned anew."""
        jobs = self._tables.jobs
        mine = (jobs.c.kind == EXTRACT, jobs.c.owner == user_id)
        planned = set((await self._session.execute(queries.planned(self._tables, user_id))).scalars())
        if not await self._queue.cancel(self._session, *mine):
            return
        found = await self._waiting(user_id, None)
        again = [
            (_session_job(user_id, name, all_of_it=True), count) for name, count in found.items() if name in planned
        ]
        await self._queue.gather(self._session, again, enough=1, idle=0)

    async def status(self, user_id: str) -> ExtractionStatus:
        """How far the user's messages are extracted."""
        checks.name(user_id, "user_id")
        counted = (await self._session.execute(queries.counted(self._tables, user_id))).one()
        waits = await self._waiting(user_id, None)
        due: list[datetime] = []
        failures: list[ExtractionFailure] = []
        failed = 0
        for row in await self._session.execute(queries.jobs_of(self._tables, user_id)):
            if row.failed_at is None:
                due.append(row.run_after)
                continue
            session_id, ids = row.payload[SESSION], tuple(row.payload.get(MESSAGES, ()))
            failed += len(ids) or waits.get(session_id, 0)
            failures.append(ExtractionFailure(session_id, ids, row.last_error, row.attempts, row.failed_at))
        return ExtractionStatus(
            user_id=user_id,
            extracted=counted.extracted,
            pending=max(0, counted.total - counted.extracted - failed),
            failed=failed,
            due=min(due, default=None),
            failures=tuple(failures),
        )

    async def unextracted(self, user_id: str) -> int:
        """How many of a user's turns nothing was extracted from yet."""
        return sum((await self._waiting(user_id, None)).values())

    async def retry(self, user_id: str | None = None) -> int:
        """Gives what failed another round of tries; returns how many jobs."""
        jobs = self._tables.jobs
        where = [jobs.c.kind == EXTRACT]
        if user_id is not None:
            where.append(jobs.c.owner == checks.name(user_id, "user_id"))
        return await self._queue.retry_failed(self._session, *where)

    async def _waiting(self, user_id: str, session_id: str | None) -> dict[str, int]:
        """How many turns wait per session, those set aside not counted."""
        found = await self._session.execute(queries.waiting(self._tables, user_id, session_id))
        return {row.session_id: row.turns for row in found}


def _session_job(user_id: str, session_id: str, *, all_of_it: bool = False) -> NewJob:
    ref = uuid.uuid5(uuid.NAMESPACE_OID, f"extract/{len(user_id)}/{user_id}{session_id}")
    return NewJob(EXTRACT, ref.hex, user_id, {SESSION: session_id, **({ALL: True} if all_of_it else {})})
