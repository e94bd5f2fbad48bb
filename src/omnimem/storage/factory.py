"""Opens the stores that settings name. The only place that knows the adapters."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from memground.errors import InvalidInputError
from memground.jobs import JobPolicy
from memground.text import show
from omnimem.models.base import Value, instance
from omnimem.storage.base import Storage

_BACKENDS = {
    "records": ("postgres",),
    "vectors": ("postgres",),
    "keywords": ("postgres",),
    "queue": ("postgres",),
}
"""Which servers can play which role."""


class SyncMode(StrEnum):
    """When the indexes follow the truth."""

    INLINE = "inline"
    """In the same transaction: what was written is found at once."""
    ASYNC = "async"
    """Soon, by a worker: writes are quicker, and do not wait for the embedding model."""


@dataclass(frozen=True)
class Settings(Value):
    """Which servers keep what, and how.

    `database_url`: a PostgreSQL URL; None starts an embedded PostgreSQL in your home folder, `embedded:///folder` in a
    folder of yours. `schema`: the PostgreSQL schema of the tables. `sync`: see SyncMode. `records`, `vectors`,
    `keywords`, `queue`: who plays each role. `jobs`: how changes are worked off.
    """

    database_url: str | None = None
    schema: str = "omnimem"
    pool_size: int = 10
    sync: SyncMode = SyncMode.INLINE
    records: str = "postgres"
    vectors: str = "postgres"
    keywords: str = "postgres"
    queue: str = "postgres"
    jobs: JobPolicy = field(default_factory=JobPolicy)

    def __post_init__(self) -> None:
        for role, accepted in _BACKENDS.items():
            if getattr(self, role) not in accepted:
                raise InvalidInputError(
                    f"{role}={show(getattr(self, role))} is not accepted; pass one of {', '.join(accepted)}"
                )
        if self.sync not in tuple(SyncMode):
            raise InvalidInputError(f"sync={show(self.sync)} is not accepted; pass one of {', '.join(SyncMode)}")
        instance(self.jobs, "jobs", JobPolicy, "a JobPolicy")
        self._settle(sync=SyncMode(self.sync))


@asynccontextmanager
async def open_storage(settings: Settings, *, dims: int, model_id: str) -> AsyncGenerator[Storage]:
    """The stores, opened; closed at the end of the block."""
    from omnimem.storage.postgres import Database, PostgresKeywords, PostgresQueue, PostgresRecords, PostgresVectors

    database = Database(
        settings.database_url, dims=dims, model_id=model_id, schema=settings.schema, pool_size=settings.pool_size
    )
    await database.open()
    try:
        yield Storage(
            records=PostgresRecords(database),
            vectors=PostgresVectors(database),
            keywords=PostgresKeywords(database),
            queue=PostgresQueue(database, settings.jobs),
            location=database.location,
        )
    finally:
        await database.close()
