"""The filter tree, its JSON form, its checks and what it means."""

import json
import math
import pickle
from collections import UserDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import reduce
from operator import and_, or_
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memground.errors import InvalidInputError
from memground.filters import (
    And,
    AnyElement,
    Comparison,
    F,
    FieldKind,
    Filter,
    Not,
    Or,
    check,
    from_json,
    matches,
    positive,
    split_path,
    to_json,
)
from memground.filters.values import join_path

KINDS: dict[str, FieldKind] = {
    "metadata": "json",
    "data": "json",
    "title": "text",
    "importance": "number",
    "at": "datetime",
    "done": "boolean",
}
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


# Meaning ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "filter", "expected"),
    [
        # numbers, strings, booleans and their borders
        (4, F("d.x") == 4.0, True),
        (4.0, F("d.x") == 4, True),
        (Decimal("4.00"), F("d.x") == 4, True),
        ("4", F("d.x") == 4, False),
        (4, F("d.x") == "4", False),
        (True, F("d.x") == 1, False),
        (1, F("d.x") == True, False),  # noqa: E712
        (True, F("d.x") == True, True),  # noqa: E712
        (False, F("d.x") == 0, False),
        (0, F("d.x") == False, False),  # noqa: E712
        (0.1 + 0.2, F("d.x") == 0.3, False),
        (Decimal("0.1"), F("d.x") == 0.1, True),
        (2**53, F("d.x") == 2**53 + 1, False),
        (2.0**53, F("d.x") == 2**53 + 1, False),
        (10**30, F("d.x") > 1, True),
        (-0.0, F("d.x") == 0, True),
        (math.nan, F("d.x") >= 0, False),
        (np.float64(0.5), F("d.x") == 0.5, True),
        ("b", F("d.x") > "B", True),
        ("\uffff", F("d.x") < "😀", True),
        ("a", F("d.x") >= 1, False),
        ("é", F("d.x") == "e\u0301", False),
        (None, F("d.x") == "null", False),
        # orders and ranges
        (3, F("d.x") > 3, False),
        (3, F("d.x") >= 3, True),
        (3, F("d.x") < 3, False),
        (3, F("d.x") <= 3, True),
        (3, F("d.x").between(3, 5), True),
        (5, F("d.x").between(3, 5), True),
        (6, F("d.x").between(3, 5), False),
        (4, F("d.x").between(5, 3), False),
        ([1, 9], F("d.x").between(3, 5), False),
        ([1, 9], (F("d.x") >= 3) & (F("d.x") <= 5), True),
        # lists
        (2, F("d.x").in_([1, "2", 2.0]), True),
        (2, F("d.x").in_([1, "2", True]), False),
        (2, F("d.x").in_([]), False),
        (2, F("d.x").not_in([]), True),
        (2, F("d.x").not_in([2]), False),
        # arrays open one level
        ([1, 2], F("d.x") == 2, True),
        ([1, 2], F("d.x") != 2, False),
        ([[2]], F("d.x") == 2, False),
        ([], F("d.x") == 2, False),
        ([{"y": 1}, {"y": [2, 3]}], F("d.x.y") == 3, True),
        ([{"y": 1}, {"y": [2, 3]}], F("d.x[*].y[*]") == 3, True),
        ([[{"y": 1}]], F("d.x.y") == 1, False),
        ({"y": {"z": 1}}, F("d.x.y.z") == 1, True),
        ("text", F("d.x.y") == 1, False),
        # presence
        (0, F("d.x").exists(), True),
        (False, F("d.x").exists(), True),
        ([], F("d.x").exists(), True),
        ({}, F("d.x").exists(), True),
        ([None], F("d.x").exists(), True),
        (None, F("d.x").exists(), False),
        (None, F("d.x").exists(False), True),
        ([{"y": None}, {"y": 1}], F("d.x.y").exists(), True),
        ([{"y": None}, {}], F("d.x.y").exists(), False),
        # contains
        (["a", "b"], F("d.x").contains("a"), True),
        ("a", F("d.x").contains("a"), False),
        ([["a"]], F("d.x").contains("a"), False),
        ([1.0], F("d.x").contains(1), True),
        ([True], F("d.x").contains(1), False),
        (["a"], F("d.x").contains_any(["b", "a"]), True),
        (["a"], F("d.x").contains_any([]), False),
        (["a", "b", "c"], F("d.x").contains_all(["c", "a"]), True),
        (["a"], F("d.x").contains_all(["a", "b"]), False),
        ([], F("d.x").contains_all([]), True),
        ("a", F("d.x").contains_all([]), False),
        ([{"t": ["a"]}, {"t": ["b"]}], F("d.x.t").contains_all(["a", "b"]), False),
        ([{"t": ["a"]}, {"t": ["b"]}], F("d.x.t").contains("b"), True),
        # one and the same element
        ([{"p": 5, "n": "y"}, {"p": 1, "n": "x"}], F("d.x").any((F("p") > 3) & (F("n") == "x")), False),
        ([{"p": 5, "n": "x"}], F("d.x").any((F("p") > 3) & (F("n") == "x")), True),
        ({"p": 5}, F("d.x").any(F("p") > 3), True),
        ([5, None, "p"], F("d.x").any(F("p").exists(False)), False),
        ([{}], F("d.x").any(F("p").exists(False)), True),
        ([[{"p": 5}]], F("d.x").any(F("p") > 3), False),
        ([{"q": [{"p": 5}]}], F("d.x").any(F("q").any(F("p") == 5)), True),
    ],
)
def test_meaning(value: Any, filter: Filter, expected: bool) -> None:
    assert matches(filter, {"d": {"x": value}}) is expected
    assert matches(~filter, {"d": {"x": value}}) is not expected


