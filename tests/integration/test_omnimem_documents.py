"""PostgreSQL's indexes beside a truth that is elsewhere: what they filter by comes and goes with what they hold."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from sqlalchemy import insert, select, text

from memground.errors import ConfigurationError
from memground.filters import F, matches
from memground.postgres.arms import Scan
from omnimem import Content, Scope
from omnimem.storage.base import Selection, StoredRecord
from omnimem.storage.postgres import Database, PostgresKeywords, PostgresVectors
from omnimem.storage.postgres import vectors as vector_statements
from omnimem.storage.postgres.conditions import Shape, values
from omnimem.storage.postgres.database import PostgresWork
from omnimem.storage.postgres.documents import Documents
from omnimem.testing.conformance import DIMS, EAST, NORTH, record, vectors, words
from support.toys import plan_of

HOURS = 4
MEMORIES = [f"m{number}" for number in range(5)]


def of(url: str, schema: str, **given: Any) -> Database:
    return Database(url, schema=schema, dims=DIMS, model_id="documents", pool_size=8, **given)


@pytest.fixture
async def database(records_url: str, schema: str) -> AsyncIterator[Database]:
    database = of(records_url, schema, truth=False)
    await database.open()
    yield database
    await database.close()


async def rows_of(database: Database, statement: Any) -> list[Any]:
    async with database.reading() as work:
        return list((await work.execute(statement)).all())


async def held(database: Database) -> dict[str, set[str]]:
    """Which records each index has rows of."""
    t = database.tables
    pairs = {"vector": (t.vectors, t.vector_history), "keyword": (t.keywords, t.keyword_history)}
    return {
        index: {row[0] for table in tables for row in await rows_of(database, select(table.c.record_id))}
        for index, tables in pairs.items()
    }


async def documents(database: Database) -> dict[str, set[str]]:
    """Which records' documents are there for each index."""
    t = database.tables.documents
    found = await rows_of(database, select(t.c.record_id, t.c.in_vector_index, t.c.in_keyword_index))
    assert all(row.in_vector_index or row.in_keyword_index for row in found)
    return {
        "vector": {row.record_id for row in found if row.in_vector_index},
        "keyword": {row.record_id for row in found if row.in_keyword_index},
    }


def life(memory_id: str) -> list[StoredRecord]:
    return [
        record(memory_id, hour, end=hour + 1 if hour < HOURS - 1 else None, content=Content("x", {"hour": hour}))
        for hour in range(HOURS)
    ]


@pytest.mark.parametrize("seed", range(6))
async def test_documents_are_those_of_the_records_held_whatever_happens_in_whatever_order(
    database: Database, seed: int
) -> None:
    """Both indexes at once, stale, doubled, reordered, in parts; memories removed, and made anew."""
    chance = random.Random(seed)
    indexes = {"vector": PostgresVectors(database), "keyword": PostgresKeywords(database)}

    async def worker(index: str, number: int) -> None:
        own = random.Random(f"{seed}{index}{number}")
        for _ in range(12):
            stored = own.sample([entry for memory_id in MEMORIES for entry in life(memory_id)], 5)
            # Read before the next one was written: as the latest, though it is not.
            stored = [StoredRecord(s.memory, None if own.random() < 0.3 else s.superseded_time) for s in stored]
            match own.random():
                case n if n < 0.75 and index == "vector":
                    await indexes[index].apply(None, [vectors(s, {"text": EAST}) for s in stored])
                case n if n < 0.75:
                    await indexes[index].apply(None, [words(s, "x") for s in stored])
                case n if n < 0.85:
                    await indexes[index].remove(None, own.sample(MEMORIES, 2))
                case _:
                    await indexes[index].reset(None, own.sample(MEMORIES, 3))

    async with asyncio.timeout(120):
        await asyncio.gather(*(worker(index, number) for index in indexes for number in range(3)))
    assert await documents(database) == await held(database)
    await indexes["vector"].remove(None, MEMORIES)
    assert await documents(database) == {**await held(database), "vector": set()}
    await indexes["keyword"].remove(None, chance.sample(MEMORIES, len(MEMORIES)))
    assert await rows_of(database, select(database.tables.documents)) == []


class Halting:
    """A transaction that waits after its first statement until it is let go on."""

    def __init__(self, work: PostgresWork) -> None:
        self._work = work
        self.halted, self.go_on = asyncio.Event(), asyncio.Event()

    async def execute(self, *statement: Any) -> Any:
        result = await self._work.execute(*statement)
        self.halted.set()
        await self.go_on.wait()
        return result


