"""Looks after something now and then, in the background."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Self

from memground.background import Background

_log = logging.getLogger("memground.upkeep")

LOOK_EVERY = 60.0
"""Seconds between two looks."""


class Upkeep(Background):
    """Calls `look` once a minute.

    What fails is tried again a minute later and told in the log, once as long as it stays the same. A look that is cut
    short leaves what the next one takes care of.
    """

    def __init__(self, look: Callable[[], Awaitable[object]]) -> None:
        self._look = look

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def run(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            trouble = ""
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - without upkeep everything answers as before, only later
                trouble = f"{type(error).__name__}: {error}"
            if trouble and trouble != told:
                _log.warning("upkeep failed and is tried again every minute: %s", trouble)
            told = trouble
