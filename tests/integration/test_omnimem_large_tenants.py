"""A tenant with many memories: an index of its own, words it uses everywhere, and the same answers as before."""

import asyncio
import operator
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from memground.clock import ManualClock
from memground.postgres import arms, own_index
from memground.postgres.session import Transaction
from memground.postgres.statistics import count_anew, freshen
from memground.words import keys, words
from omnimem import F, NewMemory, OmniMemClient, Scope, SearchResult
from omnimem.storage.postgres.database import Database
from support.embeddings import HashEmbedding

type OpenRecord = Callable[..., Awaitable[OmniMemClient]]
START = datetime(2026, 1, 1, tzinfo=UTC)
LARGE, SMALL = Scope(tenant_id="large"), Scope(tenant_id="small")
ROWS = 400


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as large begins early."""
    monkeypatch.setattr(own_index, "OWN_ROWS", 200)
    monkeypatch.setattr(arms, "_FEW_OF_OWN", 30)
    monkeypatch.setattr(arms, "COMMON", 50)
    for room in ("memground.postgres.arms", "omnimem.storage.postgres.keywords"):
        monkeypatch.setattr(f"{room}.COUNTED", 100)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def record(open_record: OpenRecord, clock: ManualClock) -> OmniMemClient:
    """Of a large tenant and a small one; two hours later some are superseded."""
    record = await open_record(clock=clock)
    for scope, rows in ((LARGE, ROWS), (SMALL, 40)):
        memories = [
            NewMemory(said(n), scope=replace(scope, user_id=f"u{n % 20}"), metadata={"n": n}) for n in range(rows)
        ]
        await record.create_many(memories)
    clock.advance(timedelta(hours=2))
    for memory in await record.list(scope=LARGE, filters=F("metadata.n") < 20, limit=50):
        await record.update(memory.memory_id, content=f"common later{memory.metadata['n']} v1")
    clock.advance(timedelta(hours=1))
    return record


def said(n: int) -> str:
    return f"common w{n} v{n % 7} u{n % 5}"


def nearest(query: str, texts: list[str], limit: int) -> list[float]:
    model = HashEmbedding()
    asked = model._vector(query)
    return sorted((sum(map(operator.mul, asked, model._vector(text))) for text in texts), reverse=True)[:limit]


def scores(found: SearchResult) -> list[float]:
    return [hit.score for hit in found]


def database(record: OmniMemClient) -> Database:
    return record._rooms.storage.records._database  # type: ignore[attr-defined]


async def own_indexes(record: OmniMemClient) -> list[str]:
    named = text(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = :schema AND indexname LIKE 'own%' ORDER BY indexdef"
    )
    async with database(record).engine.connect() as connection:
        return list(await connection.scalars(named, {"schema": database(record).schema}))


async def tend(record: OmniMemClient) -> None:
    await record._rooms.storage.tend()


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How every search that follows found the nearest."""
    from omnimem.storage.postgres.vectors import PostgresVectors

    seen: list[str] = []
    whole = PostgresVectors._scan

    async def noting(self: PostgresVectors, *args: Any) -> arms.Scan:
        scan = await whole(self, *args)
        seen.append(scan.value)
        return scan

    monkeypatch.setattr(PostgresVectors, "_scan", noting)
    return seen


async def test_a_large_tenant_gets_an_index_and_finds_what_is_nearest(
    record: OmniMemClient, scans: list[str], clock: ManualClock
) -> None:
    await tend(record)
    (made,) = await own_indexes(record)
    assert "'large'" in made
    now = [f"common later{n} v1" for n in range(20)] + [said(n) for n in range(20, ROWS)]

    async def search(**more: Any) -> list[float]:
        given = {"scope": LARGE, "limit": 10, **more}
        return scores(await record.search("w117 v5 later3", mode="semantic", **given))

    def exact(texts: list[str]) -> Any:
        return pytest.approx(nearest("w117 v5 later3", texts, 10), abs=2e-3)

    assert await search() == exact(now)
    assert scans == ["own"]
    assert await search(as_of=START + timedelta(hours=1)) == exact([said(n) for n in range(ROWS)])
    assert scans[1] == "own"  # of those that are current still; the few superseded ones are compared
    assert await search(as_of=START - timedelta(hours=1)) == []
    many, few = F("metadata.n") >= 100, F("metadata.n") >= ROWS - 20
    assert await search(filters=many) == exact([said(n) for n in range(100, ROWS)])
    assert scans[-1] == "own"
    assert await search(filters=few) == exact([said(n) for n in range(ROWS - 20, ROWS)])
    assert scans[-1] == "exact"
    one = [said(n) for n in range(ROWS) if n % 20 == 7 and n >= 20] + ["common later7 v1"]
    assert await search(scope=Scope("large", "u7")) == exact(one)
    assert scans[-1] == "exact"
    assert await search(scope=SMALL) == exact([said(n) for n in range(40)])
    assert scans[-1] == "exact"


