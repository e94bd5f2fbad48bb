"""Documents and filters for testing that a backend finds what :func:`memground.filters.matches`, and nothing else."""

import os
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from math import inf, nextafter
from typing import Any, Protocol, get_args

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from memground.filters import And, AnyElement, Comparison, F, FieldKind, Filter, Not, Operator, Or
from memground.filters.values import join_path


class Judge(Protocol):
    """A backend with the filter compiler under test."""

    fields: Mapping[str, FieldKind]
    """The fields it has, of those in `FIELDS`."""
    more_scalars: Sequence[Any]
    """What its JSON holds beyond 64-bit integers, floats, text and booleans."""

    async def verdicts(
        self, documents: Sequence[Mapping[str, Any]], filters: Sequence[Filter]
    ) -> list[tuple[bool, ...]]:
        """Per document, in order, what the server says of each filter."""
        ...


FIELDS: dict[str, FieldKind] = {
    "metadata": "json",
    "data": "json",
    "importance": "number",
    "score": "number",
    "ratio": "number",
    "price": "number",
    "title": "text",
    "at": "datetime",
    "done": "boolean",
}
"""importance: an integer; score: a double; ratio: a single; price: a decimal."""

agreement = settings(
    max_examples=int(os.environ.get("FILTER_EXAMPLES", "75")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

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


def typed_fields(names: Mapping[str, Any]) -> dict[str, st.SearchStrategy[Any]]:
    """Values of the fields a backend has, beside the JSON ones."""
    found: dict[str, st.SearchStrategy[Any]] = {
        "importance": st.none() | st.sampled_from([-1, 0, 1, 4]),
        "score": st.none()
        | st.sampled_from([*FLOATS, 2.0**62, nextafter(2.0**53, inf), float("nan"), float("inf"), float("-inf")]),
        "ratio": st.none() | st.sampled_from(RATIOS),
        "price": st.none() | st.sampled_from([*PRICES, Decimal("NaN")]),
        "title": st.none() | st.sampled_from(TEXTS),
        "at": st.none() | st.sampled_from(TIMES),
        "done": st.none() | st.booleans(),
    }
    return {name: strategy for name, strategy in found.items() if name in names}


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


def typed_filters(names: Mapping[str, Any]) -> st.SearchStrategy[Filter]:
    """Filters on the fields a backend has, beside the JSON ones."""
    ops = [op for op in get_args(Operator) if not op.startswith("contains")]
    pools: dict[str, list[Any]] = {
        "importance": [*INT64, *FLOATS],
        "score": [*INT64, 2**62, 2**62 - 200, *FLOATS],
        "ratio": [*RATIOS, 0.1, 0.3, 1, 2**24 + 1],
        "price": [*INT64, *FLOATS],
        "title": TEXTS,
        "at": TIMES,
    }
    of_fields = [comparisons(st.just(name), pool, ops) for name, pool in pools.items() if name in names]
    return st.one_of(*of_fields, comparisons(st.just("done"), [True, False], ["eq", "ne", "in", "not_in", "exists"]))


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
"""Where arrays, nulls and objects meet what is asked of them."""
