"""How the server answers each read of the truth, as its own profiler says: by an index, and listings unsorted."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from dev.servers.mongodb import MongoServer

from memground.clock import nanoseconds
from memground.filters import F
from omnimem import Scope
from omnimem.models.scope import DIMENSIONS
from omnimem.storage.base import Change, Selection, StoredRecord, Work
from omnimem.storage.mongodb import MongoDatabase, MongoOutbox, MongoRecords
from omnimem.testing.conformance import START, record
from support.mongo import mongo_database

MEMORIES, VERSIONS = 1_500, 4
SECOND = timedelta(seconds=1)
NOW = Scope(tenant_id="t0", user_id="u7")
THEN = START + 2 * MEMORIES * SECOND


def _scope(number: int) -> Scope:
    return Scope(
        tenant_id=f"t{number % 3}",
        user_id=f"u{number % 50}",
        app_id=f"a{number % 2}",
        group_id=f"g{number % 10}",
        agent_id=f"x{number % 5}" if number % 4 == 0 else None,
        run_id=f"r{number % 300}",
        namespace={"project": f"p{number % 20}", "env": f"e{number % 2}"},
    )


def _records() -> list[StoredRecord]:
    """Every memory changes once in each of the rounds."""
    found: list[StoredRecord] = []
    for number in range(MEMORIES):
        times = [START + (turn * MEMORIES + number) * SECOND for turn in range(VERSIONS)]
        for turn, time in enumerate(times):
            stored = record(f"m{number:05}", scope=_scope(number), metadata={"n": number})
            fields = {
                **vars(stored.memory),
                "record_id": f"m{number:05}@{turn}",
                "created_time": time,
                "version": nanoseconds(time),
                "is_latest": turn == VERSIONS - 1,
            }
            found.append(StoredRecord(type(stored.memory).stored(**fields), next(iter(times[turn + 1 :]), None)))
    return found


class Profiled:
    """A database whose profiler tells what was run."""

    def __init__(self, database: MongoDatabase) -> None:
        self.database = database
        self.records = MongoRecords(database)
        self.outbox = MongoOutbox(database)

    async def plans(self, call: Callable[[Work], Awaitable[object]]) -> list[dict[str, Any]]:
        """What the server did for a read."""
        db = self.database.client[self.database.name]
        await db.command("profile", 0)
        await db["system.profile"].drop()
        await db.command("profile", 2)
        async with self.records.reading() as work:
            await call(work)
        await db.command("profile", 0)
        operations = {"op": {"$in": ["query", "command", "remove"]}, "command.profile": None}
        return await db["system.profile"].find(operations).to_list()


@pytest.fixture(scope="module")
async def profiled(mongo: MongoServer) -> AsyncIterator[Profiled]:
    async with mongo_database(mongo.url) as database:
        found = Profiled(database)
        await found.records.write(lambda work: found.records.insert(work, _records()))
        changes = [Change("put", f"m{n:05}", f"m{n:05}@0") for n in range(500)]
        await found.records.write(lambda work: found.outbox.record(work, changes))
        yield found


async def indexed(
    profiled: Profiled, call: Callable[[Work], Awaitable[object]], *, keys: int, sorts: bool = False
) -> None:
    """Asserts that all a call runs goes by an index, looks at `keys` of its keys at most, and sorts nothing."""
    plans = await profiled.plans(call)
    assert plans
    for plan in plans:
        summary = plan["planSummary"]
        assert "IXSCAN" in summary or "IDHACK" in summary or "COUNT_SCAN" in summary, summary
        assert "COLLSCAN" not in summary, summary
        assert sorts or not plan.get("hasSortStage"), summary
        assert plan["keysExamined"] <= keys, (summary, plan["keysExamined"])


async def test_one_memory(profiled: Profiled) -> None:
    records, version = profiled.records, nanoseconds(START + 5 * SECOND)
    await indexed(profiled, lambda work: records.get(work, "m00057", NOW), keys=1)
    await indexed(profiled, lambda work: records.get(work, "m00057", Scope()), keys=1)
    await indexed(profiled, lambda work: records.get(work, "m00005", Scope(), version=version), keys=1)
    await indexed(profiled, lambda work: records.record(work, "m00057", "m00057@1", NOW), keys=1)
    await indexed(profiled, lambda work: records.at(work, "m00057", THEN, NOW), keys=VERSIONS + 2)
    await indexed(profiled, lambda work: records.history(work, "m00057", NOW, limit=2), keys=3)
    await indexed(profiled, lambda work: records.history(work, "m00057", NOW, limit=2, before=version), keys=3)


@pytest.mark.parametrize("dimension", DIMENSIONS)
async def test_a_listing_of_each_dimension(profiled: Profiled, dimension: str) -> None:
    await _listing(profiled, Scope(**{dimension: getattr(_scope(0), dimension)}), most=51)


@pytest.mark.parametrize(
    ("scope", "most"),
    [
        (Scope(), 51),
        (NOW, 150),
        (Scope(tenant_id="t0", run_id="r6"), 60),
        (Scope(namespace={"project": "p3"}), 51),
        (Scope(namespace={"project": "p3", "env": "e1"}), 60),
        (Scope(tenant_id="t1", user_id="u7", app_id="a1", namespace={"project": "p7"}), 150),
    ],
)
async def test_a_listing_of_several(profiled: Profiled, scope: Scope, most: int) -> None:
    await _listing(profiled, scope, most=most)


async def _listing(profiled: Profiled, scope: Scope, *, most: int) -> None:
    records = profiled.records
    async with records.reading() as work:
        part = await records.select(work, Selection(scope), limit=20)
    after = (part[-1].version, part[-1].memory_id)
    now, then = Selection(scope), Selection(scope, as_of=THEN)
    filtered = Selection(scope, F("metadata.n").between(0, 10_000))
    await indexed(profiled, lambda work: records.select(work, now, limit=50), keys=most)
    await indexed(profiled, lambda work: records.select(work, now, limit=20, after=after), keys=most)
    await indexed(profiled, lambda work: records.select(work, filtered, limit=20), keys=most)
    # Of the past every record may be looked at, in the order of the listing.
    await indexed(profiled, lambda work: records.select(work, then, limit=50), keys=2 * MEMORIES * VERSIONS)
    await indexed(profiled, lambda work: records.count(work, now), keys=MEMORIES + 1)
    await indexed(profiled, lambda work: records.count(work, then), keys=2 * MEMORIES * VERSIONS)


async def test_many_memories(profiled: Profiled) -> None:
    records = profiled.records
    ids = [f"m{n:05}" for n in range(0, 1_000, 50)]
    record_ids = [f"{memory_id}@2" for memory_id in ids]
    now, then = Selection(Scope(tenant_id="t1")), Selection(Scope(tenant_id="t1"), as_of=THEN)
    most = 2 * len(ids)
    await indexed(profiled, lambda work: records.hydrate(work, ids, now), keys=most)
    await indexed(profiled, lambda work: records.hydrate(work, ids, then), keys=most * VERSIONS)
    await indexed(profiled, lambda work: records.records(work, record_ids), keys=most)
    await indexed(profiled, lambda work: records.records(work, record_ids, predecessors=True), keys=2 * most)
    await indexed(profiled, lambda work: records.of_memories(work, ids), keys=most * VERSIONS)
    await indexed(profiled, lambda work: records.existing(work, ids), keys=most)
    await indexed(profiled, lambda work: records.scan(work, Scope(), after="m00100", memories=50), keys=300)
    few = Scope(run_id="r6")  # a scope of few memories is read whole rather than all memories in order
    await indexed(profiled, lambda work: records.scan(work, few, after="m00100", memories=50), keys=300, sorts=True)


async def test_the_outbox(profiled: Profiled) -> None:
    outbox = profiled.outbox

    async def forgotten(work: Work) -> None:
        await outbox.forget([Change("put", "m00007", "m00007@0")])

    await indexed(profiled, lambda work: outbox.due(100), keys=100)
    await indexed(profiled, lambda work: outbox.status(), keys=501)
    await indexed(profiled, forgotten, keys=1)
