"""Changes in PostgreSQL: jobs, recorded in the transaction of the truth."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from memground.errors import InvalidInputError, MemoryStoreError
from memground.postgres.queue import Job, JobPolicy, JobQueue, Lease, NewJob, QueueStatus
from omnimem.storage.base import Capabilities, Change, ChangeQueue, Claim, FailedChange, Work
from omnimem.storage.postgres.database import Database

_KIND = "index"
_DELETION = "-"
_PATIENCE = 5.0
"""Seconds that a claim which is cancelled waits for the server, to give back what it may have taken."""


class PostgresQueue(ChangeQueue):
    """One job for each record, and one for each memory that was deleted."""

    def __init__(self, database: Database, policy: JobPolicy) -> None:
        self._database = database
        self._queue = JobQueue(database.tables.jobs, policy)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self._database.place, filters=False, as_of=False)

    async def record(self, work: Work | None, changes: Sequence[Change]) -> None:
        jobs = [NewJob(_KIND, _ref(change), change.memory_id) for change in changes]
        async with self._database.joined(work) as tx:
            await self._queue.enqueue(tx, jobs)

    async def claim(self, *, wait: float = 0.0) -> Claim:
        claiming = asyncio.ensure_future(self._claim())
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # It may be committed: what was taken and nobody knows of would wait until its lease ends.
            with suppress(MemoryStoreError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self.release(await claiming)
            raise

    async def _claim(self) -> Claim:
        async with self._database.writing() as tx:
            lease = await self._queue.claim(tx, [_KIND])
        return Claim([_change(job) for job in lease.jobs], lease)

    async def extend(self, claim: Claim) -> None:
        async with self._database.writing() as tx:
            await self._queue.extend(tx, _lease(claim))

    async def finish(self, work: Work | None, claim: Claim, changes: Sequence[Change]) -> list[Change]:
        async with self._database.joined(work) as tx:
            held = await self._queue.finish(tx, _lease(claim), [_ref(change) for change in changes])
        return [change for change in changes if _ref(change) in held]

    async def fail(self, claim: Claim, changes: Sequence[Change], error: str) -> None:
        async with self._database.writing() as tx:
            await self._queue.fail(tx, _lease(claim), [_ref(change) for change in changes], error)

    async def release(self, claim: Claim) -> None:
        async with self._database.writing() as tx:
            await self._queue.release(tx, _lease(claim))

    async def status(self) -> QueueStatus:
        async with self._database.reading() as tx:
            return await self._queue.status(tx)

    async def failed(self, limit: int) -> list[FailedChange]:
        async with self._database.reading() as tx:
            found = await self._queue.failed(tx, limit)
        return [FailedChange(_change(failed.job), failed.job.attempts, failed.error, failed.time) for failed in found]

    async def retry_failed(self) -> int:
        async with self._database.writing() as tx:
            return await self._queue.retry_failed(tx)


def _ref(change: Change) -> str:
    return f"{_DELETION}{change.memory_id}" if change.record_id is None else f"+{change.record_id}"


def _change(job: Job) -> Change:
    if job.ref.startswith(_DELETION):
        return Change("delete", job.owner)
    return Change("put", job.owner, job.ref[1:])


def _lease(claim: Claim) -> Lease:
    if not isinstance(claim.token, Lease):
        raise InvalidInputError("a claim of another queue was handed to this one")
    return claim.token