async def test_two_indexes_that_drop_a_memory_do_not_block_each_other(database: Database) -> None:
    """One has locked the documents there are; then comes one of the other, which the other drops with the rest."""
    first, second, third = life("m")[:3]
    keywords = PostgresKeywords(database)
    await PostgresVectors(database).apply(None, [vectors(s, {"text": EAST}) for s in (second, third)])
    await keywords.apply(None, [words(s, "x") for s in (second, third)])
    async with asyncio.timeout(30), database.writing() as work:
        halting = Halting(work)
        dropping = asyncio.create_task(Documents(database.tables, "vector").drop(cast(Any, halting), ["m"]))
        await halting.halted.wait()
        await keywords.apply(None, [words(first, "x")])
        removing = asyncio.create_task(keywords.remove(None, ["m"]))
        while not await rows_of(database, text("SELECT 1 FROM pg_locks WHERE NOT granted")):
            await asyncio.sleep(0.01)
        halting.go_on.set()
        await dropping
    await removing
    assert await documents(database) == {"vector": set(), "keyword": set()}


async def test_each_record_is_filtered_by_its_own_document(database: Database) -> None:
    index, scope = PostgresVectors(database), Scope(tenant_id="t")
    stored = [
        record("m", hour, end=None if hour == 3 else hour + 1, scope=scope, content=Content("x", {"hour": hour}))
        for hour in range(4)
    ]
    for entry in (stored[2], stored[0], stored[3], stored[1], stored[2]):
        await index.apply(None, [vectors(entry, {"text": EAST})])
    for hour in range(4):
        for as_of in (None, stored[1].memory.created_time):
            condition = F("data.hour") == hour
            latest = stored[3 if as_of is None else 1].memory
            found = await index.candidates(None, EAST, Selection(scope, condition, as_of), limit=5)
            assert [c.record_id for c in found] == [latest.record_id] * matches(condition, latest.document)


async def test_a_memory_with_many_of_the_nearest_vectors_hides_no_other(database: Database) -> None:
    """The second search knows from the first one how many rows it has to ask for."""
    index, many = PostgresVectors(database), {f"data.f{number}": EAST for number in range(300)}
    await index.apply(None, [vectors(record("many"), many), vectors(record("one"), {"text": NORTH})])
    for _ in range(2):
        found = await index.candidates(None, EAST, Selection(Scope()), limit=2)
        assert [candidate.memory_id for candidate in found] == ["many", "one"]


async def test_who_has_the_truth_cannot_change(records_url: str, schema: str, database: Database) -> None:
    here = of(records_url, schema)
    with pytest.raises(ConfigurationError, match="elsewhere, but settings say that they are here"):
        await here.open()
    other = of(records_url, f"{schema}_other")
    await other.open()
    await other.close()
    assert other.place not in (database.place, of(records_url, f"{schema}_other").place)
    with pytest.raises(ConfigurationError, match="here, but settings say that they are elsewhere"):
        await of(records_url, f"{schema}_other", truth=False).open()


async def test_filtered_candidates_read_few_documents(database: Database) -> None:
    """10,000 memories of 100 tenants: a tenant's documents are read by its index, or each by its id."""
    t = database.tables
    columns = {
        "record_id": "'r' || n",
        "memory_id": "'m' || n",
        "version": "n",
        "scope_tenant_id": "'t' || n % 100",
        "scope_tags": "'{}'::text[]",
        "text": "repeat('word ', 40)",
        "data": "jsonb_build_object('n', n)",
        "metadata": "'{}'::jsonb",
        "sources": "'[]'::jsonb",
        "type": "'general'",
        "field_name": "'text'",
        "model_id": "'documents'",
        "content_hash": "'h'",
        "created_time": "now()",
        "in_vector_index": "true",
        "in_keyword_index": "false",
        "embedding": f"ARRAY[random(), random(), random(), 1]::halfvec({DIMS})",
    }
    async with database.writing() as work:
        for table in (t.documents, t.vectors):
            names = [column.name for column in table.columns if column.name in columns]
            rows = text(f"SELECT {', '.join(columns[name] for name in names)} FROM generate_series(1, 10000) n")
            await work.execute(insert(table).from_select(names, rows.columns(*(table.c[name] for name in names))))
        await work.execute(text("ANALYZE"))
    selection = Selection(Scope(tenant_id="t7"), F("data.n") < 5_000)
    statement = vector_statements._candidates(t, Shape.of(selection), t.vectors, 100, Scan.EXACT)
    async with database.engine.connect() as connection:
        await connection.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
        plan = await plan_of(connection, statement, **values(selection, vector=list(NORTH)))
    assert "memory_filter_documents" in plan
    assert "Seq Scan" not in plan, plan
    found = await PostgresVectors(database).candidates(None, NORTH, selection, limit=100)
    assert len(found) == 50
