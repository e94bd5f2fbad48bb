"""What is looked after in the background: again and again, whatever a look meets, until it is stopped."""

import asyncio
import logging

import pytest

from memground import upkeep
from memground.upkeep import Upkeep


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOOK_EVERY", 0.01)


async def test_it_goes_on_after_an_error_and_tells_it_once(caplog: pytest.LogCaptureFixture) -> None:
    looks = asyncio.Queue[int]()
    count = 0

    async def look() -> None:
        nonlocal count
        count += 1
        looks.put_nowait(count)
        if count <= 2:
            raise ValueError("no such table")

    with caplog.at_level(logging.WARNING, "memground.upkeep"):
        async with Upkeep(look):
            assert [await asyncio.wait_for(looks.get(), 5) for _ in range(4)] == [1, 2, 3, 4]
    assert [record.getMessage() for record in caplog.records] == [
        "upkeep failed and is tried again every minute: ValueError: no such table"
    ]


async def test_it_stops_in_the_middle_of_a_look() -> None:
    begun, ended = asyncio.Event(), False

    async def look() -> None:
        nonlocal ended
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended = True

    async with Upkeep(look):
        await asyncio.wait_for(begun.wait(), 5)
    assert ended