async def test_the_index_goes_with_the_memories(record: OmniMemClient) -> None:
    await tend(record)
    assert len(await own_indexes(record)) == 1
    for memory in await record.list(scope=LARGE, filters=F("metadata.n") >= 60, limit=ROWS):
        await record.delete(memory.memory_id)
    await count_anew(database(record).engine, [database(record).tables.vectors], patience=5)
    await tend(record)
    assert await own_indexes(record) == []


async def test_a_load_makes_the_index_too(open_record: OpenRecord) -> None:
    record = await open_record()
    await record.load([NewMemory(said(n), scope=LARGE) for n in range(ROWS)])
    assert len(await own_indexes(record)) == 1


async def test_a_load_whose_tenants_get_no_index_is_stored_and_found(
    open_record: OpenRecord, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(own_index, "_FEW_LINKS", (1_000, 80))  # more than the server makes
    record = await open_record()
    await record.load([NewMemory(said(n), scope=LARGE) for n in range(ROWS)])
    assert "no indexes of large tenants' own were made" in caplog.text
    assert len(await record.search("w117 v5", scope=LARGE)) == 10
    assert await own_indexes(record) == []


@pytest.mark.parametrize("background", [True, False])
async def test_programs_that_work_in_the_background_look_by_themselves(
    open_record: OpenRecord, background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memground.upkeep.LOOK_EVERY", 0.1)
    record = await open_record(background=background)
    await record.create_many([NewMemory(said(n), scope=LARGE) for n in range(ROWS)])
    working = asyncio.create_task(asyncio.sleep(0) if background else record.work_forever())
    try:
        async with asyncio.timeout(60):
            while not any("'large'" in made for made in await own_indexes(record)):
                await asyncio.sleep(0.1)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_words_in_nearly_every_memory_are_not_read(
    record: OmniMemClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """…and a search finds the same, in the same order, as when they are."""
    asked: list[list[int]] = []
    whole = Transaction.fetch

    async def noting(self: Transaction, statement: Any, values: Any) -> Any:
        if "words" in values:
            asked.append(values["words"])
        return await whole(self, statement, values)

    monkeypatch.setattr(Transaction, "fetch", noting)
    queries = ["common w117", "common", "common w33 v4 u2", "common nobody", "w19"]
    kinds: list[dict[str, Any]] = [
        {"scope": LARGE},
        {"scope": LARGE, "as_of": START + timedelta(hours=1)},
        {"scope": LARGE, "filters": F("metadata.n") >= ROWS - 20},
        {"scope": Scope("large", "u7")},
        {"scope": SMALL},
        {},
    ]

    async def answers() -> list[list[tuple[float, str]]]:
        found = [await record.search(query, mode="keyword", limit=100, **kind) for kind in kinds for query in queries]
        # Sums of the same numbers in another order differ in their last digits.
        return [sorted((-round(hit.score, 9), hit.memory.memory_id) for hit in result) for result in found]

    before = await answers()
    asked.clear()
    await freshen(database(record).engine, database(record).schema)
    database(record).hints.clear()
    assert await answers() == before
    common = {n for owner in ("", "tenant large", "tenant small", "user u7") for n in keys(owner, words("common"))}
    # Of the large tenant and of everybody: only where nothing else is asked, or found.
    seldom = [False, True, False, False, True, False]
    assert [bool(common & set(numbers)) for numbers in asked] == seldom + [True, True, True, True, False] * 4 + seldom
