"""What every RecordStore must do."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast

from memground.errors import (
    ConflictError,
)
from memground.filters import And, AnyElement, F, Filter, Or, matches
from omnimem.models import Content, IndexHint, Memory, Scope
from omnimem.storage.base import (
    Change,
    Selection,
    Storage,
    Work,
)
from omnimem.testing.conformance.common import HOUR, START, insert, record, refused


class RecordConformance:
    """The truth."""

    async def test_a_record_is_read_back_as_it_was_written(self, storage: Storage) -> None:
        full = record(
            "m",
            scope=Scope(tenant_id="t", run_id="r", namespace={"a:b": "c%d"}),
            content=Content("text ä 中", {"a": [1, 2.5, None, True, {"b": "c"}]}),
            metadata={"k": [1]},
            index_hint=IndexHint(vector_fields=["data.a[*].b"]),
            event_time=START,
            valid_time_to=START,
        )
        await insert(storage, [full])
        async with storage.records.reading() as work:
            assert await storage.records.get(work, "m", Scope()) == full.memory
            assert await storage.records.records(work, ["m@0", "none"]) == [full]

    async def test_a_failed_transaction_leaves_nothing(self, storage: Storage) -> None:
        async def body(work: Work) -> None:
            await storage.records.insert(work, [record("m")])
            await storage.record(work, [Change("put", "m", "m@0")])
            raise ConflictError("on purpose")

        await refused(storage.records.write(body), ConflictError)
        async with storage.records.reading() as work:
            assert await storage.records.get(work, "m", Scope()) is None
        assert (await storage.status()).waiting == 0

    async def test_taken_ids_conflict(self, storage: Storage) -> None:
        await insert(storage, [record("m")], named=True)
        await refused(insert(storage, [record("m")], named=True), ConflictError)
        await refused(insert(storage, [record("m", 1)], named=True), ConflictError)
        await self._remove(storage, "m")
        await refused(insert(storage, [record("m", 2)], named=True), ConflictError)

    async def test_a_successor_becomes_the_latest(self, storage: Storage) -> None:
        await self._life(storage)
        async with storage.records.reading() as work:
            latest = await storage.records.get(work, "m", Scope())
            assert latest is not None
            assert (latest.record_id, latest.is_latest) == ("m@2", True)
            history = await storage.records.history(work, "m", Scope(), limit=10)
            assert [(m.record_id, m.is_latest) for m in history] == [("m@2", True), ("m@1", False), ("m@0", False)]
            older = await storage.records.history(work, "m", Scope(), limit=1, before=history[0].version)
            assert [m.record_id for m in older] == ["m@1"]
            found = await storage.records.get(work, "m", Scope(), version=history[2].version)
            assert found is not None
            assert found.record_id == "m@0"
            assert await storage.records.record(work, "m", "m@1", Scope()) == history[1]
            assert await storage.records.record(work, "other", "m@1", Scope()) is None
            life = await storage.records.of_memories(work, ["m"])
            assert [stored.superseded_time for stored in life] == [START + HOUR, START + 2 * HOUR, None]
            assert await storage.records.records(work, ["m@2", "m@0"]) == [life[0], life[2]]
            assert await storage.records.records(work, ["m@2"], predecessors=True) == life[1:]
            assert await storage.records.records(work, ["m@0"], predecessors=True) == life[:1]

    async def test_every_moment_has_one_record(self, storage: Storage) -> None:
        await self._life(storage)
        async with storage.records.reading() as work:
            for minutes, expected in [(-1, None), (0, "m@0"), (59, "m@0"), (60, "m@1"), (120, "m@2"), (999, "m@2")]:
                moment = START + timedelta(minutes=minutes)
                at = await storage.records.at(work, "m", moment, Scope())
                then = await storage.records.select(work, Selection(as_of=moment), limit=10)
                assert (at.record_id if at else None) == expected
                assert [m.record_id for m in then] == ([expected] if expected else [])
                assert await storage.records.count(work, Selection(as_of=moment)) == len(then)
                hydrated = await storage.records.hydrate(work, ["m", "none"], Selection(as_of=moment))
                assert [m.record_id for m in hydrated.values()] == ([expected] if expected else [])

    async def test_removal_takes_every_record(self, storage: Storage) -> None:
        await self._life(storage)
        assert await self._remove(storage, "m") == 3
        async with storage.records.reading() as work:
            assert await storage.records.get(work, "m", Scope()) is None
            assert await storage.records.at(work, "m", START, Scope()) is None
            assert await storage.records.history(work, "m", Scope(), limit=10) == []
            assert await storage.records.existing(work, ["m"]) == set()

    async def test_a_scope_hides_what_is_outside(self, storage: Storage) -> None:
        theirs = Scope(tenant_id="t", user_id="u", namespace={"env": "prod"})
        await insert(storage, [record("m", scope=theirs)])
        inside = [Scope(), Scope(tenant_id="t"), Scope(user_id="u"), Scope(namespace={"env": "prod"}), theirs]
        outside = [Scope(tenant_id="x"), Scope(tenant_id="t", user_id="v"), Scope(namespace={"env": "dev"})]
        outside += [Scope(app_id="a"), Scope(namespace={"env": "prod", "more": "x"})]
        records = storage.records
        for scope in [*inside, *outside]:
            expected = int(scope in inside)
            async with records.reading() as work:
                found = [
                    await records.get(work, "m", scope),
                    await records.record(work, "m", "m@0", scope),
                    await records.at(work, "m", START, scope),
                    *await records.select(work, Selection(scope), limit=5),
                    *await records.history(work, "m", scope, limit=5),
                    *(await records.hydrate(work, ["m"], Selection(scope))).values(),
                    *(stored.memory for stored in await records.scan(work, scope, after="", memories=5)),
                ]
                assert len([memory for memory in found if memory is not None]) == 7 * expected
                assert await records.count(work, Selection(scope)) == expected
            locked = await records.write(lambda work, scope=scope: records.lock(work, "m", scope))
            assert (locked is not None) == bool(expected)

    async def test_filters_select(self, storage: Storage) -> None:
        documents: list[dict[str, Any]] = [{"n": 1}, {"n": 2.0, "tags": ["a"]}, {"n": "2"}, {"tags": []}]
        await insert(storage, [record(f"m{i}", content=Content(data=data)) for i, data in enumerate(documents)])
        for condition, expected in [
            (F("data.n") == 2, {"m1"}),
            (F("data.n") != 2, {"m0", "m2", "m3"}),
            (~(F("data.n") >= 1), {"m2", "m3"}),
            (F("data.tags").exists(), {"m1", "m3"}),
            (F("data.tags").contains("a") | (F("data.n") == "2"), {"m1", "m2"}),
            (F("created_time") < START, set[str]()),
        ]:
            async with storage.records.reading() as work:
                found = await storage.records.select(work, Selection(filter=condition), limit=10)
                assert {m.memory_id for m in found} == expected
                assert await storage.records.count(work, Selection(filter=condition)) == len(expected)

    async def test_listings_and_scans_go_on_where_they_ended(self, storage: Storage) -> None:
        await insert(storage, [record(f"m{n:02}", n % 3) for n in range(10)])
        listed: list[Memory] = []
        scanned: list[str] = []
        async with storage.records.reading() as work:
            while True:
                after = (listed[-1].version, listed[-1].memory_id) if listed else None
                part = await storage.records.select(work, Selection(), limit=3, after=after)
                if not part:
                    break
                listed += part
            while part := await storage.records.scan(work, Scope(), after=(scanned or [""])[-1], memories=4):
                scanned += [stored.memory.memory_id for stored in part]
        order = [(m.version, m.memory_id) for m in listed]
        assert order == sorted(order, reverse=True)
        assert len(order) == len(set(scanned)) == 10

    async def test_json_and_times_come_back_exactly(self, storage: Storage) -> None:
        keys = ["a.b", "$a", "$set", "a$", "0", "007", "", "%", "%2E", "ключ", "é😀", 'q"\\', "__proto__", " "]
        numbers = [0, 4, 4.0, -0.5, 2**63 - 1, -(2**63), 2**53 + 1, 2.0**53, 5e-324, 0.1 + 0.2]
        texts = ["", "$x", "e\u0301", "\uffff", "😀", "\x01", "null", "2026-01-01T00:00:00Z"]
        data: dict[str, list[Any]] = {key: [*numbers, *texts, None, True, {key: {key: []}}] for key in keys}
        deep: Any = "end"
        for level in range(20):
            deep = {f"level.{level}": [deep]} if level % 2 else [deep]
        late = datetime(9999, 12, 31, 23, 59, 59, 999_998, tzinfo=UTC)
        full = record(
            "m",
            content=Content(data=data, schema={"$schema": "https://json-schema.org/draft/2020-12/schema"}),
            metadata={"deep": deep},
            event_time=datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
            valid_time_from=START + timedelta(microseconds=1),
            valid_time_to=late,
        )
        await insert(storage, [full])
        async with storage.records.reading() as work:
            (found,) = await storage.records.records(work, ["m@0"])
            assert found == full
            read = cast("dict[str, list[Any]]", found.memory.content.data)
            assert {key: [type(value) for value in values] for key, values in read.items()} == {
                key: [type(value) for value in values] for key, values in data.items()
            }
            for condition in (
                F('data."a.b"') == 4, F('data."$set"') == "$x", F('data."0"') == 2**63 - 1,
                F("valid_time_from") > START, F("valid_time_to") >= late,
                F("valid_time_from").between(START + timedelta(microseconds=1), START + timedelta(microseconds=1)),
            ):  # fmt: skip
                assert await storage.records.count(work, Selection(filter=condition)) == 1, condition
                assert await storage.records.count(work, Selection(filter=~condition)) == 0, condition

    async def test_any_filter_is_decided_page_by_page(self, storage: Storage) -> None:
        """Filters as deep, wide and long as there may be; what the server cannot decide is decided all the same."""
        nested: Filter = F("a") == 1
        while nested.depth < 60:
            nested = AnyElement("a", nested)
        value: Any = {"a": 1}
        for _ in range(25):
            value = {"a": value}
        twined: Filter = F("data.n") == 1
        for level in range(62):
            twined = (And, Or)[level % 2]((twined, F("data.n").exists(level % 2 == 0)))
        records = [record(f"m{n:02}", n, content=Content(data={"n": n, "a": value})) for n in range(12)]
        await insert(storage, records)
        shallow: Filter = F("a") == 1
        for _ in range(24):
            shallow = AnyElement("a", shallow)
        for condition in (
            ~AnyElement("data", nested) & (F("data.n") > 3),
            AnyElement("data.a", shallow) & (F("data.n") <= 8),
            twined,
            F("data.n").in_([*range(500), *(f"{n:04}" + "x" * 9_990 for n in range(500))]),
            Or(tuple(F("data.n") == n for n in range(3, 999))),
        ):
            expected = [
                stored.memory.memory_id for stored in records[::-1] if matches(condition, stored.memory.document)
            ]
            found: list[Memory] = []
            async with storage.records.reading() as work:
                selection = Selection(filter=condition)
                while True:
                    after = (found[-1].version, found[-1].memory_id) if found else None
                    part = await storage.records.select(work, selection, limit=3, after=after)
                    found += part
                    if len(part) < 3:
                        break
                assert await storage.records.count(work, selection) == len(expected)
                everyone = [stored.memory.memory_id for stored in records]
                assert set(await storage.records.hydrate(work, everyone, selection)) == set(expected)
            assert [memory.memory_id for memory in found] == expected

    async def test_many_changes_of_one_memory_happen_one_after_the_other(self, storage: Storage) -> None:
        await insert(storage, [record("m", 0)])
        writers = 16

        async def update(number: int) -> None:
            async def body(work: Work) -> None:
                latest = await storage.records.lock(work, "m", Scope())
                assert latest is not None
                fields = {
                    **vars(latest),
                    "record_id": f"m@w{number}",
                    "version": latest.version + 1,
                    "metadata": {"before": latest.record_id},
                }
                await storage.records.supersede(work, Memory.stored(**fields))

            await storage.records.write(body)

        seen: list[int] = []
        writing = asyncio.gather(*(update(number) for number in range(writers)))
        while not writing.done():
            async with storage.records.reading() as work:
                history = await storage.records.history(work, "m", Scope(), limit=100)
                assert [memory.is_latest for memory in history] == [True] + [False] * (len(history) - 1)
                assert await storage.records.get(work, "m", Scope()) == history[0]
                assert await storage.records.count(work, Selection()) == 1
                seen.append(len(history))
            await asyncio.sleep(0)
        await writing
        assert seen == sorted(seen)
        async with storage.records.reading() as work:
            life = [stored.memory for stored in await storage.records.of_memories(work, ["m"])]
        assert len(life) == writers + 1
        assert [m.metadata["before"] for m in life[1:]] == [m.record_id for m in life[:-1]]
        assert all(a.version < b.version for a, b in pairwise(life))

    async def test_who_holds_a_memory_changes_it_alone(self, storage: Storage) -> None:
        await insert(storage, [record("m", 0)])
        held, done = asyncio.Event(), list[str]()

        async def holding(work: Work) -> None:
            await storage.records.hold(work, ["m", "unknown"])
            held.set()
            await asyncio.sleep(0.2)
            done.append("held")

        async def changing(work: Work) -> None:
            await storage.records.lock(work, "m", Scope())
            await storage.records.supersede(work, record("m", 1).memory)

        async def naming(work: Work) -> None:
            await storage.records.insert(work, [record("unknown")], named=True)

        async def after(body: Callable[[Work], Awaitable[None]], what: str) -> None:
            await held.wait()
            await storage.records.write(body)
            done.append(what)

        await asyncio.gather(storage.records.write(holding), after(changing, "changed"))
        assert done == ["held", "changed"]
        await insert(storage, [record("other")], named=True)
        await storage.records.write(naming)

    async def test_a_reading_sees_one_moment_and_what_was_written_before(self, storage: Storage) -> None:
        for turn in range(20):
            await insert(storage, [record(f"m{turn}", turn)])
            async with storage.records.reading() as work:
                assert await storage.records.count(work, Selection()) == turn + 1
                await insert(storage, [record(f"late{turn}", turn)])
                assert await storage.records.get(work, f"late{turn}", Scope()) is None
                assert await storage.records.count(work, Selection()) == turn + 1
            await self._remove(storage, f"late{turn}")

    async def _life(self, storage: Storage) -> None:
        await insert(storage, [record("m", 0)])
        for hour in (1, 2):

            async def body(work: Work, hour: int = hour) -> None:
                assert await storage.records.lock(work, "m", Scope()) is not None
                await storage.records.supersede(work, record("m", hour).memory)

            await storage.records.write(body)

    async def _remove(self, storage: Storage, memory_id: str) -> int:
        async def body(work: Work) -> int:
            await storage.records.lock(work, memory_id, Scope())
            return await storage.records.remove(work, memory_id, START)

        return await storage.records.write(body)