def test_a_missing_path_satisfies_only_complements() -> None:
    field = F("d.x")
    every = [field == 1, field > 1, field.in_([1]), field.exists(), field.contains(1), field.any(F("y") == 1)]
    for document in ({}, {"d": None}, {"d": {}}, {"d": {"x": None}}, {"e": {"x": 1}}):
        assert [matches(filter, document) for filter in every] == [False] * len(every)
        assert all(matches(filter, document) for filter in (field != 1, field.not_in([1]), field.exists(False)))


def test_logic() -> None:
    document = {"a": 1, "b": 2}
    yes, no = F("a") == 1, F("b") == 1
    assert matches(yes & ~no, document)
    assert matches(no | yes, document)
    assert not matches(yes & no, document)
    assert not matches(no | ~yes, document)


def test_datetimes_compare_as_instants() -> None:
    plus_two = NOON.astimezone(timezone(timedelta(hours=2)))
    assert matches(F("at") == plus_two, {"at": NOON})
    assert matches(F("at").between(NOON, NOON), {"at": plus_two})
    assert not matches(F("at") > "2024", {"at": NOON})
    assert not matches(F("at") == NOON, {"at": NOON.isoformat()})
    # Oslo's clocks went back: 02:30 twice, an hour apart, equal as wall clock times of one zone.
    oslo = ZoneInfo("Europe/Oslo")
    first = datetime(2024, 10, 27, 2, 30, tzinfo=oslo)
    assert matches(F("at") > first, {"at": first.replace(fold=1)})


def test_documents_may_be_any_mapping_and_arrays_tuples() -> None:
    assert matches(F("d.x") == 2, UserDict({"d": UserDict({"x": (1, 2)})}))


# Paths --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "segments", "canonical"),
    [
        ("a", ("a",), "a"),
        ("a.b.c", ("a", "b", "c"), "a.b.c"),
        ("a[*].b[*]", ("a", "b"), "a.b"),
        ('a."b.c".d', ("a", "b.c", "d"), 'a."b.c".d'),
        ('a."b"', ("a", "b"), "a.b"),
        (r'a."q\"\\"[*].x', ("a", 'q"\\', "x"), r'a."q\"\\".x'),
        ('a."[0]"', ("a", "[0]"), 'a."[0]"'),
        ("a.x y.é😀.$.*", ("a", "x y", "é😀", "$", "*"), "a.x y.é😀.$.*"),
        ('"not"', ("not",), '"not"'),
        ("not.x", ("not", "x"), "not.x"),
    ],
)
def test_paths(path: str, segments: tuple[str, ...], canonical: str) -> None:
    assert split_path(path) == segments
    comparison = F(path) == 1
    assert (comparison.segments, comparison.path) == (segments, canonical)
    assert comparison == (F(canonical) == 1)


@pytest.mark.parametrize(
    "path",
    [
        "a\x00b",
        "a.\ud800",
        "a" * 501,
        ".".join("a" * 33),
        None,
        3,
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        'a.""',
        'a."b',
        'a."b"c',
        'a"b',
        "a[0]",
        "a[]",
        "a[*][*]",
        "[*]",
        "a[*]b",
        r'"\n"',
    ],
)
def test_bad_paths(path: Any) -> None:
    with pytest.raises(InvalidInputError, match="filter path"):
        F(path)
    with pytest.raises(InvalidInputError):
        from_json({path: 1})


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1))
def test_every_path_reads_back(segments: list[str]) -> None:
    path = join_path(tuple(segments))
    if len(path) <= 500 and len(segments) <= 32:
        assert split_path(path) == tuple(segments)
        assert path not in ("and", "or", "not")


