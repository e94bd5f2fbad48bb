"""The SQL of a filter is true of exactly the rows whose document the Python predicate matches."""

import operator
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from math import inf, nextafter
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    REAL,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from memground.errors import InvalidInputError
from memground.filters import (
    And,
    AnyElement,
    Comparison,
    F,
    Filter,
    Not,
    Operator,
    Or,
    check,
    from_json,
    matches,
    to_json,
)
from memground.filters.values import join_path
from memground.postgres.filter_sql import FilterColumn, compile_sql
from support.toys import toy_tables

table = Table(
    "filtered",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("metadata", JSONB(none_as_null=True)),
    Column("data", JSONB(none_as_null=True)),
    Column("importance", SmallInteger),
    Column("score", Double),
    Column("ratio", REAL),
    Column("price", Numeric),
    Column("title", Text),
    Column("at", DateTime(timezone=True)),
    Column("done", Boolean),
)
COLUMNS = {
    "metadata": FilterColumn.json(table.c.metadata),
    "data": FilterColumn.json(table.c.data),
    "importance": FilterColumn.number(table.c.importance),
    "score": FilterColumn.number(table.c.score),
    "ratio": FilterColumn.number(table.c.ratio),
    "price": FilterColumn.number(table.c.price),
    "title": FilterColumn.text(table.c.title),
    "at": FilterColumn.datetime(table.c.at),
    "done": FilterColumn.boolean(table.c.done),
}

# Documents and filters draw from the same small pools, so that many filters divide the documents.
PLAIN_KEYS = ["a", "a", "b"]
PLAIN = [1, 2, "1", True]
ODD_KEYS = ["a", "a", "a", "b", "and", "$", "*", "@", "a.b", 'q"\\', "é😀", "x y", "[0]", "\x01\n", "$v0"]
INT64 = [-(2**63), -1, 0, 1, 2, 4, 2**53, 2**53 + 1, 2**63 - 1]
FLOATS = [-1.5, -0.0, 0.1, 0.1 + 0.2, 0.3, 1.0, 4.0, 5e-324, 1e22, 1e23, 2.0**53, 2.0**63, 1.7976931348623157e308]
TEXTS = ["", "1", "4", "true", "null", "a", "b", "B", "é", "e\u0301", "~", "\uffff", "😀", "$v0", "%s", ":x", "'", "\n"]
ODD = [True, False, *INT64, *FLOATS, *TEXTS]
TIMES = [
    datetime(2024, 5, 1, 12, tzinfo=UTC),
    datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))),
    datetime(2024, 5, 1, 12, 0, 0, 1, tzinfo=UTC),
    datetime(1950, 1, 1, tzinfo=UTC),
]
RATIOS = [struct.unpack("f", struct.pack("f", value))[0] for value in (-1.5, 0.1, 0.3, 1.0, 16777216.0)]
PRICES = [Decimal("0.1"), Decimal("0.10"), Decimal("4"), Decimal("4.0"), Decimal("-1.50"), Decimal(10) ** 23]


