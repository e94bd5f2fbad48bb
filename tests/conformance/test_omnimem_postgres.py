"""PostgreSQL plays all four roles, or finds and queues for a truth that is elsewhere."""

from collections.abc import AsyncIterator

import pytest

from omnimem import JobPolicy, Settings
from omnimem.storage.base import Storage
from omnimem.storage.factory import open_storage
from omnimem.testing.conformance import (
    DIMS,
    KeywordConformance,
    QueueConformance,
    RecordConformance,
    VectorConformance,
)
from support.foreign import foreign_truth


class TestPostgres(RecordConformance, VectorConformance, KeywordConformance, QueueConformance):
    @pytest.fixture
    async def storage(self, records_url: str, schema: str) -> AsyncIterator[Storage]:
        settings = Settings(records_url, schema=schema, jobs=JobPolicy(attempts=2, backoff=0))
        async with open_storage(settings, dims=DIMS, model_id="conformance") as storage:
            yield storage


class TestPostgresBesideAForeignTruth(VectorConformance, KeywordConformance, QueueConformance):
    @pytest.fixture
    async def storage(self, records_url: str, schema: str) -> AsyncIterator[Storage]:
        jobs = JobPolicy(attempts=2, backoff=0)
        async with foreign_truth(records_url, schema, dims=DIMS, model_id="conformance", jobs=jobs) as storage:
            yield storage
