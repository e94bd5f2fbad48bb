"""Keeps questions quick while much is written: fresh statistics, and an index of their own for users with many rows."""

import asyncio
import contextlib
import logging

from memground.postgres.statistics import freshen
from neuromem.db import Database

_log = logging.getLogger("neuromem.indexing")

LOOK_EVERY = 60.0
"""Seconds between two looks; one costs less than a millisecond, and the server counts rows about as often."""


class IndexKeeper:
    """Looks now and then who has many rows. Of all programs on a database one makes an index, in the background."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.run(), name="neuromem-indexing")

    async def stop(self) -> None:
        """Stops; an index that was being made is dropped by whoever looks next."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.tend()
            except Exception as error:  # noqa: BLE001 - without the index everything answers as before, only later
                _log.warning("no index was made: %s: %s", type(error).__name__, error)

    async def tend(self) -> list[str]:
        """Makes what is missing and drops what is not needed; returns the users who got an index."""
        tables, engine = self._database.tables, self._database.engine
        await freshen(engine, tables.schema)
        made: list[str] = []
        for arm in (tables.memory_vectors, tables.message_vectors):
            made += await arm.own_indexes.tend(engine)
        if made:
            self._database.forget_hints()
        return made
