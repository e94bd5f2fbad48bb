"""Queues in Kafka for tests, and a worker that works without an index."""

import asyncio
import itertools
import json
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from memground.errors import UnavailableError
from memground.jobs import JobPolicy
from omnimem.storage.base import Change
from omnimem.storage.kafka import KafkaQueue
from omnimem.storage.settings.kafka import KafkaSettings

QUICK: dict[str, Any] = {"partitions": 4, "timeout": 5.0, "session_timeout": 6.0}
"""Settings of tests: a worker that died is missed soon."""

_numbers = itertools.count(1)


def settings(servers: str, **given: Any) -> KafkaSettings:
    """Settings with topics and a group nobody else has."""
    return KafkaSettings(servers, **{"prefix": f"t{next(_numbers)}-{uuid.uuid4().hex[:6]}", **QUICK, **given})


@asynccontextmanager
async def opened(kafka: KafkaSettings, count: int = 1, **policy: Any) -> AsyncIterator[list[KafkaQueue]]:
    """Queues on the same topics, closed at the end."""
    queues = [KafkaQueue(kafka, JobPolicy(**policy)) for _ in range(count)]
    try:
        yield queues
    finally:
        await asyncio.gather(*(queue.close() for queue in queues))


def changes(count: int, memories: int = 100, start: int = 0) -> list[Change]:
    """Changes of some memories in turn; the numbers of their records go up."""
    return [Change("put", f"m{n % memories}", f"{n:08}") for n in range(start, start + count)]


class Worker:
    """Claims and finishes until it is stopped; notes what it was handed, in order."""

    def __init__(self, queue: KafkaQueue, seen: Callable[[Change], Awaitable[None]] | None = None) -> None:
        self.queue = queue
        self.handed: list[Change] = []
        self.finished: list[Change] = []
        self.interrupted: list[Change] = []
        """What it was kept from finishing, or from hearing that it is finished."""
        self.waits = 0
        self._seen = seen
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stops in the middle of what it does, as a program that is told to end, and leaves the group."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.queue.close()

    async def _run(self) -> None:
        while True:
            try:
                await self._step()
            except UnavailableError:
                self.waits += 1
                await asyncio.sleep(0.1)

    async def _step(self) -> None:
        claim = await self.queue.claim()
        if not claim.changes:
            await asyncio.sleep(0.02)
            return
        self.handed += claim.changes
        try:
            for change in claim.changes if self._seen is not None else ():
                assert self._seen is not None
                await self._seen(change)
            await asyncio.sleep(0.005)
            self.finished += await self.queue.finish(None, claim, claim.changes)
        except BaseException:
            self.interrupted += claim.changes
            await self.queue.release(claim)
            raise


async def drained(queue: KafkaQueue, *, seconds: float = 60) -> None:
    """Waits until nothing waits any more."""
    until, last = asyncio.get_running_loop().time() + seconds, "nothing"
    while asyncio.get_running_loop().time() < until:
        try:
            status = await queue.status()
            if not status.waiting:
                return
            last = str(status)
        except UnavailableError as error:
            last = str(error)
        await asyncio.sleep(0.1)
    raise AssertionError(f"still waiting after {seconds} s; last heard: {last}")


def in_order(handed: list[Change]) -> bool:
    """Whether a worker was handed the changes of each memory in order, those again left out that it had already."""
    last: dict[str, str] = {}
    for change in dict.fromkeys(handed):
        assert change.record_id is not None
        if change.record_id < last.get(change.memory_id, ""):
            return False
        last[change.memory_id] = change.record_id
    return True


def repeated(workers: list[Worker]) -> int:
    """How many changes were handed out more than once."""
    counts = Counter(change for worker in workers for change in worker.handed)
    return sum(count > 1 for count in counts.values())


async def dawdle(servers: str, prefix: str) -> None:
    """A worker, for a process that will be killed: claims, says what it got, and never finishes."""
    queue = KafkaQueue(KafkaSettings(servers, prefix=prefix, **QUICK), JobPolicy(batch=50))
    while not (claim := await queue.claim()).changes:
        await asyncio.sleep(0.02)
    sys.stdout.write(json.dumps([change.record_id for change in claim.changes]) + "\n")
    sys.stdout.flush()
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(dawdle(*sys.argv[1:]))
