"""The change queue while its broker is stopped, killed or frozen: callers are told in time, and nothing is lost."""

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from dev.servers.kafka import KafkaServer

from memground.errors import UnavailableError
from omnimem.storage.base import Change
from omnimem.storage.kafka import KafkaQueue
from support.kafka import Worker, changes, drained, opened, settings


@pytest.fixture(scope="module")
def broken() -> Iterator[KafkaServer]:
    """A broker of these tests' own, to be broken."""
    with KafkaServer() as server:
        yield server


class Source:
    """Records changes as a relay does: what was not acknowledged is recorded again."""

    def __init__(self, queue: KafkaQueue, count: int) -> None:
        self.acknowledged: list[Change] = []
        self.waits = 0
        self._queue = queue
        self.task = asyncio.create_task(self._run(changes(count, memories=50)))

    async def _run(self, wanted: list[Change]) -> None:
        for start in range(0, len(wanted), 20):
            part = wanted[start : start + 20]
            while part[-1] not in self.acknowledged[-1:]:
                try:
                    await self._queue.record(None, part)
                    self.acknowledged += part
                except UnavailableError:
                    self.waits += 1
                    await asyncio.sleep(0.1)
            await asyncio.sleep(0.02)


async def told_in_time(call: Awaitable[Any], seconds: float) -> None:
    start = asyncio.get_running_loop().time()
    with pytest.raises(UnavailableError, match="Kafka at"):
        await call
    assert asyncio.get_running_loop().time() - start < seconds


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_a_broker_that_restarts_in_the_middle_loses_nothing(broken: KafkaServer, how: str) -> None:
    async with opened(settings(broken.bootstrap, timeout=4.0), 3, batch=64, backoff=0.1) as (queue, *queues):
        source, workers = Source(queue, 4_000), [Worker(each) for each in queues]
        while len(source.acknowledged) < 1_000:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(broken.stop if how == "stopped" else broken.kill)
        await asyncio.sleep(4)
        await asyncio.to_thread(broken.start)
        await asyncio.wait_for(source.task, 90)
        await drained(queue, seconds=90)
        for worker in workers:
            await worker.stop()
        assert source.waits
        # A worker is handed a change, applies it, and only then finishes it: what it was handed is applied.
        assert set(source.acknowledged) <= {change for worker in workers for change in worker.handed}


async def test_a_frozen_broker_is_noticed_in_time_and_loses_nothing(broken: KafkaServer) -> None:
    kafka = settings(broken.bootstrap, timeout=4.0)
    # A short lease: `other` claims once and never again, and what it is given is others' only when its lease is over.
    async with opened(kafka, 4, batch=64, backoff=0.1, lease=10) as (queue, other, *queues):
        source, workers = Source(queue, 4_000), [Worker(each) for each in queues]
        while len(source.acknowledged) < 1_000:
            await asyncio.sleep(0.02)
        await other.status()
        broken.freeze()
        try:
            frozen = asyncio.get_running_loop().time()
            # Each alone: they share the limit of 3 s.
            await told_in_time(other.record(None, [Change("put", "m", "never")]), 7)
            await told_in_time(other.status(), 7)
            await told_in_time(other.claim(), 16)
            assert other._member._consumer is None, "half joined, it would be given partitions that nobody reads"
            await asyncio.sleep(max(0.0, frozen + 20 - asyncio.get_running_loop().time()))
        finally:
            broken.thaw()
        await asyncio.wait_for(source.task, 90)
        await drained(queue, seconds=90)
        assert (await other.claim()).changes == []  # it could not join, and joins anew
        for worker in workers:
            await worker.stop()
        handed = {change for worker in workers for change in worker.handed}
        assert set(source.acknowledged) <= handed
        assert handed - set(source.acknowledged) <= {Change("put", "m", "never")}


async def test_closing_does_not_wait_for_a_frozen_broker(broken: KafkaServer) -> None:
    async with opened(settings(broken.bootstrap), 1) as (queue,):
        await queue.record(None, changes(10))
        claim = await queue.claim()
        await queue.finish(None, claim, claim.changes[:5])
        broken.freeze()
        try:
            start = asyncio.get_running_loop().time()
            await queue.close()
            assert asyncio.get_running_loop().time() - start < 8
        finally:
            broken.thaw()


async def test_what_a_worker_did_while_the_broker_was_away_is_not_lost(broken: KafkaServer) -> None:
    async with opened(settings(broken.bootstrap, timeout=2.0), 2) as (queue, other):
        wanted = changes(100)
        await queue.record(None, wanted)
        claim = await queue.claim()
        await asyncio.to_thread(broken.kill)
        await told_in_time(queue.finish(None, claim, claim.changes), 10)
        await asyncio.to_thread(broken.start)
        async with asyncio.timeout(60):
            handed: list[Change] = []
            while len(set(handed)) < 100 - len(claim.changes) or (await other.status()).waiting:
                try:
                    again = await queue.claim()
                    handed += await queue.finish(None, again, again.changes)
                except UnavailableError:
                    await asyncio.sleep(0.1)
        assert set(handed) | set(claim.changes) == set(wanted)
