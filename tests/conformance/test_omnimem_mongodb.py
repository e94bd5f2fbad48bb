"""MongoDB is the truth and has the outbox, PostgreSQL plays the other roles."""

from collections.abc import AsyncIterator

import pytest
from dev.servers.mongodb import MongoServer

from omnimem import JobPolicy, Settings
from omnimem.storage.base import Storage
from omnimem.storage.factory import open_storage
from omnimem.storage.mongodb import MongoOutbox, MongoRecords
from omnimem.testing.conformance import DIMS, OutboxConformance, RecordConformance
from support.mongo import mongo_database


class TestMongo(RecordConformance, OutboxConformance):
    @pytest.fixture
    async def storage(self, mongo: MongoServer, records_url: str, schema: str) -> AsyncIterator[Storage]:
        settings = Settings(records_url, schema=schema, jobs=JobPolicy(attempts=2, backoff=0))
        async with (
            mongo_database(mongo.url) as truth,
            open_storage(settings, dims=DIMS, model_id="conformance") as beside,
        ):
            yield Storage(
                records=MongoRecords(truth),
                vectors=beside.vectors,
                keywords=beside.keywords,
                queue=beside.queue,
                location=f"{truth.location}, {beside.location}",
                outbox=MongoOutbox(truth),
            )
