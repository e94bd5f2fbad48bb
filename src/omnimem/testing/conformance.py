"""What every storage adapter must do, as test classes for pytest (with pytest-asyncio in auto mode).

A backend's test file opens a storage and inherits::

    class TestMine(RecordConformance, VectorConformance, KeywordConformance, QueueConformance):
        @pytest.fixture
        async def storage(self):
            async with open_storage(Settings(…), dims=4, model_id="conformance") as storage:
                yield storage

The storage is empty at the start of each test and holds vectors of 4 numbers. A role that is not yours may be played by
another adapter; `OutboxConformance` is for an outbox beside the truth. What a store declares not to do (`Capabilities`)
is not asked of it, except that it says so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast

from memground.clock import nanoseconds
from memground.errors import (
    ConfigurationError,
    ConflictError,
    MemoryStoreError,
    ModelMismatchError,
    UnsupportedError,
)
from memground.filters import And, AnyElement, F, Filter, Or, matches
from omnimem.models import Content, IndexHint, Memory, NewMemory, Scope, SourceReference
from omnimem.models.memory import checked
from omnimem.storage.base import (
    Candidate,
    Change,
    Claim,
    Index,
    Indexed,
    KeywordEntry,
    Outbox,
    Selection,
    Storage,
    StoredRecord,
    Vector,
    VectorEntry,
    VectorIndex,
    Work,
)

DIMS = 4
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def record(
    memory_id: str, hour: int = 0, *, end: int | None = None, scope: Scope | None = None, **fields: Any
) -> StoredRecord:
    """The record a memory got at an hour, superseded at another."""
    given: dict[str, Any] = {"content": Content(f"{memory_id} {hour}"), "scope": scope or Scope(), **fields}
    new = NewMemory(**given)
    memory = Memory.stored(
        memory_id=memory_id,
        record_id=f"{memory_id}@{hour}",
        version=nanoseconds(START + hour * HOUR),
        is_latest=end is None,
        created_time=START + hour * HOUR,
        **checked(new),
    )
    return StoredRecord(memory, None if end is None else START + end * HOUR)


async def insert(storage: Storage, records: Sequence[StoredRecord], *, named: bool = False) -> None:
    """Stores records of new memories."""
    await storage.records.write(lambda work: storage.records.insert(work, records, named=named))


async def refused(call: Awaitable[Any], kind: type[MemoryStoreError]) -> str:
    """The message of the error a call must raise."""
    try:
        await call
    except kind as error:
        return str(error)
    raise AssertionError(f"{kind.__name__} was expected")


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


def filtered_life() -> list[StoredRecord]:
    """Records of several memories that differ in all that filters may name, and one more of the first."""
    return [
        record("m0", end=1, content=Content("green", {"n": 1, "tags": ["a"]}), metadata={"k": "x"}, type="fact"),
        record("m0", 1, content=Content("green", {"n": 2.0, "tags": ["b"]}), metadata={"k": "y"}, event_time=START),
        record("m1", content=Content("green tea", {"n": "2", "items": [{"p": 1, "q": 2}]}), valid_time_to=START),
        record("m2", content=Content("green", [1, 2]), sources=[SourceReference("message", "s1")], type="fact"),
        record("m3", content=Content("green"), metadata={"k": None, "n": 2}, valid_time_from=START),
    ]


FILTERS: Sequence[Filter] = (
    F("data.n") == 2,
    F("data.n") != 2,
    ~(F("data.n") >= 1),
    F("data.tags").contains("b"),
    F("data.items").any((F("p") == 1) & (F("q") == 2)),
    F("metadata.k").exists(),
    F("metadata.k") == "x",
    F("sources.id") == "s1",
    F("text") == "green",
    F("type") == "fact",
    F("memory_id").in_(["m0", "m3"]),
    F("record_id") == "m0@1",
    F("version") > nanoseconds(START),
    F("created_time") <= START,
    F("event_time").exists(),
    ~(F("valid_time_from") > START) & (F("valid_time_to") <= START),
    (F("metadata.k") == "y") | (F("data.n") == "2"),
)


class _FilteredSearch:
    """What both indexes do with filters: what passes is found, as the record the index has of it says."""

    async def _check_filters(self, storage: Storage, index: Index[Any, Any], life: Sequence[Any], asked: Any) -> None:
        """`life`: entries of `filtered_life`; `asked`: what the index is asked for, admitting all of them."""
        if not index.capabilities.filters:
            return
        records = filtered_life()
        await insert(storage, records)
        for entry in (life[1], *life, life[0]):  # whatever comes in whatever order, and twice
            await index.apply(None, [entry], refresh=True)
        for as_of in (None, START + HOUR / 2) if index.capabilities.as_of else (None,):
            other = records[0 if as_of is None else 1]
            latest = [record.memory for record in records if record is not other]
            for condition in FILTERS:
                await self._agrees(asked, Selection(filter=condition, as_of=as_of), latest)
        await index.remove(None, ["m0", "m1"])
        await self._agrees(asked, Selection(filter=F("type").exists()), [r.memory for r in records[3:]])

    async def _agrees(self, asked: Any, selection: Selection, memories: Sequence[Memory]) -> None:
        assert selection.filter is not None
        expected = {m.memory_id for m in memories if matches(selection.filter, m.document)}
        found: list[Candidate] = await asked(selection)
        decided = {candidate.memory_id for candidate in found if candidate.decided}
        assert decided <= expected <= {candidate.memory_id for candidate in found}, selection.filter


def vectors(stored: StoredRecord, fields: dict[str, Sequence[float]]) -> VectorEntry:
    """The entry of a record whose vectors are given."""
    return VectorEntry(Indexed.of(stored), {name: Vector(f"{name}{list(v)}"[:32], v) for name, v in fields.items()})


EAST, NORTH, UP = (1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)


class VectorConformance(_FilteredSearch):
    """Finding by meaning."""

    async def test_the_nearest_come_first_each_once_by_its_best_field(self, storage: Storage) -> None:
        await storage.vectors.apply(
            None,
            [
                vectors(record("east"), {"text": EAST, "data.up": UP}),
                vectors(record("north"), {"text": NORTH}),
                vectors(record("none"), {}),
            ],
        )
        await insert(storage, [record("east"), record("north"), record("none")])
        found = await storage.vectors.candidates(None, UP, Selection(), limit=10)
        assert (found[0].memory_id, found[0].record_id, found[0].field) == ("east", "east@0", "data.up")
        assert {c.memory_id for c in found} == {"east", "north"}
        assert abs(found[0].score - 1.0) < 1e-2
        assert len(await storage.vectors.candidates(None, UP, Selection(), limit=1)) == 1

    async def test_changes_in_any_order_end_the_same(self, storage: Storage) -> None:
        life = [record("m", 0, end=1), record("m", 1, end=2), record("m", 2)]
        await insert(storage, life)
        entries = [vectors(stored, {"text": v}) for stored, v in zip(life, (EAST, NORTH, UP), strict=True)]
        for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 2, 2, 1, 1, 0]):
            await storage.vectors.reset(None, ["m"])
            for number in order:
                await storage.vectors.apply(None, [entries[number]])
            held = await storage.vectors.contents(None, ["m"])
            assert {key: content.superseded_time for key, content in held.items()} == {
                stored.memory.record_id: stored.superseded_time for stored in life
            }
            now = await storage.vectors.candidates(None, UP, Selection(), limit=5)
            assert [c.record_id for c in now] == ["m@2"]

    async def test_the_past_is_found_or_refused(self, storage: Storage) -> None:
        life = [record("m", 0, end=1), record("m", 1)]
        await insert(storage, life)
        await storage.vectors.apply(None, [vectors(life[0], {"text": EAST}), vectors(life[1], {"text": NORTH})])
        then = Selection(as_of=START + HOUR / 2)
        if not storage.vectors.capabilities.as_of:
            await refused(storage.vectors.candidates(None, EAST, then, limit=5), UnsupportedError)
            return
        found = await storage.vectors.candidates(None, EAST, then, limit=5)
        assert [(c.record_id, round(c.score, 2)) for c in found] == [("m@0", 1.0)]
        assert await storage.vectors.candidates(None, EAST, Selection(as_of=START - HOUR), limit=5) == []

    async def test_a_removed_memory_does_not_come_back(self, storage: Storage) -> None:
        await storage.vectors.apply(None, [vectors(record("m"), {"text": EAST})])
        await storage.vectors.remove(None, ["m", "unknown"])
        await storage.vectors.apply(None, [vectors(record("m"), {"text": EAST}), vectors(record("m", 1), {"text": UP})])
        await storage.vectors.apply(None, [vectors(record("unknown"), {"text": EAST})])
        assert await storage.vectors.candidates(None, EAST, Selection(), limit=5) == []
        assert await storage.vectors.contents(None, ["m"]) == {}
        assert await storage.vectors.memory_ids(None, after="", limit=5) == []

    async def test_scopes_bound_the_search(self, storage: Storage) -> None:
        mine, theirs = Scope(tenant_id="a", namespace={"x": "1"}), Scope(tenant_id="b", namespace={"x": "2"})
        both = [record("m", scope=mine), record("t", scope=theirs)]
        await insert(storage, both)
        await storage.vectors.apply(None, [vectors(stored, {"text": EAST}) for stored in both])
        for scope in (Scope(tenant_id="a"), Scope(namespace={"x": "1"}), mine):
            found = await storage.vectors.candidates(None, EAST, Selection(scope), limit=5)
            assert [c.memory_id for c in found] == ["m"]

    async def test_vectors_are_found_by_filters_in_any_order_of_changes(self, storage: Storage) -> None:
        life = [vectors(stored, {"text": EAST}) for stored in filtered_life()]

        async def asked(selection: Selection) -> list[Candidate]:
            return await storage.vectors.candidates(None, EAST, selection, limit=10)

        await self._check_filters(storage, storage.vectors, life, asked)

    async def test_what_was_embedded_is_known(self, storage: Storage) -> None:
        life = [record("m", 0, end=1), record("m", 1)]
        entries = [vectors(life[0], {"text": EAST}), vectors(life[1], {"text": UP})]
        await storage.vectors.apply(None, entries)
        hashes = [entry.vectors["text"].content_hash for entry in entries]
        wanted = [("m", hashes[0]), ("m", hashes[1]), ("m", "other"), ("n", hashes[0])]
        known = await storage.vectors.known(None, wanted)
        assert {key: list(vector.numbers) for key, vector in known.items()} == {
            ("m", hashes[0]): list(EAST),
            ("m", hashes[1]): list(UP),
        }

    async def test_another_model_s_vectors_take_their_place(self, storage: Storage) -> None:
        """Vectors of other length beside those in use, which tell what is missing; one switch; the old ones refuse."""
        life = [record("m", 0, end=1), record("m", 1), record("n"), record("gone")]
        await insert(storage, life)
        old = storage.vectors
        await old.apply(None, [vectors(stored, {"text": EAST}) for stored in life])
        await old.remove(None, ["gone"])
        async with old.successor(dims=2, model_id="another") as successor:
            new = successor.index
            assert (new.dims, new.model_id) == (2, "another")
            assert await successor.progress() == (0, 2)
            assert await successor.behind(after="", limit=5) == ["m", "n"]
            assert not await successor.switch()
            await new.apply(None, [vectors(stored, {"text": (0.0, 1.0)}) for stored in life[:3]])
            assert await successor.behind(after="", limit=5) == []
            assert [c.memory_id for c in await old.candidates(None, EAST, Selection(), limit=5)] == ["m", "n"]
            later = record("m", 2)
            await old.apply(None, [vectors(later, {"text": NORTH})])
            await old.remove(None, ["n"])
            assert await successor.behind(after="", limit=1) == ["m"]
        await refused(self._succeeded(old, 3, "third"), ConfigurationError)
        async with old.successor(dims=2, model_id="another") as successor:  # as it was left
            await refused(self._succeeded(old, 2, "another"), ConflictError)
            assert await successor.progress() == (0, 1)

            async def last() -> None:
                await new.remove(None, ["n"])
                await new.apply(None, [vectors(later, {"text": (1.0, 0.0)})])

            assert await successor.switch(last)
        found = await new.candidates(None, (1.0, 0.0), Selection(), limit=5)
        assert [(c.record_id, round(c.score, 2)) for c in found] == [("m@2", 1.0)]
        await new.apply(None, [vectors(stored, {"text": (1.0, 0.0)}) for stored in life[2:]])
        assert await new.memory_ids(None, after="", limit=5) == ["m"]
        await refused(old.candidates(None, EAST, Selection(), limit=5), ModelMismatchError)
        await refused(old.apply(None, [vectors(later, {"text": NORTH})]), ModelMismatchError)

    async def test_another_model_s_vectors_can_be_given_up(self, storage: Storage) -> None:
        await insert(storage, [record("m")])
        await storage.vectors.apply(None, [vectors(record("m"), {"text": EAST})])
        assert not await storage.vectors.abandon()
        await self._succeeded(storage.vectors, 2, "another")
        assert await storage.vectors.abandon()
        await self._succeeded(storage.vectors, 3, "third")
        assert await storage.vectors.abandon()
        assert len(await storage.vectors.candidates(None, EAST, Selection(), limit=5)) == 1

    async def _succeeded(self, index: VectorIndex, dims: int, model_id: str) -> None:
        async with index.successor(dims=dims, model_id=model_id):
            pass


def words(stored: StoredRecord, text: str) -> KeywordEntry:
    """The entry of a record with a text."""
    return KeywordEntry(Indexed.of(stored), text, text[:32])


class KeywordConformance(_FilteredSearch):
    """Finding by word."""

    async def test_rarer_words_weigh_more(self, storage: Storage) -> None:
        texts = ["the red apple", "the red car", "the red zeppelin", "中文 搜索"]
        await self._apply(storage, *(words(record(f"m{n}"), text) for n, text in enumerate(texts)))
        found = await storage.keywords.candidates(None, "red zeppelin", Selection(), limit=10)
        assert found[0].memory_id == "m2"
        assert {c.memory_id for c in found} == {"m0", "m1", "m2"}
        assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
        assert len(await storage.keywords.candidates(None, "red zeppelin", Selection(), limit=2)) == 2
        assert [c.memory_id for c in await storage.keywords.candidates(None, "搜索", Selection(), limit=5)] == ["m3"]
        assert await storage.keywords.candidates(None, "nothing", Selection(), limit=5) == []
        assert await storage.keywords.candidates(None, "?!", Selection(), limit=5) == []

    async def test_words_meet_in_every_form(self, storage: Storage) -> None:
        texts = ["She reads the order TP-1364 at Zoë's", "今天天气很好", "3.14 and a\nsecond line"]
        await self._apply(storage, *(words(record(f"m{n}"), text) for n, text in enumerate(texts)))
        for query, expected in [
            ("reading", "m0"), ("1364", "m0"), ("tp1364", "m0"), ("ZOE", "m0"), ("天气", "m1"), ("气", "m1"),
            ("3.14", "m2"), ("lines", "m2"),
        ]:  # fmt: skip
            found = await storage.keywords.candidates(None, query, Selection(), limit=5)
            assert [c.memory_id for c in found] == [expected], query

    async def test_changes_in_any_order_leave_the_newest(self, storage: Storage) -> None:
        life = [record("m", 0, end=1), record("m", 1, end=2), record("m", 2)]
        entries = [words(stored, text) for stored, text in zip(life, ("alpha", "beta", "gamma"), strict=True)]
        for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 2, 0, 1, 0]):
            await storage.keywords.reset(None, ["m"])
            for number in order:
                await self._apply(storage, entries[number])
            await self._holds(storage, entries)
            assert await storage.keywords.candidates(None, "alpha beta", Selection(), limit=5) == []
            assert len(await storage.keywords.candidates(None, "gamma", Selection(), limit=5)) == 1
        then = Selection(as_of=START + HOUR / 2)
        if storage.keywords.capabilities.as_of:
            assert [c.record_id for c in await storage.keywords.candidates(None, "alpha gamma", then, limit=5)] == [
                "m@0"
            ]
        else:
            await refused(storage.keywords.candidates(None, "alpha", then, limit=5), UnsupportedError)

    async def test_what_was_read_before_a_newer_one_was_written_is_ignored(self, storage: Storage) -> None:
        life = [words(record("m", 0, end=1), "alpha"), words(record("m", 1), "beta")]
        stale = words(record("m", 0), "alpha")
        for order in ([stale, *life], [*life, stale], [life[0], stale, life[1]], [stale, life[1], life[0], stale]):
            await storage.keywords.reset(None, ["m"])
            for entry in order:
                await self._apply(storage, entry)
            await self._holds(storage, life)
            assert await storage.keywords.candidates(None, "alpha", Selection(), limit=5) == []

    async def test_a_removed_memory_does_not_come_back(self, storage: Storage) -> None:
        await self._apply(storage, words(record("m"), "alpha"))
        await storage.keywords.remove(None, ["m", "unknown"])
        await self._apply(storage, words(record("m", 1), "alpha"), words(record("unknown"), "alpha"))
        await self._apply(storage, words(record("m", 0, end=1), "alpha"))
        assert await storage.keywords.candidates(None, "alpha", Selection(), limit=5) == []
        if storage.keywords.capabilities.as_of:
            assert await storage.keywords.candidates(None, "alpha", Selection(as_of=START), limit=5) == []
        assert await storage.keywords.contents(None, ["m", "unknown"]) == {}
        assert await storage.keywords.memory_ids(None, after="", limit=5) == []

    async def test_a_memory_that_was_reset_is_taken_in_anew(self, storage: Storage) -> None:
        life = [words(record("m", 0, end=1), "alpha"), words(record("m", 1), "beta")]
        await self._apply(storage, *life)
        for forget in (storage.keywords.reset, storage.keywords.remove):
            await forget(None, ["m"])
            assert await storage.keywords.contents(None, ["m"]) == {}
            assert await storage.keywords.memory_ids(None, after="", limit=5) == []
            await storage.keywords.reset(None, ["m"])
            await self._apply(storage, *life)
            await self._holds(storage, life)

    async def test_many_are_taken_in_and_listed_in_order(self, storage: Storage) -> None:
        ids = [f"m{n:04}" for n in range(1_200)]
        await self._apply(storage, *(words(record(key), "alpha") for key in reversed(ids)))
        listed: list[str] = []
        while part := await storage.keywords.memory_ids(None, after=(listed or [""])[-1], limit=500):
            listed += part
        assert listed == ids
        assert {c.memory_id for c in (await storage.keywords.contents(None, ids)).values()} == set(ids)
        assert len(await storage.keywords.candidates(None, "alpha", Selection(), limit=1_000)) == 1_000

    async def test_scopes_bound_the_search(self, storage: Storage) -> None:
        scopes = [Scope(tenant_id="a"), Scope(tenant_id="b", user_id="u"), Scope(user_id="u"), Scope()]
        scopes += [Scope(namespace={"env": "prod", "p:q": "%"}), Scope(tenant_id="a", namespace={"env": "dev"})]
        await self._apply(storage, *(words(record(f"m{n}", scope=s), "alpha") for n, s in enumerate(scopes)))
        more = [Scope(app_id="x"), Scope(tenant_id="b"), Scope(namespace={"env": "prod"})]
        for asked in (*scopes, *more):
            found = await storage.keywords.candidates(None, "alpha", Selection(asked), limit=9)
            assert {c.memory_id for c in found} == {f"m{n}" for n, scope in enumerate(scopes) if asked.admits(scope)}

    async def test_words_are_found_by_filters_in_any_order_of_changes(self, storage: Storage) -> None:
        life = [words(stored, stored.memory.text or "") for stored in filtered_life()]

        async def asked(selection: Selection) -> list[Candidate]:
            return await storage.keywords.candidates(None, "green", selection, limit=10)

        await self._check_filters(storage, storage.keywords, life, asked)

    async def test_filters_lose_nothing(self, storage: Storage) -> None:
        """What passes is proposed; what is proposed though it does not pass is marked as not decided."""
        if not storage.keywords.capabilities.filters:
            return
        data: list[Any] = [
            {"n": 1}, {"n": 2.0, "tags": ["a"]}, {"n": "2"}, {"tags": []}, {"tags": ["a", "b"]}, None, [3, {"n": 3}],
            {"n": [1, 5], "items": [{"p": 1, "q": "x"}, {"p": 3, "q": "y"}]}, {"items": {"p": 3, "q": "x"}},
        ]  # fmt: skip
        stored = [record(f"m{n}", content=Content("alpha", each)) for n, each in enumerate(data)]
        await insert(storage, stored)
        await self._apply(storage, *(words(each, "alpha") for each in stored))
        same = (F("p") >= 3) & (F("q") == "x")
        for one in [
            F("data.n") == 2, F("data.n") > 1.5, F("data.n").exists(), F("data.tags").contains("a"), F("data.n") > "1",
            F("data.tags").exists(), F("data.items").any(same), F("data.items.p") < 2, F("data") == 3,
            F("data.tags").contains_all(["a", "b"]), F("created_time") <= START, F("type") == "fact",
            F("data.n").between(1.5, 4),
        ]:  # fmt: skip
            for condition in (one, ~one):
                found = await storage.keywords.candidates(None, "alpha", Selection(filter=condition), limit=50)
                passing = {s.memory.memory_id for s in stored if matches(condition, s.memory.document)}
                assert passing <= {c.memory_id for c in found}, condition
                assert {c.memory_id for c in found if c.decided} <= passing, condition

    async def _apply(self, storage: Storage, *entries: KeywordEntry) -> None:
        await storage.keywords.apply(None, entries, refresh=True)

    async def _holds(self, storage: Storage, entries: Sequence[KeywordEntry]) -> None:
        """Of the memory `m` the index has exactly these records."""
        held = await storage.keywords.contents(None, ["m"])
        assert {key: (c.memory_id, c.superseded_time, c.content_hash) for key, c in held.items()} == {
            e.record.record_id: ("m", e.record.superseded_time, e.content_hash) for e in entries
        }


class OutboxConformance:
    """Changes beside the truth, on their way to a queue that is elsewhere."""

    async def test_changes_are_due_in_order_until_they_are_forgotten(self, storage: Storage) -> None:
        outbox = self._outbox(storage)
        changes = [Change("put", "m", f"m@{n}") for n in range(5)] + [Change("delete", "n")]
        for change in changes:
            await self._recorded(storage, [change])
        assert await outbox.due(3) == changes[:3]
        assert await outbox.due(100) == changes
        status = await outbox.status()
        assert (status.waiting, status.failed) == (6, 0)
        assert status.oldest is not None
        await outbox.forget(changes[1:3])
        assert await outbox.due(100) == [changes[0], *changes[3:]]
        await outbox.forget([*changes, Change("put", "never", "never@0")])
        assert await outbox.due(100) == []
        assert (await outbox.status()).waiting == 0

    async def test_a_change_may_wait_before_it_is_due(self, storage: Storage) -> None:
        outbox = self._outbox(storage)
        late, soon = Change("put", "late", "late@0"), Change("put", "soon", "soon@0")
        await self._recorded(storage, [late], delay=0.4)
        await self._recorded(storage, [soon])
        assert await outbox.due(10) == [soon]
        await asyncio.sleep(0.5)
        assert await outbox.due(10) == [soon, late]
        await outbox.forget([late])  # as who applied it does, whether `due` gave it or not
        await self._recorded(storage, [Change("put", "n", "n@0")], delay=60)
        await outbox.forget([Change("put", "n", "n@0"), soon])
        assert (await outbox.status()).waiting == 0

    async def test_what_is_recorded_again_after_it_was_due_stays(self, storage: Storage) -> None:
        outbox, change = self._outbox(storage), Change("put", "m", "m@0")
        await self._recorded(storage, [change])
        assert await outbox.due(10) == [change]
        await self._recorded(storage, [change])
        await outbox.forget([change])
        assert await outbox.due(10) == [change]

    async def test_a_failed_transaction_records_nothing(self, storage: Storage) -> None:
        async def body(work: Work) -> None:
            await self._outbox(storage).record(work, [Change("put", "m", "m@0")])
            raise ConflictError("on purpose")

        await refused(storage.records.write(body), ConflictError)
        assert await self._outbox(storage).due(10) == []

    async def test_one_leads_until_its_time_is_over(self, storage: Storage) -> None:
        outbox = self._outbox(storage)
        led = await asyncio.gather(*(outbox.lead(f"o{n}", 0.5) for n in range(8)))
        assert sum(led) == 1
        leader = f"o{led.index(True)}"
        assert await outbox.lead(leader, 0.5)
        assert not await outbox.lead("another", 0.5)
        await asyncio.sleep(0.7)
        assert await outbox.lead("another", 0.5)
        assert not await outbox.lead(leader, 0.5)

    def _outbox(self, storage: Storage) -> Outbox:
        assert storage.outbox is not None
        return storage.outbox

    async def _recorded(self, storage: Storage, changes: Sequence[Change], *, delay: float = 0.0) -> None:
        await storage.records.write(lambda work: self._outbox(storage).record(work, changes, delay=delay))


class QueueConformance:
    """Changes that wait."""

    async def test_what_is_recorded_is_handed_out_once_while_it_is_worked_on(self, storage: Storage) -> None:
        changes = [Change("put", "m", "m@0"), Change("put", "m", "m@1"), Change("delete", "n")]
        await self._recorded(storage, changes)
        claim = await storage.queue.claim()
        assert list(claim.changes) == changes
        assert not (await storage.queue.claim()).changes
        assert await storage.queue.finish(None, claim, changes[:1]) == changes[:1]
        assert await storage.queue.finish(None, claim, changes[:1]) == []
        await storage.queue.release(claim)
        again = await storage.queue.claim()
        assert list(again.changes) == changes[1:]
        assert await storage.queue.finish(None, claim, changes) == []
        assert await storage.queue.finish(None, again, changes[1:]) == changes[1:]
        assert (await storage.queue.status()).waiting == 0

    async def test_what_fails_is_tried_again_and_at_last_shown(self, storage: Storage) -> None:
        change = Change("put", "m", "m@0")
        await self._recorded(storage, [change])
        for _ in range(100):
            claim = await storage.queue.claim()
            if not claim.changes:
                break
            await storage.queue.fail(claim, [change], "no luck")
        status = await storage.queue.status()
        assert status.waiting + status.failed == 1
        assert status.last_error == "no luck"
        if status.failed:
            assert await storage.queue.retry_failed() == 1
            assert list((await storage.queue.claim()).changes) == [change]

    async def test_what_is_recorded_twice_is_worked_on_once(self, storage: Storage) -> None:
        change = Change("put", "m", "m@0")
        await self._recorded(storage, [change])
        await self._recorded(storage, [change])
        assert (await storage.queue.status()).waiting >= 1
        claim = await storage.queue.claim()
        assert list(claim.changes) == [change]
        assert await storage.queue.finish(None, claim, [change]) == [change]
        assert not (await storage.queue.claim()).changes
        assert (await storage.queue.status()).waiting == 0

    async def test_what_failed_for_good_is_listed_until_it_is_tried_anew(self, storage: Storage) -> None:
        changes = [Change("put", "m", "m@0"), Change("delete", "n"), Change("put", "o", "o@0")]
        for number, change in enumerate(changes):
            await self._recorded(storage, [change])
            for _ in range(100):
                if not (claim := await storage.queue.claim()).changes:
                    break
                assert list(claim.changes) == [change]
                await storage.queue.fail(claim, [change], f"no luck {number}")
        if (await storage.queue.status()).failed < len(changes):
            return  # they are still being tried: the policy of this storage is too patient for a test
        found = await storage.queue.failed(10)
        assert [(each.change, each.error) for each in found] == [
            (change, f"no luck {number}") for number, change in reversed([*enumerate(changes)])
        ]
        assert all(each.attempts >= 1 for each in found)
        assert [each.change for each in await storage.queue.failed(1)] == changes[-1:]
        assert await storage.queue.retry_failed() == len(changes)
        assert await storage.queue.failed(10) == []
        assert await storage.queue.retry_failed() == 0
        claim = await storage.queue.claim()
        assert sorted(claim.changes, key=str) == sorted(changes, key=str)
        await storage.queue.finish(None, claim, claim.changes)
        status = await storage.queue.status()
        assert (status.waiting, status.failed, status.last_error) == (0, 0, None)

    async def test_a_status_says_since_when_the_oldest_waits(self, storage: Storage) -> None:
        before = datetime.now(UTC) - timedelta(seconds=1)
        await self._recorded(storage, [Change("put", "m", "m@0")])
        status = await storage.queue.status()
        assert status.oldest is not None
        assert before < status.oldest < datetime.now(UTC) + timedelta(seconds=1)

    async def test_a_claim_may_wait_for_what_comes(self, storage: Storage) -> None:
        change = Change("put", "m", "m@0")
        assert not (await storage.queue.claim(wait=0.05)).changes
        claiming = asyncio.create_task(storage.queue.claim(wait=5.0))
        await asyncio.sleep(0.1)
        await self._recorded(storage, [change])
        claim = await claiming
        if not claim.changes:  # this queue does not wait
            claim = await storage.queue.claim()
        assert list(claim.changes) == [change]

    async def test_a_claim_that_is_cancelled_takes_nothing_along(self, storage: Storage) -> None:
        changes = [Change("put", f"m{number}", f"m{number}@0") for number in range(10)]
        await self._recorded(storage, changes)
        for pause in (0.0, 0.0, 0.001, 0.002, 0.005):
            claiming = asyncio.create_task(storage.queue.claim())
            await asyncio.sleep(pause)
            claiming.cancel()
            done = (await asyncio.gather(claiming, return_exceptions=True))[0]
            if isinstance(done, Claim):
                await storage.queue.release(done)
        claim = await storage.queue.claim()
        assert sorted(claim.changes, key=str) == sorted(changes, key=str)

    async def _recorded(self, storage: Storage, changes: Sequence[Change]) -> None:
        """Into the queue, by the way that its place allows."""
        if storage.queue.capabilities.place != storage.records.capabilities.place:
            await storage.queue.record(None, changes)
            return
        await storage.records.write(lambda work: storage.queue.record(work, changes))