def json_values(keys: list[str], scalars: list[Any]) -> st.SearchStrategy[Any]:
    leaves = st.sampled_from([*scalars, None])

    def extend(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(inner | leaves, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=3)

    return st.recursive(leaves, extend, max_leaves=8)


def json_objects(keys: list[str], scalars: list[Any]) -> st.SearchStrategy[Any]:
    values = json_values(keys, scalars)
    arrays = st.lists(st.sampled_from([*scalars, None]) | values, max_size=3)
    return st.dictionaries(st.sampled_from(keys), arrays | values, min_size=1, max_size=4)


def typed_rows() -> dict[str, st.SearchStrategy[Any]]:
    return {
        "importance": st.none() | st.sampled_from([-1, 0, 1, 4]),
        "score": st.none()
        | st.sampled_from([*FLOATS, 2.0**62, nextafter(2.0**53, inf), float("nan"), float("inf"), float("-inf")]),
        "ratio": st.none() | st.sampled_from(RATIOS),
        "price": st.none() | st.sampled_from([*PRICES, Decimal("NaN")]),
        "title": st.none() | st.sampled_from(TEXTS),
        "at": st.none() | st.sampled_from(TIMES),
        "done": st.none() | st.booleans(),
    }


def comparisons(paths: st.SearchStrategy[str], scalars: list[Any], ops: list[Operator]) -> st.SearchStrategy[Filter]:
    values = st.sampled_from(scalars)
    lists = st.lists(values, max_size=3)
    ordered = [value for value in scalars if not isinstance(value, bool)]
    pairs = [(low, high) for low in ordered for high in ordered if isinstance(low, str) == isinstance(high, str)]

    def with_values(op: Operator) -> st.SearchStrategy[Filter]:
        match op:
            case "exists":
                operand: st.SearchStrategy[Any] = st.booleans()
            case "between":
                operand = st.sampled_from(pairs)
            case "in" | "not_in" | "contains_any" | "contains_all":
                operand = lists
            case "gt" | "gte" | "lt" | "lte":
                operand = st.sampled_from(ordered)
            case _:
                operand = values
        return st.builds(Comparison, paths, st.just(op), operand)

    return st.sampled_from(ops).flatmap(with_values)


def combined(leaves: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    def extend(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        parts = st.lists(inner, min_size=1, max_size=3).map(tuple)
        return st.builds(And, parts) | st.builds(Or, parts) | st.builds(Not, inner)

    return leaves | st.recursive(leaves, extend, max_leaves=4)


def json_filters(roots: list[str], keys: list[str], scalars: list[Any]) -> st.SearchStrategy[Filter]:
    names = st.sampled_from(keys)
    inner_paths = st.lists(names, min_size=1, max_size=2).map(lambda parts: join_path(tuple(parts)))
    paths = st.tuples(st.sampled_from(roots), st.lists(names, max_size=2)).map(
        lambda pair: join_path((pair[0], *pair[1]))
    )
    ops = list(get_args(Operator))
    elements = combined(comparisons(inner_paths, scalars, ops))
    elements = elements | st.builds(AnyElement, inner_paths, elements)
    return comparisons(paths, scalars, ops) | st.builds(AnyElement, paths, elements)


def typed_filters() -> st.SearchStrategy[Filter]:
    ops = [op for op in get_args(Operator) if not op.startswith("contains")]
    pools: dict[str, list[Any]] = {
        "importance": [*INT64, *FLOATS],
        "score": [*INT64, 2**62, 2**62 - 200, *FLOATS],
        "ratio": [*RATIOS, 0.1, 0.3, 1, 2**24 + 1],
        "price": [*INT64, *FLOATS],
        "title": TEXTS,
        "at": TIMES,
    }
    of_fields = [comparisons(st.just(name), pool, ops) for name, pool in pools.items()]
    return st.one_of(*of_fields, comparisons(st.just("done"), [True, False], ["eq", "ne", "in", "not_in", "exists"]))


@pytest.fixture(scope="module")
async def connection(pg_url: str) -> AsyncIterator[AsyncConnection]:
    async with toy_tables(pg_url, table.metadata) as engine, engine.connect() as connection:
        yield connection
        await connection.rollback()


async def verdicts(connection: AsyncConnection, documents: list[dict[str, Any]], filters: list[Filter]) -> list[Any]:
    """Per document, what SQL says of each filter."""
    async with connection.begin_nested() as savepoint:
        await connection.execute(insert(table), [{"id": i, **document} for i, document in enumerate(documents)])
        conditions = [compile_sql(filter, COLUMNS).label(f"f{i}") for i, filter in enumerate(filters)]
        rows = (await connection.execute(select(*conditions).order_by(table.c.id))).all()
        await savepoint.rollback()
    return [tuple(row) for row in rows]


async def check_agreement(connection: AsyncConnection, documents: list[dict[str, Any]], filters: list[Filter]) -> None:
    expected = [tuple(matches(filter, document) for filter in filters) for document in documents]
    assert await verdicts(connection, documents, filters) == expected
    kinds = {name: field.kind for name, field in COLUMNS.items()}
    assert [check(from_json(to_json(filter)), kinds) for filter in filters] == filters


agreement = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@agreement
@given(
    documents=st.lists(
        st.fixed_dictionaries({"metadata": json_objects(PLAIN_KEYS, PLAIN) | json_values(PLAIN_KEYS, PLAIN)}),
        min_size=4,
        max_size=8,
    ),
    filters=st.lists(combined(json_filters(["metadata"], PLAIN_KEYS, PLAIN)), min_size=4, max_size=8),
)
async def test_sql_agrees_on_every_shape(
    connection: AsyncConnection, documents: list[dict[str, Any]], filters: list[Filter]
) -> None:
    await check_agreement(connection, documents, filters)


@agreement
@given(
    documents=st.lists(
        st.fixed_dictionaries(
            {"metadata": json_objects(ODD_KEYS, [*ODD, 10**30]), "data": json_objects(ODD_KEYS, ODD), **typed_rows()}
        ),
        min_size=2,
        max_size=8,
    ),
    filters=st.lists(
        combined(json_filters(["metadata", "data"], ODD_KEYS, ODD) | typed_filters()), min_size=2, max_size=8
    ),
)
async def test_sql_agrees_on_every_value(
    connection: AsyncConnection, documents: list[dict[str, Any]], filters: list[Filter]
) -> None:
    await check_agreement(connection, documents, filters)


NESTED = [
    {"a": 1}, {"a": [1]}, {"a": [[1]]}, {"a": []}, {"a": None}, {"a": [None]}, {"a": {}}, {"a": "1"}, {"a": True},
    {"a": 1.0}, {"a": [1, 2]}, {"a": [{"a": 1}]}, {"a": [[{"a": 1}]]}, {"a": [{"a": [1]}, {"a": 2}]}, {"b": 1}, {},
    [{"a": 1}], [[{"a": 1}]], [1], [[1]], 1, "1", None, [], [{"a": 0}, {"a": 3}],
]  # fmt: skip
AWKWARD = [
    F("metadata.a") == 1, F("metadata.a") != 1, F("metadata.a").in_([True]), F("metadata") == 1, F("metadata.a.a") == 1,
    F("metadata.a").exists(), F("metadata.a").exists(False), F("metadata").exists(), F("metadata").exists(False),
    F("metadata.a").contains(1), F("metadata").contains(1), F("metadata.a.a").contains(1), ~F("metadata").contains("1"),
    F("metadata.a").contains_all([]), F("metadata.a").contains_all([1, 2]), F("metadata.a").contains_any([]),
    F("metadata.a").in_([]), F("metadata.a").not_in([]), F("metadata.a").in_([1, "1"]), F("metadata.a").between(1, 2),
    (F("metadata.a") > 1) & (F("metadata.a") < 3), F("metadata.a") >= "1", F("metadata.a").any(F("a") == 1),
    F("metadata.a").any(~(F("a") == 1)), F("metadata").any(F("a") == 1), F("metadata").any(F("a").exists(False)),
    F("metadata").any(F("a").any(F("a") != 2)), F("metadata[*].a[*]") == 1,
]  # fmt: skip


async def test_awkward_shapes(connection: AsyncConnection) -> None:
    documents = [{"metadata": value, "title": None} for value in NESTED]
    expected = [tuple(matches(filter, document) for filter in AWKWARD) for document in documents]
    assert await verdicts(connection, documents, AWKWARD) == expected


async def test_numbers_compare_by_their_decimal_text(connection: AsyncConnection) -> None:
    """Where floats and integers meet beyond 2**53, neither side rounds the other."""
    numbers = [2.0**53, 2.0**62, 1e22, 0.1, 4.0]
    documents: list[dict[str, Any]] = [{"data": {"n": number}, "score": number} for number in numbers]
    wanted = [2**53, 2**53 + 1, 2**62, 1e22, 0.1, 4]
    expected = [tuple(number == value for value in wanted) for number in numbers]
    expected[1] = (False,) * 6  # 2.0**62 is written 4.611686018427388e+18, which is not 2**62
    for field in (F("data.n"), F("score")):
        filters: list[Filter] = [field == value for value in wanted]
        assert [tuple(matches(filter, document) for filter in filters) for document in documents] == expected
        assert await verdicts(connection, documents, filters) == expected
        between = [field.between(low, high) for low in wanted for high in wanted]
        orders = [
            make(field, value) for make in (operator.gt, operator.ge, operator.lt, operator.le) for value in wanted
        ]
        await check_agreement(connection, documents, [*between, *orders])


async def test_json_null_and_sql_null_are_both_missing(connection: AsyncConnection) -> None:
    filters = [F("data.a") == 1, F("data.a") != 1, F("data").exists(), ~F("data.a").exists(), F("title") != "x"]
    async with connection.begin_nested() as savepoint:
        rows = [{"id": 1, "data": None}, {"id": 2, "data": JSONB.NULL}]
        for row in rows:
            await connection.execute(insert(table).values(row))
        result = await connection.execute(select(*(compile_sql(filter, COLUMNS) for filter in filters)))
        found = [tuple(row) for row in result]
        await savepoint.rollback()
    assert found == [(False, True, False, True, True)] * 2


async def test_at_every_limit(connection: AsyncConnection) -> None:
    """The deepest, widest and longest filters that are accepted run."""
    deep: Filter = F("metadata.a") == 1
    for level in range(63):
        deep = Not(deep) if level % 3 == 0 else And((deep,)) if level % 3 == 1 else Or((deep,))
    nested: Filter = F("a") == 1
    for _ in range(62):
        nested = AnyElement("a", Not(Not(nested))) if nested.depth < 59 else AnyElement("a", nested)
        if nested.depth >= 63:
            break
    wide = Or(tuple(F("metadata.a") == i for i in range(999)))
    numbers = list(range(1000))
    filters = [
        deep,
        AnyElement("metadata", nested),
        wide,
        F("metadata.a").in_(numbers),
        F("metadata.a").contains_all(numbers),
        F("metadata." + ".".join("a" * 31)) == "x" * 10_000,
        F("importance").in_(numbers),
    ]
    documents = [{"metadata": {"a": 1}, "importance": 1}, {"metadata": {"a": numbers}, "importance": -1}]
    expected = [tuple(matches(filter, document) for filter in filters) for document in documents]
    for position, filter in enumerate(filters):
        found = await verdicts(connection, documents, [filter])
        assert [row[0] for row in found] == [row[position] for row in expected]


async def test_nothing_of_the_filter_is_statement_text() -> None:
    filter = (F('metadata."k\'); drop"') == "v'--") & (F("title") >= "T1") & F("at").exists() & F("score").in_([1.5])
    statement = compile_sql(filter, COLUMNS).compile(dialect=postgresql.asyncpg.dialect())
    text = str(statement)
    assert "drop" not in text
    assert "v'" not in text
    assert "T1" not in text
    assert "1.5" not in text
    assert 'COLLATE "C"' in text


async def test_where_clause_and_negation_partition_the_rows(connection: AsyncConnection) -> None:
    filter = (F("metadata.a") > 0) | (F("title") == "x")
    async with connection.begin_nested() as savepoint:
        rows = [{"id": i, "metadata": value, "title": None} for i, value in enumerate(NESTED)]
        await connection.execute(insert(table), rows)
        count = select(func.count()).select_from(table)
        held = await connection.scalar(count.where(compile_sql(filter, COLUMNS)))
        rest = await connection.scalar(count.where(~compile_sql(filter, COLUMNS)))
        await savepoint.rollback()
    assert (held, rest) == (sum(matches(filter, row) for row in rows), len(rows) - (held or 0))


def test_a_filter_that_does_not_fit_the_columns_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"unknown filter field 'nope\.x'; accepted: .*metadata\.<path>"):
        compile_sql(F("nope.x") == 1, COLUMNS)
    with pytest.raises(InvalidInputError, match="'title', a text field, got 3"):
        compile_sql(F("title") == 3, COLUMNS)
