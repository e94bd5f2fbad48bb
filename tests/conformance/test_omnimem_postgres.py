"""PostgreSQL plays all four roles."""

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


class TestPostgres(RecordConformance, VectorConformance, KeywordConformance, QueueConformance):
    @pytest.fixture
    async def storage(self, records_url: str, schema: str) -> AsyncIterator[Storage]:
        settings = Settings(records_url, schema=schema, jobs=JobPolicy(attempts=2, backoff=0))
        async with open_storage(settings, dims=DIMS, model_id="conformance") as storage:
            yield storage
