"""Indexes and a queue whose truth is elsewhere: two PostgreSQL schemas that share no transaction."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import text

from memground.jobs import JobPolicy, QueueStatus
from omnimem.storage.base import Change, Outbox, Storage, Work
from omnimem.storage.postgres import Database, PostgresKeywords, PostgresQueue, PostgresRecords, PostgresVectors


class SchemaOutbox(Outbox):
    """An outbox beside a truth in PostgreSQL: a table of the test's own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._table = f'"{database.schema}".test_outbox'

    async def create(self) -> None:
        await self._run(
            f"CREATE TABLE IF NOT EXISTS {self._table} (id bigint GENERATED ALWAYS AS IDENTITY, kind text, "
            "memory_id text, record_id text, due timestamptz, created timestamptz DEFAULT now())"
        )

    async def record(self, work: Work, changes: Sequence[Change], *, delay: float = 0.0) -> None:
        statement = text(
            f"INSERT INTO {self._table} (kind, memory_id, record_id, due) "
            "VALUES (:kind, :memory_id, :record_id, clock_timestamp() + make_interval(secs => :delay))"
        )
        async with self._database.joined(work) as tx:
            await tx.execute(statement, [{**vars(change), "delay": delay} for change in changes])

    async def lead(self, owner: str, seconds: float) -> bool:
        return True

    async def due(self, limit: int) -> list[Change]:
        rows = await self._run(
            f"SELECT kind, memory_id, record_id FROM {self._table} WHERE due <= clock_timestamp() "
            f"ORDER BY id LIMIT {limit}"
        )
        return [Change(*row) for row in rows]

    async def forget(self, changes: Sequence[Change]) -> None:
        statement = text(
            f"DELETE FROM {self._table} WHERE kind = :kind AND memory_id = :memory_id "
            "AND record_id IS NOT DISTINCT FROM :record_id"
        )
        if changes:
            async with self._database.writing() as tx:
                await tx.execute(statement, [vars(change) for change in changes])

    async def status(self) -> QueueStatus:
        ((waiting, oldest),) = await self._run(f"SELECT count(*), min(created) FROM {self._table}")
        return QueueStatus(waiting, 0, oldest, None)

    async def _run(self, statement: str) -> list[tuple[str | int | datetime | None, ...]]:
        async with self._database.writing() as tx:
            result = await tx.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []


@asynccontextmanager
async def foreign_truth(
    url: str, schema: str, *, dims: int, model_id: str, jobs: JobPolicy | None = None
) -> AsyncGenerator[Storage]:
    """Vectors, keywords and queue in `schema`, the truth in another one, which they are told is no place of theirs."""
    truth = Database(url, schema=f"{schema}_truth", dims=1, model_id="none", pool_size=10)
    index = Database(url, schema=schema, dims=dims, model_id=model_id, pool_size=10, truth=False)
    try:
        await truth.open()
        await index.open()
        outbox = SchemaOutbox(truth)
        await outbox.create()
        yield Storage(
            records=PostgresRecords(truth),
            vectors=PostgresVectors(index),
            keywords=PostgresKeywords(index),
            queue=PostgresQueue(index, jobs or JobPolicy()),
            location=index.location,
            outbox=outbox,
        )
    finally:
        await index.close()
        await truth.close()
