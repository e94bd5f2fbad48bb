"""The JSON form of a filter reads back as the same filter, and refuses the rest with a reason."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memground.errors import InvalidInputError
from memground.filters import And, AnyElement, Comparison, F, Filter, Not, Operator, Or, from_json, parse, to_json


@pytest.mark.parametrize(
    ("value", "filter"),
    [
        ({"data.priority": {"gte": 3}}, F("data.priority") >= 3),
        ({"metadata.topic": "x"}, F("metadata.topic") == "x"),
        ({"metadata.done": True}, Comparison("metadata.done", "eq", True)),
        ({"a": 1, "b": {"in": [1, 2]}}, (F("a") == 1) & F("b").in_([1, 2])),
        ({"a": {"gt": 1, "lt": 9}}, (F("a") > 1) & (F("a") < 9)),
        ({"and": [{"a": 1}, {"b": 2}]}, (F("a") == 1) & (F("b") == 2)),
        ({"or": [{"a": 1}, {"b": 2}], "c": 3}, ((F("a") == 1) | (F("b") == 2)) & (F("c") == 3)),
        ({"not": {"a": 1, "b": 2}}, ~((F("a") == 1) & (F("b") == 2))),
        ({"a.b": {"any": {"p": {"gt": 3}, "n": "x"}}}, F("a.b").any((F("p") > 3) & (F("n") == "x"))),
        ({'"not"': 1}, F('"not"') == 1),
        ({"a": {"between": [1, 2], "any": {"b": 1}}}, F("a").between(1, 2) & F("a").any(F("b") == 1)),
        ({"a": {"exists": False}}, F("a").exists(False)),
    ],
)  # fmt: skip
def test_json_form(value: dict[str, Any], filter: Filter) -> None:
    assert from_json(value) == filter
    assert parse(value) == filter
    assert from_json(json.loads(json.dumps(to_json(filter)))) == filter


FIELD_NAMES = st.sampled_from(["a", "b.c", '"x.y".z', '"and"', '"or"', '"not"', "not.a", "any", "eq", "$"])
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
)  # fmt: skip


def leaf(op: str) -> st.SearchStrategy[Filter]:
    ordered = SCALARS.filter(lambda value: not isinstance(value, bool))
    operands: dict[str, st.SearchStrategy[Any]] = {"exists": st.booleans()}
    operands |= dict.fromkeys(("in", "not_in", "contains_any", "contains_all"), st.lists(SCALARS, max_size=3))
    operands |= dict.fromkeys(("gt", "gte", "lt", "lte"), ordered)
    operands["between"] = st.tuples(st.integers(-9, 9), st.integers(-9, 9)) | st.tuples(st.just("a"), st.just("b"))
    return st.builds(Comparison, FIELD_NAMES, st.just(op), operands.get(op, SCALARS))


TREES = st.recursive(
    st.sampled_from(get_args(Operator)).flatmap(leaf),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, min_size=1, max_size=3))
        | st.builds(Or, st.lists(inner, min_size=1, max_size=3))
        | st.builds(AnyElement, FIELD_NAMES, inner)
    ),
    max_leaves=6,
)


@given(TREES)
def test_the_json_form_reads_back_as_the_same_filter(filter: Filter) -> None:
    assert from_json(json.loads(json.dumps(to_json(filter)))) == filter


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"gte": 3, "like": "x"}}, "unknown operator 'like' for 'a'; accepted: eq"),
        ({"a": {"$gt": 3}}, r"unknown operator '\$gt'"),
        ({"a": {3: 3}}, "unknown operator 3"),
        ({"a": {}}, "no operator for 'a'"),
        ({"a": None}, r"use exists\(False\)"),
        ({"a": [1, 2]}, "for a list of values use in"),
        ({"a": {"any": 1}}, "1 is not a filter; accepted: an object"),
        ({"and": {"a": 1}}, "'and' takes a list of filters"),
        ({"or": "a"}, "'or' takes a list of filters"),
        ({"and": []}, "an empty 'and' group"),
        ({"and": [{}]}, "an empty filter {}"),
        ({"and": ["a"]}, "'a' is not a filter"),
        ({"not": [{"a": 1}]}, "is not a filter; accepted: an object"),
        ({3: 1}, "filter key 3 is not a string"),
        ({}, "an empty filter {}"),
        ([], r"\[\] is not a filter"),
        ("a = 1", "'a = 1' is not a filter"),
    ],
)
def test_bad_json(value: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        from_json(value)


def test_parse() -> None:
    filter = F("a") == 1
    assert parse(filter) is filter
    assert parse(None) is None
    assert parse({}) is None
    for wrong in (F("a"), "a = 1", [], 0):
        with pytest.raises(InvalidInputError, match="is not a filter; accepted"):
            parse(wrong)  # type: ignore[arg-type]
