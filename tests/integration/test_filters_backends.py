"""What each backend finds for a filter is exactly what the Python predicate matches, on the real servers."""

import operator
from collections.abc import AsyncIterator
from typing import Any

import pytest
from dev.servers.elasticsearch import ElasticsearchServer
from dev.servers.mongodb import MongoServer
from hypothesis import given
from hypothesis import strategies as st

from memground.filters import And, AnyElement, F, Filter, Not, Or, check, from_json, matches, to_json
from support.filter_judges import elasticsearch_judge, mongo_judge, postgres_judge
from support.filters import (
    AWKWARD,
    NESTED,
    ODD,
    ODD_KEYS,
    PLAIN,
    PLAIN_KEYS,
    Judge,
    agreement,
    combined,
    json_filters,
    json_objects,
    json_values,
    typed_fields,
    typed_filters,
)

BACKENDS = {"postgresql": postgres_judge, "mongodb": mongo_judge, "elasticsearch": elasticsearch_judge}


@pytest.fixture(scope="module", params=BACKENDS)
async def judge(
    request: pytest.FixtureRequest, pg_url: str, mongo: MongoServer, elasticsearch: ElasticsearchServer
) -> AsyncIterator[Judge]:
    async with BACKENDS[request.param](pg_url, mongo.url, elasticsearch.url) as judge:
        yield judge


async def check_agreement(judge: Judge, documents: list[dict[str, Any]], filters: list[Filter]) -> None:
    expected = [tuple(matches(filter, document) for filter in filters) for document in documents]
    assert await judge.verdicts(documents, filters) == expected
    assert [check(from_json(to_json(filter)), judge.fields) for filter in filters] == filters


@agreement
@given(
    documents=st.lists(
        st.fixed_dictionaries({"metadata": json_objects(PLAIN_KEYS, PLAIN) | json_values(PLAIN_KEYS, PLAIN)}),
        min_size=4,
        max_size=8,
    ),
    filters=st.lists(combined(json_filters(["metadata"], PLAIN_KEYS, PLAIN)), min_size=4, max_size=8),
)
async def test_every_shape(judge: Judge, documents: list[dict[str, Any]], filters: list[Filter]) -> None:
    await check_agreement(judge, documents, filters)


@agreement
@given(drawn=st.data())
async def test_every_value(judge: Judge, drawn: st.DataObject) -> None:
    documents = st.fixed_dictionaries(
        {
            "metadata": json_objects(ODD_KEYS, [*ODD, *judge.more_scalars]),
            "data": json_objects(ODD_KEYS, ODD),
            **typed_fields(judge.fields),
        }
    )
    filters = combined(json_filters(["metadata", "data"], ODD_KEYS, ODD) | typed_filters(judge.fields))
    await check_agreement(
        judge,
        drawn.draw(st.lists(documents, min_size=2, max_size=8)),
        drawn.draw(st.lists(filters, min_size=2, max_size=8)),
    )


@agreement
@given(
    documents=st.lists(st.fixed_dictionaries({"metadata": json_objects(PLAIN_KEYS, PLAIN)}), min_size=4, max_size=8),
    filter=combined(json_filters(["metadata"], PLAIN_KEYS, PLAIN)),
)
async def test_a_filter_and_its_complement_divide_the_documents(
    judge: Judge, documents: list[dict[str, Any]], filter: Filter
) -> None:
    if filter.depth < 60:
        assert all(held is not rest for held, rest in await judge.verdicts(documents, [filter, ~filter]))


async def test_awkward_shapes(judge: Judge) -> None:
    documents = [{"metadata": value, "title": None} for value in NESTED]
    filters = [*AWKWARD, *(~filter for filter in AWKWARD)]
    await check_agreement(judge, documents, filters)


async def test_numbers_compare_by_their_decimal_text(judge: Judge) -> None:
    """Where floats and integers meet beyond 2**53, neither side rounds the other."""
    numbers = [2.0**53, 2.0**62, 1e22, 0.1, 4.0]
    fields = [F("data.n"), *([F("score")] if "score" in judge.fields else [])]
    documents: list[dict[str, Any]] = [
        {"data": {"n": number}, **({"score": number} if "score" in judge.fields else {})} for number in numbers
    ]
    wanted = [2**53, 2**53 + 1, 2**62, 1e22, 0.1, 4]
    expected = [tuple(number == value for value in wanted) for number in numbers]
    expected[1] = (False,) * 6  # 2.0**62 is written 4.611686018427388e+18, which is not 2**62
    for field in fields:
        filters: list[Filter] = [field == value for value in wanted]
        assert [tuple(matches(filter, document) for filter in filters) for document in documents] == expected
        assert await judge.verdicts(documents, filters) == expected
        between = [field.between(low, high) for low in wanted for high in wanted]
        orders = [
            make(field, value) for make in (operator.gt, operator.ge, operator.lt, operator.le) for value in wanted
        ]
        await check_agreement(judge, documents, [*between, *orders])


async def test_at_every_limit(judge: Judge) -> None:
    """The deepest, widest and longest filters that are accepted run, or are left to the predicate and say so."""
    deep: Filter = F("metadata.a") == 1
    for level in range(63):
        deep = Not(deep) if level % 3 == 0 else And((deep,)) if level % 3 == 1 else Or((deep,))
    twined: Filter = F("metadata.a") == 1
    for level in range(63):
        twined = (And, Or)[level % 2]((twined, F("metadata.b").exists(level % 2 == 0)))
    nested: Filter = F("a") == 1
    for _ in range(62):
        nested = AnyElement("a", Not(Not(nested))) if nested.depth < 59 else AnyElement("a", nested)
        if nested.depth >= 63:
            break
    wide = Or(tuple(F("metadata.a") == i for i in range(999)))
    numbers = list(range(1000))
    filters = [
        deep,
        twined,
        AnyElement("metadata", nested),
        wide,
        F("metadata.a").in_(numbers),
        F("metadata.a").in_([f"{i:04}" + "x" * 9_900 for i in numbers]),
        F("metadata.a").contains_all(numbers),
        F("metadata." + ".".join("a" * 31)) == "x" * 10_000,
        F("metadata." + ".".join("a" * 31)).between("a", "b"),
        F("importance").in_(numbers),
    ]
    documents = [{"metadata": {"a": 1}, "importance": 1}, {"metadata": {"a": numbers}, "importance": -1}]
    for filter in filters:
        found = await judge.verdicts(documents, [filter])
        assert [row[0] for row in found] == [matches(filter, document) for document in documents]