# Values and operators -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f == None, r"use exists\(False\)"),  # noqa: E711
        (lambda f: f.in_([1, None]), r"use exists\(False\)"),
        (lambda f: f == 2**63, "does not fit 64 bits"),
        (lambda f: f == -(2**63) - 1, "does not fit 64 bits"),
        (lambda f: f.in_([math.nan]), "must be finite"),
        (lambda f: f > math.inf, "must be finite"),
        (lambda f: f > True, "booleans have no order"),
        (lambda f: f.between(False, True), "booleans have no order"),
        (lambda f: f == "a\x00", "NUL character"),
        (lambda f: f == "\udc80", "lone surrogate"),
        (lambda f: f == "x" * 10_001, "10001 characters; at most 10000"),
        (lambda f: f == [1], "for a list of values use in"),
        (lambda f: f == {"a": 1}, r"got \{'a': 1\} \(dict\); accepted: string"),
        (lambda f: f == Decimal(1), r"\(Decimal\)"),
        (lambda f: f == b"x", r"\(bytes\)"),
        (lambda f: f == F("y"), r"got F\('y'\)"),
        (lambda f: f == NOON.replace(tzinfo=None), "naive datetime 2024-05-01T12:00:00"),
        (lambda f: f == datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "outside the years 1 to 9999"),
        (lambda f: f.in_("abc"), "takes a list of values, not 'abc'"),
        (lambda f: f.in_({1}), "takes a list"),
        (lambda f: f.in_(range(1001)), "takes a list"),
        (lambda f: f.contains_all(list(range(1001))), "1001 values; at most 1000"),
        (lambda f: f.contains([1]), "accepted: string"),
        (lambda f: f.exists(1), "takes true or false, not 1"),
        (lambda f: f.between(1, "2"), "two values of one type"),
        (lambda f: Comparison("d.x", "between", (1, 2, 3)), "two values of one type"),
        (lambda f: Comparison("d.x", "like", "a%"), "unknown operator 'like' for 'd.x'; accepted: eq, ne, .*any"),
        (lambda f: f.any(3), "3 is not a filter"),
        (Not, r"F\('d.x'\) is not a filter"),
        (lambda f: And(()), "an empty 'and' group"),
        (lambda f: Or(()), "an empty 'or' group"),
        (lambda f: (f == 1) & {"a": 1}, "is not a filter"),
    ],
)
def test_bad_values(make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make(F("d.x"))


def test_a_filter_has_no_truth_value() -> None:
    filter = F("a") == 1
    for use in (lambda: filter and (F("b") == 2), lambda: not filter, lambda: 1 < F("a") < 3):
        with pytest.raises(InvalidInputError, match="use between"):
            use()


def test_reversed_comparisons() -> None:
    assert (3 <= F("a")) == Comparison("a", "gte", 3)  # noqa: SIM300
    assert (3 == F("a")) == Comparison("a", "eq", 3)  # noqa: SIM300


def test_filters_are_values() -> None:
    one = (F("a") > 1) & ~F("b").in_([1, 2])
    two = (F("a") > 1) & ~F("b").in_([1, 2])
    assert one == two
    assert len({one, two}) == 1
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(AttributeError):
        one.parts = ()  # type: ignore[misc]


def test_positive_names_the_three_complements() -> None:
    assert positive(F("a") != 1) == (F("a") == 1, True)
    assert positive(F("a").not_in([1])) == (F("a").in_([1]), True)
    assert positive(F("a").exists(False)) == (F("a").exists(), True)
    assert positive(F("a").exists()) == (F("a").exists(), False)
    assert positive(F("a") > 1) == (F("a") > 1, False)


# Limits -------------------------------------------------------------------------------------------------------------


def test_long_chains_stay_flat() -> None:
    parts = [F("a") == i for i in range(500)]
    for joined in (reduce(and_, parts), reduce(or_, parts)):
        assert (joined.depth, joined.nodes) == (2, 501)
        assert from_json(to_json(joined)) == joined


def test_depth_is_limited_however_it_is_built() -> None:
    def nest(step: Callable[[Filter, int], Filter]) -> None:
        filter: Filter = F("a") == 1
        for level in range(1000):
            filter = step(filter, level)

    steps: list[Callable[[Filter, int], Filter]] = [
        lambda filter, _: ~filter,
        lambda filter, _: And((filter,)),
        lambda filter, _: AnyElement("a", filter),
        lambda filter, level: (filter & (F("b") == 1)) if level % 2 else (filter | (F("b") == 1)),
    ]
    for step in steps:
        with pytest.raises(InvalidInputError, match="more than 64 levels"):
            nest(step)


@pytest.mark.parametrize("wrap", [lambda f: {"not": f}, lambda f: {"and": [f]}, lambda f: {"a": {"any": f}}])
def test_depth_of_json_is_limited(wrap: Callable[[Any], Any]) -> None:
    def nested(levels: int) -> Any:
        value: Any = {"a": 1}
        for _ in range(levels):
            value = wrap(value)
        return value

    assert from_json(nested(63)).depth == 64
    for levels in (64, 1000, 100_000):
        with pytest.raises(InvalidInputError, match="more than 64 levels"):
            from_json(nested(levels))


def test_size_is_limited() -> None:
    from_json({"or": [{"a": {"eq": i}} for i in range(999)]})
    for parts in (1000, 100_000):
        with pytest.raises(InvalidInputError, match="more than 1000 nodes"):
            from_json({"or": [{"a": {"eq": i}} for i in range(parts)]})
    with pytest.raises(InvalidInputError, match="more than 1000 nodes"):
        Or(tuple(F("a") == i for i in range(1000)))
    shared: Any = {"a": 1}
    for _ in range(60):
        shared = {"and": [shared, shared]}  # 2**60 conditions in a few bytes
    with pytest.raises(InvalidInputError, match="more than 1000 nodes"):
        from_json(shared)


def test_deeply_nested_values_make_readable_errors() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(InvalidInputError, match=r"\.\.\."):
        from_json({"a": {"eq": value}})


# Checks against fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "filter",
    [
        F("metadata") == 1,
        (F("metadata.a.b") == 1) | ~(F("data.and").contains_all([1, "a"])),
        F("data.items").any((F("title") == 3) & F("x").any(F("y") > 1)),
        (F("title") > "a") & F("title").in_([]) & F("title").exists(False),
        F("importance").between(1, 2.5),
        F("at") >= NOON,
        F("done") == True,  # noqa: E712
        F("done").not_in([True, False]),
    ],
)
def test_check_accepts_what_fits(filter: Filter) -> None:
    assert check(filter, KINDS) == filter


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        (
            F("nope") == 1,
            r"unknown filter field 'nope'; accepted: at, data\.<path>, done, importance, meta",
        ),
        (F("items").any(F("metadata") == 1), "unknown filter field 'items'"),
        (~(F("title.x") == "a"), "goes into 'title', a text field without members"),
        (F("title") == 1, r"operator 'eq' on 'title', a text field, got 1 \(int\); accepted: a text"),
        (F("importance") == "1", "a number field, got '1'"),
        (F("importance").in_([1, True]), "a number field, got True"),
        (F("done") == 1, "a boolean field, got 1"),
        (F("done") >= 1, "'gte' does not apply to 'done', a boolean field; accepted: eq, ne, in, not_in, exists"),
        (F("title").contains("a"), "'contains' does not apply to 'title'"),
        (F("title").any(F("a") == 1), "operator 'any' on 'title': a text field has no elements"),
        (F("at") == 1, "a datetime field, got 1"),
        (F("at") == "yesterday", "a datetime field, got 'yesterday'; accepted: a timezone-aware datetime or its ISO"),
        (F("at") == "2024-05-01", "naive datetime 2024-05-01T00:00:00; give it a timezone"),
        (F("metadata.at") == NOON, "JSON holds none"),
        (F("data").any(F("at").in_(["a", NOON])), "JSON holds none"),
        (F("title") == NOON, "a text field, got datetime"),
    ],
)
def test_check_refuses_what_does_not(filter: Filter, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check(filter, KINDS)


def test_iso_strings_become_datetimes_on_datetime_fields() -> None:
    filter = F("at").between(NOON, NOON + timedelta(hours=1)) & ~F("at").in_([NOON]) & (F("metadata.at") == "2024")
    plain = json.loads(json.dumps(to_json(filter)))
    assert check(from_json(plain), KINDS) == filter
    assert check(F("at") >= "2024-05-01T14:00:00+02:00", KINDS) == (F("at") >= NOON)
    assert check(F("at") >= "2024-05-01T12:00:00Z", KINDS) == (F("at") >= NOON)
