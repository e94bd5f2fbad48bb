"""Looks after something now and then, in the background."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Self

_log = logging.getLogger("memground.upkeep")

LOOK_EVERY = 60.0
"""Seconds between two looks."""


class Upkeep:
    """Calls `look` once a minute. Whatever it meets is told in the log, and tried again a minute later."""

    def __init__(self, look: Callable[[], Awaitable[object]]) -> None:
        self._look = look
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.run(), name="upkeep")

    async def stop(self) -> None:
        """Stops, also in the middle of a look: the next one takes care of what that leaves."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - without upkeep everything answers as before, only later
                _log.warning("upkeep failed and is tried again: %s: %s", type(error).__name__, error)
