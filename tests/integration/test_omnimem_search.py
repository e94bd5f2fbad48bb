"""Searching: by meaning, by word, by filters, now and then; the indexes propose and the truth decides."""

import operator
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memground.clock import ManualClock
from memground.embedding import LocalEmbedding
from memground.filters import Filter, from_json, matches
from omnimem import (
    Content,
    F,
    IndexHint,
    InvalidInputError,
    Memory,
    NewMemory,
    OmniMemClient,
    Scope,
    SearchFilters,
    SearchQuery,
    SearchResult,
    Settings,
)
from support.embeddings import HashEmbedding

type OpenRecord = Callable[..., Awaitable[OmniMemClient]]
START = datetime(2026, 1, 1, tzinfo=UTC)


def texts(result: SearchResult) -> list[str | None]:
    return [hit.memory.text for hit in result.hits]


async def test_meaning_and_words_find_different_things(
    records_url: str, schema: str, embedding: LocalEmbedding
) -> None:
    async with OmniMemClient.connect(Settings(records_url, schema=schema), embedding=embedding) as record:
        await record.create_many(
            ["She adopted a kitten last week.", "Order number TP-1364 was shipped.", "The stock market fell sharply."]
        )
        found = await record.search("which pet does she have?", mode="semantic")
        assert texts(found)[0] == "She adopted a kitten last week."
        assert texts(await record.search("TP-1364", mode="keyword")) == ["Order number TP-1364 was shipped."]
        hybrid = await record.search("TP-1364", explain=True)
        assert texts(hybrid)[0] == "Order number TP-1364 was shipped."
        explanation = hybrid.hits[0].explanation
        assert explanation is not None
        assert {arm.arm for arm in explanation.arms} == {"semantic", "keyword"}
        assert hybrid.hits[0].score == pytest.approx(sum(arm.added for arm in explanation.arms))


async def test_a_word_that_nobody_has_is_said(record: OmniMemClient) -> None:
    await record.create("something")
    found = await record.search("zebra", mode="keyword")
    assert not found.hits
    assert "no memory shares a word" in found.warnings[0]


async def test_weights_move_the_arms(record: OmniMemClient) -> None:
    await record.create_many(["alpha alpha beta", "alpha gamma delta epsilon", "zeta"])
    by_words = await record.search("alpha beta", weights={"semantic": 0})
    assert texts(by_words) == texts(await record.search("alpha beta", mode="keyword"))
    by_meaning = await record.search("alpha beta", weights={"keyword": 0})
    assert texts(by_meaning) == texts(await record.search("alpha beta", mode="semantic"))


async def test_a_memory_of_many_vectors_counts_once(record: OmniMemClient) -> None:
    hint = IndexHint(vector_fields=["data.items[*].desc"])
    many = await record.create(
        Content("main", {"items": [{"desc": f"blue whale {n}"} for n in range(60)]}), index_hint=hint
    )
    for n in range(70):
        await record.create(f"blue thing {n}")
    found = await record.search("blue whale 7", mode="semantic", limit=50, explain=True)
    ids = [hit.memory.memory_id for hit in found.hits]
    assert len(ids) == len(set(ids)) == 50
    assert ids[0] == many.memory_id
    explanation = found.hits[0].explanation
    assert explanation is not None
    assert explanation.arms[0].field == "data.items[7].desc"
    assert explanation.arms[0].score == pytest.approx(1.0, abs=1e-3)


async def test_fulltext_fields_are_found_and_others_not(record: OmniMemClient) -> None:
    hint = IndexHint(fulltext_fields=["data.summary"])
    await record.create(Content("text", {"summary": "hippopotamus", "note": "rhinoceros"}), index_hint=hint)
    assert len(await record.search("hippopotamus", mode="keyword")) == 1
    assert len(await record.search("rhinoceros", mode="keyword")) == 0


async def test_a_memory_without_text_is_found_by_its_fields(record: OmniMemClient) -> None:
    await record.create(Content(data={"summary": "lighthouse"}), index_hint=IndexHint(vector_fields=["data.summary"]))
    await record.create(Content(data={"n": 1}))
    assert len(await record.search("lighthouse", mode="semantic")) == 1
    assert await record.count() == 2


async def test_without_a_query_filters_list(record: OmniMemClient) -> None:
    await record.create_many([NewMemory(f"m{n}", metadata={"n": n}) for n in range(7)])
    found: list[str | None] = []
    cursor = None
    while True:
        result = await record.search(None, filters=F("metadata.n") >= 2, limit=2, cursor=cursor)
        found += texts(result)
        if (cursor := result.cursor) is None:
            break
    assert sorted(str(text) for text in found) == [f"m{n}" for n in range(2, 7)]


