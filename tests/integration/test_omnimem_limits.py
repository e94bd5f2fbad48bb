"""What a backend cannot do, servers that are not there, and clients that are not open."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from memground.clock import SystemClock
from omnimem import (
    ConfigurationError,
    F,
    InvalidInputError,
    NewMemory,
    OmniMemClient,
    Scope,
    SearchQuery,
    Settings,
    UnavailableError,
    UnsupportedError,
)
from omnimem.pipeline.synchronizer import IndexSynchronizer
from omnimem.search.engine import SearchEngine
from omnimem.storage.base import Capabilities
from omnimem.storage.postgres import PostgresVectors
from support.embeddings import HashEmbedding

type OpenRecord = Callable[..., Awaitable[OmniMemClient]]


class Plain(PostgresVectors):
    """A vector index that applies no filters and keeps no past, elsewhere than the truth."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("elsewhere", filters=False, as_of=False)


async def test_filters_a_store_cannot_apply_are_finished_on_truth(open_record: OpenRecord) -> None:
    record = await open_record()
    await record.create_many([NewMemory(f"word number{n}", metadata={"n": n}) for n in range(200)])
    storage: Any = record._connection.rooms.storage
    limited = replace(storage, vectors=Plain(storage.vectors._database))
    engine = SearchEngine(limited, HashEmbedding(), SystemClock())
    query = SearchQuery("word", mode="semantic", filters=F("metadata.n") == 177)
    found = await engine.search(query, Scope())
    assert [hit.memory.metadata for hit in found] == [{"n": 177}]
    assert "finished on truth" in found.warnings[0]
    with pytest.raises(UnsupportedError, match="semantic index in use keeps only the present"):
        await engine.search(replace(query, as_of=datetime(2026, 1, 1, tzinfo=UTC)), Scope())
    with pytest.raises(ConfigurationError, match="outbox"):
        IndexSynchronizer(limited, HashEmbedding())


async def test_a_server_that_is_not_there_is_named(embedding: Any) -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        await OmniMemClient.connect("postgresql://127.0.0.1:1/none", embedding=HashEmbedding())
    with pytest.raises(ConfigurationError, match="not understood"):
        await OmniMemClient.connect("mysql://somewhere", embedding=HashEmbedding())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"records": "mysql"}, "records='mysql' is not accepted; pass one of postgres, mongodb"),
        ({"sync": "never"}, "inline, async"),
        ({"jobs": 3}, "jobs must be a JobPolicy"),
    ],
)
def test_settings_refuse(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Settings(**wrong)


async def test_a_client_that_is_not_open_says_so(records_url: str) -> None:
    client = OmniMemClient.connect(records_url, embedding=HashEmbedding())
    with pytest.raises(ConfigurationError, match="not connected"):
        await client.count()
    await client.close()
    await client.open()
    bound = client.within(Scope(tenant_id="nobody at all"))
    await bound.close()
    assert await bound.count() == 0
    await client.close()
    await client.close()
    with pytest.raises(ConfigurationError, match="not connected"):
        await bound.count()
    async with client:
        assert await bound.count() == 0
