"""What every VectorIndex and KeywordIndex must do."""

from collections.abc import Sequence
from typing import Any

from memground.clock import nanoseconds
from memground.errors import (
    ConfigurationError,
    ConflictError,
    ModelMismatchError,
    UnsupportedError,
)
from memground.filters import F, Filter, matches
from omnimem.models import Content, Memory, Scope, SourceReference
from omnimem.storage.base import (
    Candidate,
    Index,
    KeywordEntry,
    Selection,
    Storage,
    StoredRecord,
    Vector,
    VectorEntry,
    VectorIndex,
)
from omnimem.storage.values import Indexed
from omnimem.testing.conformance.common import HOUR, START, insert, record, refused


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

    async def test_words_of_a_removed_memory_do_not_come_back(self, storage: Storage) -> None:
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

    async def test_scopes_bound_the_search_for_words(self, storage: Storage) -> None:
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