async def test_pages_of_a_search_neither_repeat_nor_miss(record: OmniMemClient) -> None:
    await record.create_many([f"common word{n}" for n in range(37)])
    whole = await record.search("common word3", limit=37)
    first = await record.search("common word3", limit=5)
    # What happens meanwhile is not seen.
    memory = await record.create("common word3 common word3")
    await record.update(whole.hits[20].memory.memory_id, content="changed entirely")
    found = list(first.hits)
    cursor = first.cursor
    while cursor is not None:
        page = await record.search("common word3", limit=5, cursor=cursor)
        found += page.hits
        cursor = page.cursor
    assert len({hit.memory.memory_id for hit in found}) == len(found) == 37
    assert memory.memory_id not in {hit.memory.memory_id for hit in found}
    assert sorted(str(hit.memory.text) for hit in found) == sorted(f"common word{n}" for n in range(37))
    with pytest.raises(InvalidInputError, match="cursor"):
        await record.search("another", limit=5, cursor=first.cursor)


async def test_search_knows_what_was_there_then(open_record: OpenRecord) -> None:
    clock = ManualClock(START)
    record = await open_record(clock=clock)
    first = await record.create("the password is swordfish")
    clock.advance(timedelta(hours=1))
    await record.update(first.memory_id, content="the password is tuna")
    clock.advance(timedelta(hours=1))
    await record.create("swordfish for dinner")
    for mode in ("keyword", "semantic", "hybrid"):
        assert texts(await record.search("swordfish password", mode=mode, as_of=START))[:2] == [
            "the password is swordfish"
        ]
        later = await record.search("tuna", mode=mode, as_of=START + timedelta(minutes=90))
        assert texts(later) == ["the password is tuna"]
        assert not (await record.search("swordfish", mode=mode, as_of=START - timedelta(hours=1))).hits
    assert texts(await record.search("swordfish", mode="keyword")) == ["swordfish for dinner"]


async def test_search_as_of_answers_as_it_did(open_record: OpenRecord) -> None:
    """At random moments of a random life, search and list answer as they did at that moment."""
    clock = ManualClock(START)
    record = await open_record(clock=clock)
    chance = random.Random(7)
    ids: list[str] = []
    answers: list[tuple[datetime, str, list[tuple[str, str]], list[tuple[str, str]], int]] = []
    words = [f"w{n}" for n in range(12)]

    async def ask(word: str, moment: datetime | None) -> tuple[list[tuple[str, str]], list[tuple[str, str]], int]:
        found = await record.search(word, limit=50, as_of=moment)
        listed = await record.list(limit=100, as_of=moment)
        keys = [(hit.memory.memory_id, hit.memory.record_id) for hit in found.hits]
        return keys, [(m.memory_id, m.record_id) for m in listed], await record.count(as_of=moment)

    for _ in range(60):
        clock.advance(timedelta(seconds=chance.randint(0, 3)))
        text = " ".join(chance.choices(words, k=3))
        match chance.random():
            case x if x < 0.4 or not ids:
                ids.append((await record.create(text)).memory_id)
            case x if x < 0.9:
                await record.update(chance.choice(ids), content=text)
            case _:
                history = await record.history(chance.choice(ids))
                await record.revert(history[0].memory_id, chance.choice(list(history)).record_id)
        word = chance.choice(words)
        answers = [answer for answer in answers if answer[0] < clock.now()]
        answers.append((clock.now(), word, *await ask(word, None)))
    clock.advance(timedelta(seconds=1))
    for moment, word, found, listed, count in answers:
        then = await ask(word, moment)
        assert sorted(then[0]) == sorted(found)
        assert then[1:] == (listed, count)
        assert then[0] == found


async def test_filters_bound_what_is_found(record: OmniMemClient) -> None:
    await record.create_many(
        [
            NewMemory(
                Content(f"bench {n}", {"items": [{"price": n, "name": "ab"[n % 2]}]}), type=("fact", "mine")[n % 2]
            )
            for n in range(10)
        ]
    )
    both = F("data.items").any((F("price") >= 4) & (F("name") == "a"))
    for mode in ("keyword", "semantic", "hybrid"):
        found = await record.search("bench", mode=mode, filters=both, limit=20)
        assert sorted(str(text) for text in texts(found)) == ["bench 4", "bench 6", "bench 8"]
        found = await record.search("bench", mode=mode, filters=SearchFilters(~both, types=["fact"]))
        assert sorted(str(text) for text in texts(found)) == ["bench 0", "bench 2"]
    query = SearchQuery("bench", filters={"type": "mine", "data.items.price": {"lt": 4}})
    assert sorted(str(text) for text in texts(await record.search(query))) == ["bench 1", "bench 3"]


