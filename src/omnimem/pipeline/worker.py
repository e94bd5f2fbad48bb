"""Applies changes that wait: the asynchronous half of index synchronisation."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from memground.background import Background
from memground.embedding import EmbeddingProvider
from memground.errors import MemoryStoreError, ModelMismatchError, UnavailableError
from memground.jobs import JobPolicy
from omnimem.pipeline.relay import Relay
from omnimem.pipeline.synchronizer import IndexSynchronizer
from omnimem.storage.base import Change, Claim, Storage, Vector, Work

_log = logging.getLogger("omnimem.worker")
_RELAY_SECONDS = 0.05
"""Between looks into the outbox: a part of the time in which a change is not found yet."""


class IndexWorker(Background):
    """Works off the change queue. Several, in one process or many, share the work."""

    def __init__(self, storage: Storage, embedding: EmbeddingProvider, policy: JobPolicy) -> None:
        self._storage = storage
        self._policy = policy
        self._synchronizer = IndexSynchronizer(storage, embedding, "async")
        self._together = storage.outbox is None
        self._relay = None if storage.outbox is None else Relay(storage.outbox, storage.queue)
        self._queued, self._kept = asyncio.Event(), asyncio.Event()
        self.applied = 0

    def wake(self) -> None:
        """Says that there may be new changes."""
        self._kept.set()
        self._queued.set()

    async def run(self) -> None:
        """Works until cancelled, then gives claimed changes back; a server that is away is waited for."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self._work, self._policy.poll, self._queued))
            if self._relay is not None:
                pause = min(self._policy.poll, _RELAY_SECONDS)
                tasks.create_task(self._repeat(self._relay_part, pause, self._kept))

    async def work_once(self, *, wait: float = 0.0) -> int:
        """Applies what one claim gets; returns how many changes that is. Without a running worker it relays as well."""
        if self._relay is not None and self._task is None:
            await self._relay.run_once()
        return await self._work(wait)

    async def _repeat(self, step: Callable[[float], Awaitable[int]], pause: float, news: asyncio.Event) -> None:
        """One step after the other; where there is nothing to do a pause, or until news; after an error a pause."""
        loop = asyncio.get_running_loop()
        while True:
            news.clear()
            begun, busy, failed = loop.time(), 0, False
            try:
                busy = await step(pause)
            except ModelMismatchError as error:
                _log.error("the worker stops: %s", error)
                return
            except MemoryStoreError as error:
                _log.warning("the worker waits: %s", error)
                failed = True
            except Exception:  # noqa: BLE001 - whatever one batch met, its lease ends and the next try may do better
                _log.exception("changes could not be applied; they are tried again")
                failed = True
            if failed:
                await asyncio.sleep(pause)
            elif not busy and (left := pause - (loop.time() - begun)) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), left)

    async def _relay_part(self, wait: float) -> int:
        assert self._relay is not None
        moved = await self._relay.run_once()
        if moved:
            self._queued.set()
        return moved

    async def _work(self, wait: float) -> int:
        claim = await self._storage.queue.claim(wait=wait)
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
        self.applied += len(claim.changes)
        return len(claim.changes)

    async def _apply(self, claim: Claim, changes: Sequence[Change]) -> None:
        """Applies changes; where some are refused, the halves apart: one bad text must not fail those beside."""
        try:
            vectors = await self._done_outside(changes)
        except ModelMismatchError:
            raise  # a program that should not work here
        except Exception as error:
            away = isinstance(error, UnavailableError)
            if away and not self._together:
                raise  # a server, not the changes
            if len(changes) > 1 and not away:
                middle = len(changes) // 2
                await self._apply(claim, changes[:middle])
                await self._apply(claim, changes[middle:])
                return
            _log.warning("%d changes failed: %s: %s", len(changes), type(error).__name__, error)
            await self._storage.queue.fail(claim, changes, f"{type(error).__name__}: {error}")
            return
        if self._together:
            await self._store(claim, changes, vectors)
        else:
            await self._storage.queue.finish(None, claim, changes)

    async def _done_outside(self, changes: Sequence[Change]) -> dict[str, Vector]:
        """What is done with no transaction of the truth open: vectors are made; indexes elsewhere follow whole."""
        if not self._together:
            await self._synchronizer.converge(changes, {})
            return {}
        truth = self._storage.records
        async with truth.reading() as work:
            records = await truth.records(work, [c.record_id for c in changes if c.record_id is not None])
        return await self._synchronizer.embedded([record.memory for record in records], {})

    async def _store(self, claim: Claim, changes: Sequence[Change], vectors: dict[str, Vector]) -> None:
        """Applies the changes whose claim still holds, as the truth is now; nobody changes it meanwhile."""
        truth = self._storage.records

        async def body(work: Work) -> None:
            await truth.hold(work, {change.memory_id for change in changes})
            held = await self._storage.queue.finish(work, claim, changes)
            records = await truth.records(work, [c.record_id for c in held if c.record_id is not None])
            if records:
                await self._synchronizer.apply(work, records, vectors)
            if gone := [change.memory_id for change in held if change.kind == "delete"]:
                await self._synchronizer.remove(work, gone)

        await truth.write(body)

    async def _keep(self, claim: Claim) -> None:
        """Renews the claim while the model works."""
        while True:
            await asyncio.sleep(self._policy.lease / 3)
            with contextlib.suppress(UnavailableError):
                await self._storage.queue.extend(claim)
