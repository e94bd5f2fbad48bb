"""What all stores together say."""

from datetime import UTC, datetime
from typing import Any, cast

from memground.jobs import QueueStatus
from omnimem.storage.base import Storage

SOONER, LATER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


class Queued:
    """Tells how many changes wait in one place."""

    def __init__(self, waiting: int, failed: int, oldest: datetime | None, last_error: str | None) -> None:
        self.said = QueueStatus(waiting, failed, oldest, last_error, {f"part of {waiting}": waiting})
        self.moves_on = lambda: None

    async def status(self) -> QueueStatus:
        said = self.said
        self.moves_on()
        return said


def storage(outbox: Queued | None, queue: Queued) -> Storage:
    stores: list[Any] = [cast("Any", None)] * 3
    return Storage(*stores, queue=cast("Any", queue), location="nowhere", outbox=cast("Any", outbox))


async def test_both_places_count() -> None:
    status = await storage(Queued(2, 1, LATER, "kept"), Queued(3, 4, SOONER, None)).status()
    assert (status.waiting, status.failed, status.oldest, status.last_error) == (5, 5, SOONER, "kept")
    assert status.parts == {"part of 2": 2, "part of 3": 3}
    alone = await storage(None, Queued(3, 4, None, "queued")).status()
    assert (alone.waiting, alone.failed, alone.oldest, alone.last_error) == (3, 4, None, "queued")


async def test_what_moves_on_meanwhile_is_not_missed() -> None:
    outbox, queue = Queued(1, 0, SOONER, None), Queued(0, 0, None, None)

    def move() -> None:
        outbox.said, queue.said = queue.said, outbox.said

    outbox.moves_on = queue.moves_on = move
    assert (await storage(outbox, queue).status()).waiting > 0
