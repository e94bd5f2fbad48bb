"""Claims jobs of one kind, again and again, and has them worked off with no transaction open."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

from memground.background import Background
from memground.errors import ModelMismatchError, UnavailableError
from memground.postgres.queue import JobPolicy, JobQueue, Lease
from neuromem.db import Database

_log = logging.getLogger("neuromem.background")


class JobLoop(Background):
    """`work` is given a lease on some jobs of `kind`; it finishes or fails each of them.

    Several loops, in one process or many, share the work.
    """

    def __init__(
        self, database: Database, policy: JobPolicy, kind: str, work: Callable[[Lease], Awaitable[None]]
    ) -> None:
        self._database = database
        self._policy = policy
        self._queue = JobQueue(database.tables.jobs, policy)
        self._kind = kind
        self._work = work
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Says that there may be new jobs."""
        self._news.set()

    async def run(self) -> None:
        """Works until cancelled, then gives claimed jobs back; a server that is away is waited for."""
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
        """Works off what one claim gets; returns how many jobs that is."""
        async with self._database.session() as session:
            lease = await self._queue.claim(session, [self._kind])
        if not lease.jobs:
            return 0
        try:
            async with keeping(self._database, self._queue, lease):
                await self._work(lease)
        except (asyncio.CancelledError, ModelMismatchError):
            await self._give_back(lease)
            raise
        _log.info("jobs worked off: %d (%s)", len(lease.jobs), self._kind)
        return len(lease.jobs)

    async def _give_back(self, lease: Lease) -> None:
        with contextlib.suppress(Exception):  # stopping: an expired lease does the same, only later
            async with self._database.session() as session:
                await self._queue.release(session, lease)


@contextlib.asynccontextmanager
async def keeping(database: Database, queue: JobQueue, lease: Lease) -> AsyncGenerator[None]:
    """Renews the lease while the block works."""

    async def keep() -> None:
        while True:
            await asyncio.sleep(queue.policy.lease / 3)
            with contextlib.suppress(UnavailableError):
                async with database.session() as session:
                    await queue.extend(session, lease)

    keeper = asyncio.create_task(keep())
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)  # it may be in the middle of a statement
