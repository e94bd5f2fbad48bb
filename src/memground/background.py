"""What works in the background of a program."""

import asyncio
import contextlib
from abc import ABC, abstractmethod


class Background(ABC):
    """Runs in a task of its own from `start` to `stop`."""

    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.run(), name=type(self).__name__)

    async def stop(self) -> None:
        """Stops in the middle of whatever it does, which cleans up after itself."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @abstractmethod
    async def run(self) -> None:
        """Works until cancelled."""
