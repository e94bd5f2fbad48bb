"""Kafka plays the change queue, PostgreSQL the other roles."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from dev.servers.kafka import KafkaServer

from omnimem import Settings
from omnimem.storage.base import Storage
from omnimem.storage.factory import open_storage
from omnimem.testing.conformance import DIMS, QueueConformance
from support.kafka import opened, settings


class TestKafka(QueueConformance):
    @pytest.fixture
    async def storage(self, kafka: KafkaServer, records_url: str, schema: str) -> AsyncIterator[Storage]:
        async with (
            open_storage(Settings(records_url, schema=schema), dims=DIMS, model_id="conformance") as storage,
            opened(settings(kafka.bootstrap), attempts=2, backoff=0) as (queue,),
        ):
            yield replace(storage, queue=queue)
