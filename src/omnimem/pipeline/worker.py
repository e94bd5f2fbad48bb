"""Applies changes that wait: the asynchronous half of index synchronisation."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from memground.embedding import EmbeddingProvider
from memground.errors import MemoryStoreError, ModelMismatchError, UnavailableError
from memground.jobs import JobPolicy
from omnimem.pipeline.synchronizer import IndexSynchronizer
from omnimem.storage.base import Change, Claim, Storage, Vector

_log = logging.getLogger("omnimem.worker")


class IndexWorker:
    """Works off the change queue. Several, in one process or many, share the work."""

    def __init__(self, storage: Storage, embedding: EmbeddingProvider, policy: JobPolicy) -> None:
        self._storage = storage
        self._policy = policy
        self._synchronizer = IndexSynchronizer(storage, embedding, "async")
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.run(), name="omnimem-worker")

    def wake(self) -> None:
        """Says that there may be new changes."""
        self._news.set()

    async def stop(self) -> None:
        """Stops after giving claimed changes back."""
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
                _log.error("the worker stops: %s", error)
                return
            except MemoryStoreError as error:
                _log.warning("the worker waits: %s", error)
                await asyncio.sleep(self._policy.poll)
            except Exception:  # noqa: BLE001 - whatever one batch met, its lease ends and the next try may do better
                _log.exception("changes could not be applied; they are tried again")
                await asyncio.sleep(self._policy.poll)
            if not busy:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), self._policy.poll)

    async def work_once(self) -> int:
        """Applies what one claim gets; returns how many changes that is."""
        claim = await self._storage.queue.claim()
        if not claim.changes:
            return 0
        keeper = asyncio.create_task(self._keep(claim))
        try:
            await self._apply(claim, claim.changes)
        except BaseException:
            with contextlib.suppress(Exception):  # an expired lease does the same, only later
                await self._storage.queue.release(claim)
            raise
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)  # it may be in the middle of a statement
        return len(claim.changes)

    async def _apply(self, claim: Claim, changes: Sequence[Change]) -> None:
        """Applies changes; where the model refuses some, the halves apart: one bad text must not fail those beside."""
        truth = self._storage.records
        ids = [change.record_id for change in changes if change.record_id is not None]
        async with truth.reading() as work:
            records = await truth.records(work, ids)
        try:
            vectors = await self._synchronizer.embedded([record.memory for record in records], {})
        except Exception as error:  # noqa: BLE001 - a provider may raise anything; the queue shows it, the worker goes on
            if len(changes) > 1 and not isinstance(error, UnavailableError):
                middle = len(changes) // 2
                await self._apply(claim, changes[:middle])
                await self._apply(claim, changes[middle:])
                return
            _log.warning("%d changes failed: %s: %s", len(changes), type(error).__name__, error)
            await self._storage.queue.fail(claim, changes, f"{type(error).__name__}: {error}")
            return
        await self._store(claim, changes, vectors)

    async def _store(self, claim: Claim, changes: Sequence[Change], vectors: dict[str, Vector]) -> None:
        """Applies the changes whose claim still holds, as the truth is now; nobody changes it meanwhile."""
        truth = self._storage.records
        async with truth.writing() as work:
            await truth.hold(work, {change.memory_id for change in changes})
            held = await self._storage.queue.finish(work, claim, changes)
            ids = [change.record_id for change in held if change.record_id is not None]
            records = await truth.records(work, ids)
            if records:
                await self._synchronizer.apply(work, records, vectors)
            if gone := [change.memory_id for change in held if change.kind == "delete"]:
                await self._synchronizer.remove(work, gone)

    async def _keep(self, claim: Claim) -> None:
        """Renews the claim while the model works."""
        while True:
            await asyncio.sleep(self._policy.lease / 3)
            with contextlib.suppress(UnavailableError):
                await self._storage.queue.extend(claim)
