"""Keeps questions quick while much is written: fresh statistics, and an index of their own for users with many rows."""

from memground.postgres.statistics import freshen
from memground.upkeep import Upkeep
from neuromem.db import Database


class IndexKeeper(Upkeep):
    """Looks now and then who has many rows. Of all programs on a database one makes an index, in the background.

    A look costs less than a millisecond, and the server counts rows about as often. An index that was being made when
    this stopped is dropped by whoever looks next.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(self.tend)
        self._database = database

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
