"""Elasticsearch keeps the words; PostgreSQL plays the other roles."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from dev.servers.elasticsearch import ElasticsearchServer

from omnimem import Settings
from omnimem.storage.base import Storage
from omnimem.storage.factory import open_storage
from omnimem.testing.conformance import DIMS, KeywordConformance
from support.search_index import search_index


class TestElasticsearch(KeywordConformance):
    @pytest.fixture
    async def storage(
        self, records_url: str, schema: str, elasticsearch: ElasticsearchServer
    ) -> AsyncIterator[Storage]:
        settings = Settings(records_url, schema=schema)
        async with (
            open_storage(settings, dims=DIMS, model_id="conformance") as storage,
            search_index(elasticsearch.url) as keywords,
        ):
            yield replace(storage, keywords=keywords)
