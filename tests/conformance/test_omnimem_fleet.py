"""MongoDB with PostgreSQL's indexes, and the whole fleet, do what one PostgreSQL does."""

from collections.abc import AsyncIterator

import pytest

from omnimem import JobPolicy
from omnimem.storage.base import Storage
from omnimem.storage.factory import open_storage
from omnimem.testing.conformance import (
    DIMS,
    KeywordConformance,
    OutboxConformance,
    QueueConformance,
    RecordConformance,
    VectorConformance,
)
from support.deployments import Servers


class Spread(RecordConformance, VectorConformance, KeywordConformance, QueueConformance, OutboxConformance):
    deployment: str

    @pytest.fixture
    async def storage(self, servers: Servers) -> AsyncIterator[Storage]:
        settings = servers.settings(self.deployment, jobs=JobPolicy(attempts=2, backoff=0))
        async with open_storage(settings, dims=DIMS, model_id="conformance") as storage:
            yield storage


class TestMixed(Spread):
    deployment = "mixed"


class TestFleet(Spread):
    deployment = "fleet"
