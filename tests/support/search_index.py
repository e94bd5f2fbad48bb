"""Keyword indexes in the run's Elasticsearch, each with a prefix of its own."""

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from memground.filters import Filter, check, matches
from omnimem.models import Content
from omnimem.models.filter import FIELDS
from omnimem.storage.base import KeywordEntry, Selection, StoredRecord
from omnimem.storage.elasticsearch import ElasticsearchKeywords
from omnimem.storage.settings.elasticsearch import ElasticsearchSettings
from omnimem.storage.values import Indexed
from omnimem.testing.conformance import record

WORD = "alpha"
"""A word that every entry made here has."""


def search_settings(url: str, **options: Any) -> ElasticsearchSettings:
    """Settings of a prefix nobody else has."""
    return ElasticsearchSettings(url, **{"prefix": f"t-{uuid.uuid4().hex[:10]}", "replicas": 0, **options})


@asynccontextmanager
async def search_index(url: str, **options: Any) -> AsyncGenerator[ElasticsearchKeywords]:
    """An empty index, deleted at the end."""
    keywords = ElasticsearchKeywords(search_settings(url, **options))
    await keywords.open()
    try:
        yield keywords
        await keywords.drop()
    finally:
        await keywords.close()


def entry(stored: StoredRecord, text: str = WORD) -> KeywordEntry:
    return KeywordEntry(Indexed.of(stored), text, f"hash of {text[:20]}")


def holding(data: Sequence[Any]) -> list[StoredRecord]:
    """A record for each of some data."""
    return [record(f"m{number}", content=Content(WORD, each)) for number, each in enumerate(data)]


async def found(keywords: ElasticsearchKeywords, filter: Filter | None = None, **selection: Any) -> set[str]:
    """The ids of the memories that the index proposes."""
    return {
        c.memory_id for c in await keywords.candidates(None, WORD, Selection(filter=filter, **selection), limit=9_000)
    }


async def check_filters(
    keywords: ElasticsearchKeywords, records: Sequence[StoredRecord], filters: Sequence[Filter]
) -> list[Filter]:
    """Checks that no filter, nor its complement, loses a record; returns those for which too many are proposed."""
    wide: list[Filter] = []
    for filter in [each for one in filters for each in (one, ~one)]:
        checked = check(filter, FIELDS)
        expected = {r.memory.memory_id for r in records if matches(checked, r.memory.document)}
        proposed = await found(keywords, checked)
        assert expected <= proposed, f"{filter} lost {expected - proposed}"
        if proposed != expected:
            wide.append(filter)
    return wide