SCALARS: list[Any] = [None, True, False, 0, 1, 1.0, -2.5, 2**53, "", "1", "a", "ä", "A"]
KEYS = ["a", "b", "x.y", "not"]


def _value(chance: random.Random, depth: int) -> Any:
    kind = chance.random()
    if depth == 0 or kind < 0.5:
        return chance.choice(SCALARS)
    if kind < 0.75:
        return [_value(chance, depth - 1) for _ in range(chance.randint(0, 3))]
    return {key: _value(chance, depth - 1) for key in chance.sample(KEYS, chance.randint(0, 3))}


def _object(chance: random.Random) -> dict[str, Any]:
    return {key: _value(chance, 3) for key in chance.sample(KEYS, chance.randint(0, 4))}


def _filter(chance: random.Random, depth: int) -> dict[str, Any]:
    kind = chance.random()
    if depth > 0 and kind < 0.25:
        return {chance.choice(["and", "or"]): [_filter(chance, depth - 1) for _ in range(chance.randint(1, 3))]}
    if depth > 0 and kind < 0.4:
        return {"not": _filter(chance, depth - 1)}
    if kind < 0.5:
        return {"type": {chance.choice(["eq", "ne", "gt"]): chance.choice(["fact", "general"])}}
    names = ["a", "b", '"x.y"', "not"]
    path = chance.choice(["data", "metadata"]) + "".join(
        f".{chance.choice(names)}" for _ in range(chance.randint(1, 3))
    )
    scalar = [value for value in SCALARS if value is not None]
    op = chance.choice(["eq", "ne", "gt", "lte", "in", "not_in", "exists", "contains", "contains_all", "between"])
    match op:
        case "exists":
            value: Any = chance.random() < 0.5
        case "in" | "not_in" | "contains_all":
            value = chance.choices(scalar, k=chance.randint(0, 3))
        case "gt" | "lte":
            value = chance.choice([v for v in scalar if not isinstance(v, bool)])
        case "between":
            value = chance.choice([[0, 2], ["1", "b"], [-3, 1.5]])
        case _:
            value = chance.choice(scalar)
    return {path: {op: value}}


async def test_sql_filters_mean_what_the_predicate_means(record: OmniMemClient) -> None:
    """Random nested documents, random filters; `~f` finds exactly the others."""
    chance = random.Random(11)
    memories: list[Memory] = await record.create_many(
        [
            NewMemory(Content(None, _object(chance) or {"a": 1}), metadata=_object(chance), type=kind)
            for kind in ["fact", "general"] * 40
        ]
    )
    everything = {memory.memory_id for memory in memories}
    for _ in range(150):
        condition: Filter = from_json(_filter(chance, 3))
        expected = {memory.memory_id for memory in memories if matches(condition, memory.document)}
        found = {memory.memory_id for memory in await record.list(filters=condition, limit=200)}
        assert found == expected, condition
        assert {m.memory_id for m in await record.list(filters=~condition, limit=200)} == everything - expected


async def test_many_memories_are_found_by_the_index(open_record: OpenRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a number of rows vectors are not all compared; what is found is still the nearest of the scope."""
    monkeypatch.setattr("memground.postgres.arms.EXACT_ROWS", 100)
    record = await open_record()
    for tenant in ("a", "b"):
        await record.create_many([f"w{n} v{n % 7} u{n % 5}" for n in range(400)], scope=Scope(tenant_id=tenant))
    scope = Scope(tenant_id="b")
    found = await record.search("w17 v3", mode="semantic", scope=scope, limit=20)
    assert len(found) == 20
    assert {hit.memory.scope.tenant_id for hit in found} == {"b"}
    model = HashEmbedding()
    asked = model._vector("w17 v3")
    all_texts = [f"w{n} v{n % 7} u{n % 5}" for n in range(400)]
    exact = sorted((sum(map(operator.mul, asked, model._vector(text))) for text in all_texts), reverse=True)[:20]
    assert [hit.score for hit in found] == pytest.approx(exact, abs=2e-3)


async def test_filters_that_python_calls_equal_stay_apart(record: OmniMemClient) -> None:
    """Statements are kept by filter; 1, 1.0 and True are equal to Python, but not to a filter."""
    await record.create_many([NewMemory(f"m{n}", metadata={"x": x}) for n, x in enumerate([1, True, "1"])])
    for _ in range(2):
        for value, expected in [(1, ["m0"]), (True, ["m1"]), (1.0, ["m0"]), ("1", ["m2"])]:
            found = await record.list(filters=F("metadata.x") == value)
            assert [memory.text for memory in found] == expected
