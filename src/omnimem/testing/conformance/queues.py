"""What every Outbox and ChangeQueue must do."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from memground.clock import SystemClock
from memground.errors import (
    ConflictError,
)
from omnimem.storage.base import (
    Change,
    Claim,
    Outbox,
    Storage,
    Work,
)
from omnimem.testing.conformance.common import refused


class OutboxConformance:
    """Changes beside the truth, on their way to a queue that is elsewhere."""

    async def test_changes_are_due_in_order_until_they_are_forgotten(self, storage: Storage) -> None:
        outbox = self._outbox(storage)
        changes = [Change("put", "m", f"m@{n}") for n in range(5)] + [Change("delete", "n")]
        for change in changes:
            await self._kept(storage, [change])
        assert await outbox.due(3) == changes[:3]
        assert await outbox.due(100) == changes
        status = await outbox.status()
        assert (status.waiting, status.failed) == (6, 0)
        assert status.oldest is not None
        await outbox.forget(changes[1:3])
        assert await outbox.due(100) == [changes[0], *changes[3:]]
        await outbox.forget([*changes, Change("put", "never", "never@0")])
        assert await outbox.due(100) == []
        assert (await outbox.status()).waiting == 0

    async def test_a_change_may_wait_before_it_is_due(self, storage: Storage) -> None:
        outbox = self._outbox(storage)
        late, soon = Change("put", "late", "late@0"), Change("put", "soon", "soon@0")
        await self._kept(storage, [late], delay=0.4)
        await self._kept(storage, [soon])
        assert await outbox.due(10) == [soon]
        await asyncio.sleep(0.5)
        assert await outbox.due(10) == [soon, late]
        await outbox.forget([late])  # as who applied it does, whether `due` gave it or not
        await self._kept(storage, [Change("put", "n", "n@0")], delay=60)
        await outbox.forget([Change("put", "n", "n@0"), soon])
        assert (await outbox.status()).waiting == 0

    async def test_what_is_recorded_again_after_it_was_due_stays(self, storage: Storage) -> None:
        outbox, change = self._outbox(storage), Change("put", "m", "m@0")
        await self._kept(storage, [change])
        assert await outbox.due(10) == [change]
        await self._kept(storage, [change])
        await outbox.forget([change])
        assert await outbox.due(10) == [change]

    async def test_a_failed_transaction_records_nothing(self, storage: Storage) -> None:
        async def body(work: Work) -> None:
            await self._outbox(storage).record(work, [Change("put", "m", "m@0")])
            raise ConflictError("on purpose")

        await refused(storage.records.write(body), ConflictError)
        assert await self._outbox(storage).due(10) == []

    async def test_one_leads_until_its_time_is_over(self, storage: Storage) -> None:
        outbox = self._outbox(storage)
        led = await asyncio.gather(*(outbox.lead(f"o{n}", 0.5) for n in range(8)))
        assert sum(led) == 1
        leader = f"o{led.index(True)}"
        assert await outbox.lead(leader, 0.5)
        assert not await outbox.lead("another", 0.5)
        await asyncio.sleep(0.7)
        assert await outbox.lead("another", 0.5)
        assert not await outbox.lead(leader, 0.5)

    def _outbox(self, storage: Storage) -> Outbox:
        assert storage.outbox is not None
        return storage.outbox

    async def _kept(self, storage: Storage, changes: Sequence[Change], *, delay: float = 0.0) -> None:
        await storage.records.write(lambda work: self._outbox(storage).record(work, changes, delay=delay))


class QueueConformance:
    """Changes that wait."""

    async def test_what_is_recorded_is_handed_out_once_while_it_is_worked_on(self, storage: Storage) -> None:
        changes = [Change("put", "m", "m@0"), Change("put", "m", "m@1"), Change("delete", "n")]
        await self._recorded(storage, changes)
        claim = await storage.queue.claim()
        assert list(claim.changes) == changes
        assert not (await storage.queue.claim()).changes
        assert await storage.queue.finish(None, claim, changes[:1]) == changes[:1]
        assert await storage.queue.finish(None, claim, changes[:1]) == []
        await storage.queue.release(claim)
        again = await storage.queue.claim()
        assert list(again.changes) == changes[1:]
        assert await storage.queue.finish(None, claim, changes) == []
        assert await storage.queue.finish(None, again, changes[1:]) == changes[1:]
        assert (await storage.queue.status()).waiting == 0

    async def test_what_fails_is_tried_again_and_at_last_shown(self, storage: Storage) -> None:
        change = Change("put", "m", "m@0")
        await self._recorded(storage, [change])
        for _ in range(100):
            claim = await storage.queue.claim()
            if not claim.changes:
                break
            await storage.queue.fail(claim, [change], "no luck")
        status = await storage.queue.status()
        assert status.waiting + status.failed == 1
        assert status.last_error == "no luck"
        if status.failed:
            assert await storage.queue.retry_failed() == 1
            assert list((await storage.queue.claim()).changes) == [change]

    async def test_what_is_recorded_twice_is_worked_on_once(self, storage: Storage) -> None:
        change = Change("put", "m", "m@0")
        await self._recorded(storage, [change])
        await self._recorded(storage, [change])
        assert (await storage.queue.status()).waiting >= 1
        claim = await storage.queue.claim()
        assert list(claim.changes) == [change]
        assert await storage.queue.finish(None, claim, [change]) == [change]
        assert not (await storage.queue.claim()).changes
        assert (await storage.queue.status()).waiting == 0

    async def test_what_failed_for_good_is_listed_until_it_is_tried_anew(self, storage: Storage) -> None:
        changes = [Change("put", "m", "m@0"), Change("delete", "n"), Change("put", "o", "o@0")]
        for number, change in enumerate(changes):
            await self._recorded(storage, [change])
            for _ in range(100):
                if not (claim := await storage.queue.claim()).changes:
                    break
                assert list(claim.changes) == [change]
                await storage.queue.fail(claim, [change], f"no luck {number}")
        if (await storage.queue.status()).failed < len(changes):
            return  # they are still being tried: the policy of this storage is too patient for a test
        found = await storage.queue.failed(10)
        assert [(each.change, each.error) for each in found] == [
            (change, f"no luck {number}") for number, change in reversed([*enumerate(changes)])
        ]
        assert all(each.attempts >= 1 for each in found)
        assert [each.change for each in await storage.queue.failed(1)] == changes[-1:]
        assert await storage.queue.retry_failed() == len(changes)
        assert await storage.queue.failed(10) == []
        assert await storage.queue.retry_failed() == 0
        claim = await storage.queue.claim()
        assert sorted(claim.changes, key=str) == sorted(changes, key=str)
        await storage.queue.finish(None, claim, claim.changes)
        status = await storage.queue.status()
        assert (status.waiting, status.failed, status.last_error) == (0, 0, None)

    async def test_a_status_says_since_when_the_oldest_waits(self, storage: Storage) -> None:
        before = SystemClock().now() - timedelta(seconds=1)
        await self._recorded(storage, [Change("put", "m", "m@0")])
        status = await storage.queue.status()
        assert status.oldest is not None
        assert before < status.oldest < SystemClock().now() + timedelta(seconds=1)

    async def test_a_claim_may_wait_for_what_comes(self, storage: Storage) -> None:
        change = Change("put", "m", "m@0")
        assert not (await storage.queue.claim(wait=0.05)).changes
        claiming = asyncio.create_task(storage.queue.claim(wait=5.0))
        await asyncio.sleep(0.1)
        await self._recorded(storage, [change])
        claim = await claiming
        if not claim.changes:  # this queue does not wait
            claim = await storage.queue.claim()
        assert list(claim.changes) == [change]

    async def test_a_claim_that_is_cancelled_takes_nothing_along(self, storage: Storage) -> None:
        changes = [Change("put", f"m{number}", f"m{number}@0") for number in range(10)]
        await self._recorded(storage, changes)
        for pause in (0.0, 0.0, 0.001, 0.002, 0.005):
            claiming = asyncio.create_task(storage.queue.claim())
            await asyncio.sleep(pause)
            claiming.cancel()
            done = (await asyncio.gather(claiming, return_exceptions=True))[0]
            if isinstance(done, Claim):
                await storage.queue.release(done)
        claim = await storage.queue.claim()
        assert sorted(claim.changes, key=str) == sorted(changes, key=str)

    async def _recorded(self, storage: Storage, changes: Sequence[Change]) -> None:
        """Into the queue, by the way that its place allows."""
        if storage.queue.capabilities.place != storage.records.capabilities.place:
            await storage.queue.record(None, changes)
            return
        await storage.records.write(lambda work: storage.queue.record(work, changes))
