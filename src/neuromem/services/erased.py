"""After an erasure is committed: what lies outside its transaction, and the proof that nothing is left."""

import asyncio
from collections.abc import Iterable

from sqlalchemy import func, select

from memground.postgres.queue import JobPolicy
from memground.postgres.statistics import count_anew
from neuromem.db import Database
from neuromem.providers.storage import ObjectStorage
from neuromem.services.erasing import Done, ErasureService, Target
from neuromem.services.job_loop import JobLoop
from neuromem.services.stored_objects import REMOVE_OBJECT, ObjectRemover, object_refs

PATIENCE = 10.0
"""Seconds that the removal of stored files, or a lock on a table, is waited for. A job goes on with the former."""

_LOG = (
    "PostgreSQL's write-ahead log, replicas, and archives of either hold what was written until they are recycled: "
    "a checkpoint and max_wal_size see to the first, your retention to the rest"
)
_BACKUPS = "Backups and dumps made before: remove them, or erase again after restoring one"
_DEAD = (
    "Dead rows stay in the files of tables and indexes until they are vacuumed, which PostgreSQL does by itself sooner "
    "or later; to have it now run: VACUUM {tables}"
)
_STATISTICS = (
    "Planner statistics (samples of values) were made anew for these tables; their own dead rows go with: "
    "VACUUM pg_catalog.pg_statistic"
)
_HELD = "Others held these tables, so their statistics may still have samples of what was erased; run: ANALYZE {tables}"
_INDEX = "An index that bears the user's id in its definition is dropped by the next program that looks after indexes"
_FILES = "Versions and replicas that a file storage keeps of deleted objects: see its own settings"
_ELSEWHERE = "What model providers, logs and your own program keep of what they were sent"


class Aftermath:
    """Removes stored files, has statistics made anew and counts what is left."""

    def __init__(self, database: Database, storage: ObjectStorage | None) -> None:
        self._database = database
        self._storage = storage

    async def objects_left(self, done: Done) -> int:
        """Removes the stored files of an erasure; how many are left to a job, or to a program that has the storage."""
        if not done.objects:
            return 0
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        while (left := await self._waiting(done)) and self._storage is not None and loop.time() < until:
            policy = JobPolicy(lease=PATIENCE)
            remover = ObjectRemover(self._database, self._storage, policy)
            if not await JobLoop(self._database, policy, REMOVE_OBJECT, remover.work).work_once():
                await asyncio.sleep(0.05)
        return left

    async def forget(self, target: Target, done: Done) -> list[str]:
        """What the server keeps beside the rows: samples of their values, and an index that bears the user's id.

        Returns what of it others kept from going.
        """
        database, tables = self._database, self._database.tables
        database.forget_hints()
        kept: list[str] = []
        if target.what == "user":
            for arm in (tables.memory_vectors, tables.message_vectors):
                if not await arm.own_indexes.drop(database.engine, target.user_id, patience=PATIENCE):
                    kept = [_INDEX]
        held = await count_anew(database.engine, done.gone, patience=PATIENCE)
        return [*kept, _HELD.format(tables=self._quoted(held))] if held else kept

    async def left(self, done: Done) -> dict[str, int]:
        """Rows counted after the commit, by table."""
        async with self._database.read() as session:
            return await ErasureService(session).left(done)

    def unreachable(self, done: Done) -> tuple[str, ...]:
        """Where bytes may remain. No word of the user's is in it."""
        dead = (_DEAD.format(tables=self._quoted(done.rows)), _STATISTICS) if done.rows else ()
        return (*dead, _LOG, _BACKUPS, *((_FILES,) if done.objects else ()), _ELSEWHERE)

    def _quoted(self, tables: Iterable[str]) -> str:
        schema = self._database.schema.replace('"', '""')
        return ", ".join(f'"{schema}".{name}' for name in tables)

    async def _waiting(self, done: Done) -> int:
        async with self._database.read() as session:
            jobs = session.tables.jobs
            mine = (jobs.c.kind == REMOVE_OBJECT, jobs.c.ref.in_(object_refs(done.objects)))
            return await session.scalar(select(func.count()).select_from(jobs).where(*mine)) or 0
