"""What every storage adapter must do, as test classes for pytest (with pytest-asyncio in auto mode).

A backend's test file opens a storage and inherits::

    class TestMine(RecordConformance, VectorConformance, KeywordConformance, QueueConformance):
        @pytest.fixture
        async def storage(self):
            async with open_storage(Settings(…), dims=4, model_id="conformance") as storage:
                yield storage

The storage is empty at the start of each test and holds vectors of 4 numbers. A role that is not yours may be played by
another adapter. What a store declares not to do (`Capabilities`) is not asked of it, except that it says so.
"""

from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from memground.clock import nanoseconds
from memground.errors import (
    ConfigurationError,
    ConflictError,
    MemoryStoreError,
    ModelMismatchError,
    UnsupportedError,
)
from memground.filters import F, Filter, matches
from omnimem.models import Content, IndexHint, Memory, NewMemory, Scope, SourceReference
from omnimem.models.memory import checked
from omnimem.storage.base import (
    Candidate,
    Change,
    Index,
    Indexed,
    KeywordEntry,
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
        entries = [words(record(f"m{n}"), text) for n, text in enumerate(texts)]
        await storage.keywords.apply(None, entries)
        found = await storage.keywords.candidates(None, "red zeppelin", Selection(), limit=10)
        assert found[0].memory_id == "m2"
        assert {c.memory_id for c in found} == {"m0", "m1", "m2"}
        assert [c.memory_id for c in await storage.keywords.candidates(None, "搜索", Selection(), limit=5)] == ["m3"]
        assert await storage.keywords.candidates(None, "nothing", Selection(), limit=5) == []

    async def test_changes_in_any_order_leave_the_newest(self, storage: Storage) -> None:
        life = [record("m", 0, end=1), record("m", 1, end=2), record("m", 2)]
        entries = [words(stored, text) for stored, text in zip(life, ("alpha", "beta", "gamma"), strict=True)]
        for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 2, 0, 1, 0]):
            await storage.keywords.reset(None, ["m"])
            for number in order:
                await storage.keywords.apply(None, [entries[number]])
            held = await storage.keywords.contents(None, ["m"])
            assert {key: (c.superseded_time, c.content_hash) for key, c in held.items()} == {
                s.memory.record_id: (s.superseded_time, e.content_hash) for s, e in zip(life, entries, strict=True)
            }
            assert await storage.keywords.candidates(None, "alpha beta", Selection(), limit=5) == []
            assert len(await storage.keywords.candidates(None, "gamma", Selection(), limit=5)) == 1
        then = Selection(as_of=START + HOUR / 2)
        if storage.keywords.capabilities.as_of:
            assert [c.record_id for c in await storage.keywords.candidates(None, "alpha gamma", then, limit=5)] == [
                "m@0"
            ]
        else:
            await refused(storage.keywords.candidates(None, "alpha", then, limit=5), UnsupportedError)

    async def test_a_removed_memory_does_not_come_back(self, storage: Storage) -> None:
        await storage.keywords.apply(None, [words(record("m"), "alpha")])
        await storage.keywords.remove(None, ["m"])
        await storage.keywords.apply(None, [words(record("m", 1), "alpha")])
        assert await storage.keywords.candidates(None, "alpha", Selection(), limit=5) == []
        assert await storage.keywords.memory_ids(None, after="", limit=5) == []

    async def test_scopes_bound_the_search(self, storage: Storage) -> None:
        scopes = [Scope(tenant_id="a"), Scope(tenant_id="b", user_id="u"), Scope(user_id="u"), Scope()]
        await storage.keywords.apply(None, [words(record(f"m{n}", scope=s), "alpha") for n, s in enumerate(scopes)])
        for asked in (*scopes, Scope(app_id="x"), Scope(tenant_id="b")):
            found = await storage.keywords.candidates(None, "alpha", Selection(asked), limit=9)
            assert {c.memory_id for c in found} == {f"m{n}" for n, scope in enumerate(scopes) if asked.admits(scope)}

    async def test_words_are_found_by_filters_in_any_order_of_changes(self, storage: Storage) -> None:
        life = [words(stored, stored.memory.text or "") for stored in filtered_life()]

        async def asked(selection: Selection) -> list[Candidate]:
            return await storage.keywords.candidates(None, "green", selection, limit=10)

        await self._check_filters(storage, storage.keywords, life, asked)


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

    async def test_recording_twice_is_recording_once(self, storage: Storage) -> None:
        change = Change("put", "m", "m@0")
        await self._recorded(storage, [change])
        await self._recorded(storage, [change])
        assert (await storage.queue.status()).waiting == 1

    async def _recorded(self, storage: Storage, changes: Sequence[Change]) -> None:
        """Into the queue, by the way that its place allows."""
        if storage.outbox is not None:
            await storage.queue.record(None, changes)
            return
        await storage.records.write(lambda work: storage.queue.record(work, changes))
