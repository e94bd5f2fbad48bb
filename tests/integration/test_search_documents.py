"""Elasticsearch's mapping has limits; documents that pass them are found all the same, and fail nobody beside them."""

import random
from typing import Any

from dev.servers.elasticsearch import ElasticsearchServer

from memground.filters import F, Filter
from omnimem.models import Content, IndexHint, Scope
from omnimem.storage.base import Selection
from omnimem.storage.elasticsearch import ElasticsearchKeywords
from omnimem.testing.conformance import record
from support.search_index import check_filters, entry, found, holding, search_index


async def test_fields_are_named_by_their_type(elasticsearch: ElasticsearchServer) -> None:
    data = {
        "status": "pending", "age": 4, "score": 4.0, "done": True, "tags": ["ai", "ml"],
        "items": [{"name": "x", "price": 2.5}, {"name": "y", "price": 3}], "size": {"w": 1}, "a.b c": "é",
    }  # fmt: skip
    stored = record(
        "m",
        content=Content("这是 a text", data),
        metadata={"status": 5, "summary": "Short"},
        index_hint=IndexHint(fulltext_fields=["metadata.summary"]),
        scope=Scope(tenant_id="t", namespace={"env": "prod"}),
    )
    async with search_index(elasticsearch.url) as keywords:
        await keywords.apply(None, [entry(stored)])
        source = await _source(keywords, "m")
        fields = await _fields(keywords)
    expected: dict[str, Any] = {
        "memory_id": "m", "record_id": "m@0", "text": "这是 a text", "type__keyword": ["general"],
        "scope_tenant_id": "t", "scope_tags": ["ns.env:prod"],
        "data.status__keyword": ["pending"], "data.age__long": [4], "data.score__double": [4.0],
        "data.done__boolean": [True], "data.tags__keyword": ["ai", "ml"], "data.size.w__long": [1],
        "data.a%2Eb%20c__keyword": ["é"], "metadata.status__long": [5], "metadata.summary__text": ["Short"],
        "created_time__date": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    assert {key: source.get(key) for key in expected} == expected
    elements = [{k: v for k, v in e.items() if k != "__facts"} for e in source["data.items__nested"]]
    assert elements == [
        {"name__keyword": ["x"], "price__double": [2.5]},
        {"name__keyword": ["y"], "price__long": [3]},
    ]
    assert {fields[name] for name in ("data.status__keyword", "metadata.status__long")} == {"keyword", "long"}
    assert (fields["data.items__nested"], fields["metadata.summary__text"]) == ("nested", "text")


async def test_ten_thousand_keys_lose_nothing(elasticsearch: ElasticsearchServer) -> None:
    """Most keys are beyond the mapping's limit: their values have no field of their own, but are decided as well."""
    rng = random.Random(1)
    kinds = [lambda n: n, lambda n: n + 0.5, str, lambda _: True, lambda n: [n, "x"], lambda n: {"in": n}]
    records = holding(
        [{f"key{i * 100 + j}": rng.choice(kinds)(j) for j in range(100)} for i in range(100)]  # type: ignore[no-untyped-call]
    )
    filters: list[Filter] = []
    for number in (0, 5, 150, 299, 500, 5_000, 9_998):
        field = F(f"data.key{number}")
        filters += [field >= number % 100, field.exists(), field == "x", field > "0", field.contains("x")]
        filters += [field.between(1, 60), F(f"data.key{number}.in") < 50]
    async with search_index(elasticsearch.url, fields=300) as keywords:
        await keywords.apply(None, [entry(stored) for stored in records])
        await keywords.refresh()
        assert await check_filters(keywords, records, filters) == []
        assert len(await _fields(keywords)) <= 300


async def test_a_long_string_beyond_the_limit_is_left_to_the_truth(elasticsearch: ElasticsearchServer) -> None:
    """The only order that neither a field nor a fact decides."""
    records = holding([{f"k{n}": n for n in range(400)}, {"late": "x" * 1_000}, {"late": "a"}, {"late": 1}])
    async with search_index(elasticsearch.url, fields=200) as keywords:
        await keywords.apply(None, [entry(stored) for stored in records])
        await keywords.refresh()
        wide = await check_filters(keywords, records, [F("data.late") > "y", F("data.late") == "x" * 1_000])
        assert wide == [F("data.late") > "y"]
        assert await found(keywords, F("data.late") > "y") == {"m1"}


async def test_too_many_arrays_of_objects_are_left_to_the_truth(elasticsearch: ElasticsearchServer) -> None:
    """Their documents keep all but the objects on their own, so only `any` proposes too many."""
    records = holding(
        [{f"l{i * 10 + j}": [{"p": j, "q": i}, {"p": j + 1, "q": "z"}] for j in range(10)} for i in range(20)]
    )
    names = [f"data.l{n}" for n in (0, 9, 15, 55, 199)]
    same = [F(name).any((F("p") > 3) & (F("q") == "z")) for name in names]
    async with search_index(elasticsearch.url, nested_fields=20) as keywords:
        await keywords.apply(None, [entry(stored) for stored in records])
        await keywords.refresh()
        assert await check_filters(keywords, records, [F(f"{name}.p") > 3 for name in names]) == []
        await check_filters(keywords, records, same)
        proposed = await found(keywords, F("data.l199").any(F("q") == "nobody"))
        assert proposed == {"m19"}  # the only one that has the array


async def test_awkward_documents_are_found_and_fail_nobody(elasticsearch: ElasticsearchServer) -> None:
    deep: Any = {"v": 1}
    for _ in range(28):
        deep = {"d": deep}
    arrays: Any = [{"v": 1}]
    for _ in range(13):
        arrays = [{"d": arrays}, {"v": 2}]
    records = holding(
        [
            {"k": 1},
            {"big": list(range(300_000))},
            {"s": "x" * 900_000},
            deep,
            {"l": arrays},
            {"": 1, ".": 2, " ": 3, "a.b": 4, "__long": 5, "x__nested": [{"a": 1}], "_id": "q", "\x01": 1, "*": 1},
            {"k" * 5_000: 1, "é" * 400: 2, "*": {"__facts": "x"}},
            {"t": ["2024-01-01", "99999-99-99", "12:00", "1e400"]},
            {"many": [{"a": n} for n in range(6_000)]},
            [1, 2, [3]],
            [[{"a": 1}]],
            {"x" * 800_000: 1},
        ]
    )
    below = "data." + ".".join("d" * 28)
    filters = [
        F("data.k") == 1, F("data.big") > 299_999, F("data.s") > "w", F("data.s") == "x" * 9_000, F(f"{below}.v") == 1,
        F(f"{below}.v") > 0, F("data.l.d.d.v") == 2, F("data.l").any(F("d").any(F("v") == 2)), F('data."."') == 2,
        F('data." "') > 2, F('data."a.b"') == 4, F("data.__long") > 4, F("data.x__nested").any(F("a") == 1),
        F("data._id") > "a", F("data.*") == 1, F("data.*.__facts") >= "x", F("data.t") > "2", F("data") == 1,
        F("data.many").any(F("a") == 5), F("data").exists(), F("data.a") == 1, F(f"data.{'é' * 400}") == 2,
        F(f"data.{'é' * 400}").between(1.5, 2), F("text") == "alpha", F("text") > "al", F("version") > 0,
    ]  # fmt: skip
    async with search_index(elasticsearch.url) as keywords:
        await keywords.apply(None, [entry(stored) for stored in records])
        await keywords.refresh()
        await check_filters(keywords, records, filters)
        assert await found(keywords) == {stored.memory.memory_id for stored in records}
        # Two are too large to be described. They are proposed for everything; the others are as exact as ever.
        opaque = await found(keywords, F("data.nobody") == "has this")
        assert opaque == {"m1"}
        assert await found(keywords, F("data.k") == 1) - opaque == {"m0"}


async def test_ids_of_any_length_and_kind(elasticsearch: ElasticsearchServer) -> None:
    names = ["é" * 255, "_x", "a/b c?#\n", ".", "..", "\x01", "a,b*", "sha256:x", "中" * 171]
    async with search_index(elasticsearch.url) as keywords:
        records = [record(name) for name in names]
        await keywords.apply(None, [entry(stored) for stored in records])
        await keywords.refresh()
        assert await found(keywords) == set(names)
        assert await keywords.memory_ids(None, after="", limit=20) == sorted(names)
        held = await keywords.contents(None, names)
        assert set(held) == {stored.memory.record_id for stored in records}
        await keywords.remove(None, names)
        await keywords.apply(None, [entry(record(name, 5)) for name in names])
        assert await keywords.memory_ids(None, after="", limit=20) == []


async def test_a_text_of_a_million_characters_is_found_by_its_words(elasticsearch: ElasticsearchServer) -> None:
    rng = random.Random(1)
    chinese = "".join(chr(0x4E00 + rng.randrange(2_000)) for _ in range(100_000))
    english = " ".join(f"w{rng.randrange(10**6)}" for _ in range(120_000))
    async with search_index(elasticsearch.url) as keywords:
        await keywords.apply(
            None,
            [
                entry(record("zh", content=Content(chinese)), chinese),
                entry(record("en", content=Content(english)), english),
            ],
        )
        await keywords.refresh()
        found = await keywords.candidates(None, chinese[50_000:50_004], Selection(), limit=5)
        assert [c.memory_id for c in found] == ["zh"]
        assert await keywords.candidates(None, english.split()[-1], Selection(), limit=5)


async def _source(keywords: ElasticsearchKeywords, memory_id: str) -> dict[str, Any]:
    answer = await keywords.connection.run(lambda c: c.get(index=keywords.indexes.memories, id=memory_id))
    return answer["_source"]


async def _fields(keywords: ElasticsearchKeywords) -> dict[str, str]:
    """The mapping's fields and their types, objects left out."""
    answer = await keywords.connection.run(lambda c: c.indices.get_mapping(index=keywords.indexes.memories))
    found: dict[str, str] = {}

    def walk(properties: dict[str, Any], prefix: str) -> None:
        for name, field in properties.items():
            if "type" in field:
                found[prefix + name] = field["type"]
            walk(field.get("properties", {}), f"{prefix}{name}.")

    for index in answer.values():
        walk(index["mappings"]["properties"], "")
    return found
