"""Objects in storage and the rows that name them never part.

A storage takes part in no transaction. So whatever is stored there is doomed first, by a job that is recorded before
the object exists, and pardoned by the transaction that records its row::

    async with database.session() as session:
        await StoredObjects(session).expect(user_id, prefix)      # committed: from here on a kill leaves nothing
    key = await storage.upload(prefix, …)                         # meanwhile `renew` now and then
    async with database.session() as session:
        await session.hold(user_id)
        await StoredObjects(session).keep(user_id, prefix)        # raises when it is too late
        …                                                         # the row that names the key

Who deletes rows for good calls `discard` in the same transaction, with the keys no row names any more.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256

from memground.errors import ConflictError, UnavailableError
from memground.postgres.guards import NOBODY, Guards
from memground.postgres.queue import Job, JobPolicy, JobQueue, Lease, NewJob
from neuromem.db import Database, Session
from neuromem.providers.storage import ObjectStorage

REMOVE_OBJECT = "remove_object"
"""Kind of the job that removes an object (payload `key`) or what an upload may have left (payload `prefix`)."""

_KEY, _PREFIX = "key", "prefix"
_AT_ONCE = 8
_FOR_EVER = 2**31 - 1

_log = logging.getLogger("neuromem.background")


class StoredObjects:
    """Says in the session's transaction which objects stay and which go.

    `policy`: an upload under way has `lease` seconds to show that it lives.
    """

    def __init__(self, session: Session, policy: JobPolicy | None = None) -> None:
        self._session = session
        self._queue = JobQueue(session.tables.jobs)
        self._guards = Guards(session.tables.jobs, (policy or JobPolicy()).lease)

    async def expect(self, user_id: str, prefix: str) -> None:
        """An upload begins: what is stored under this prefix, which is its alone, is removed unless it is kept."""
        await self._guards.arm(self._session, _upload(user_id, prefix))

    async def renew(self, user_id: str, prefix: str) -> bool:
        """The upload still goes on; False when it is too late, and comes to nothing."""
        return await self._guards.put_off(self._session, _upload(user_id, prefix))

    async def keep(self, user_id: str, prefix: str) -> None:
        """What is stored under the prefix stays, if this transaction commits; until it ends nobody removes it.

        The caller holds the user: who withdraws uploads holds it alone, and then waits for their jobs. Raises
        ConflictError when it is too late: the upload did not renew in time, or was withdrawn.
        """
        if not await self._guards.disarm(self._session, _upload(user_id, prefix)):
            raise ConflictError(
                "the upload was given up meanwhile, because it paused for too long or the user's data was erased; "
                "nothing was stored, upload it again"
            )

    async def give_up(self, prefix: str) -> None:
        """The upload failed: what it left is removed at once, and what may still come when its time is over."""
        job = NewJob(REMOVE_OBJECT, _ref(f"again/{prefix}"), NOBODY, {_PREFIX: prefix})
        await self._queue.enqueue(self._session, [job])

    async def withdraw(self, user_id: str) -> int:
        """The user's uploads under way come to nothing: `keep` will refuse them. Returns how many.

        From now on their jobs name no user.
        """
        return await self._guards.seize(self._session, REMOVE_OBJECT, user_id)

    async def discard(self, keys: Iterable[str]) -> int:
        """Objects that no row names any more are removed after this transaction commits; returns how many.

        The jobs name the keys alone, no user.
        """
        jobs = [NewJob(REMOVE_OBJECT, _ref(key), NOBODY, {_KEY: key}) for key in sorted(set(keys))]
        await self._queue.enqueue(self._session, jobs)
        return len(jobs)


class ObjectRemover:
    """Removes objects whose time has come. A storage that is away is tried again for as long as it takes."""

    def __init__(self, database: Database, storage: ObjectStorage, policy: JobPolicy) -> None:
        self._database = database
        self._storage = storage
        self._queue = JobQueue(database.tables.jobs, policy)
        self._patient = JobQueue(database.tables.jobs, replace(policy, attempts=_FOR_EVER))

    async def work(self, lease: Lease) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def remove(job: Job) -> tuple[Job, Exception | None]:
            async with gate:
                try:
                    await self._remove(job)
                except Exception as error:  # noqa: BLE001 - a storage may raise anything; the job shows it, and goes on
                    return job, error
                return job, None

        ended = await asyncio.gather(*(remove(job) for job in lease.jobs))
        async with self._database.session() as session:
            await self._queue.finish(session, lease, [job.ref for job, error in ended if error is None])
        for job, error in ended:
            if error is not None:
                _log.warning("an object could not be removed: %s: %s", type(error).__name__, error)
                queue = self._patient if isinstance(error, UnavailableError) else self._queue
                async with self._database.session() as session:
                    await queue.fail(session, lease, [job.ref], f"{type(error).__name__}: {error}")

    async def _remove(self, job: Job) -> None:
        if _KEY in job.payload:
            await self._storage.delete(job.payload[_KEY])
        else:
            await self._storage.delete_prefix(job.payload[_PREFIX])


def _upload(user_id: str, prefix: str) -> NewJob:
    return NewJob(REMOVE_OBJECT, _ref(prefix), user_id, {_PREFIX: prefix})


def object_refs(keys: Iterable[str]) -> list[str]:
    """What the jobs are called that remove objects."""
    return [_ref(key) for key in keys]


def _ref(name: str) -> str:
    return sha256(name.encode()).hexdigest()
