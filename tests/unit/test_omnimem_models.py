"""The models of omnimem: checked when made, frozen, and the same after a way through JSON."""

import dataclasses
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimem import (
    Content,
    F,
    IndexHint,
    InvalidInputError,
    Memory,
    MemoryType,
    NewMemory,
    Scope,
    SearchFilters,
    SearchQuery,
    SourceReference,
)
from omnimem.models.index import MAX_VECTORS, parse_path, texts_at
from omnimem.models.scope import DIMENSIONS

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20).filter(
    lambda text: bool(text.strip())
)
SCOPES = st.builds(
    Scope,
    **{dimension: st.none() | NAMES for dimension in DIMENSIONS},
    namespace=st.none() | st.dictionaries(NAMES, NAMES, max_size=3),
)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def memory(**given: Any) -> Memory:
    fields: dict[str, Any] = {
        "memory_id": "mem_1",
        "record_id": "rec_1",
        "version": 1,
        "is_latest": True,
        "scope": Scope(tenant_id="a", namespace={"project": "p1"}),
        "content": Content("text", {"items": [{"desc": "x"}]}),
        "metadata": {"tags": ["a"]},
        "type": MemoryType.FACT,
        "sources": [SourceReference("message", "m1", (0, 4), "https://example.org")],
        "index_hint": IndexHint(vector_fields=["data.items[*].desc"]),
        "created_time": NOW,
        "event_time": NOW,
    }
    return Memory(**{**fields, **given})


@given(SCOPES)
def test_a_scope_survives_its_tags_and_its_json(scope: Scope) -> None:
    assert Scope.with_tags(dict(scope.dimensions), scope.tags) == scope
    assert Scope.from_dict(json.loads(json.dumps(scope.to_dict()))) == scope
    assert hash(Scope.from_dict(scope.to_dict())) == hash(scope)


@given(SCOPES, SCOPES)
def test_a_narrowed_scope_admits_what_both_admit(one: Scope, other: Scope) -> None:
    try:
        both = one.narrowed(other)
    except InvalidInputError:
        return
    assert one.admits(both)
    assert other.admits(both)
    assert both.admits(both)


def test_tags_encode_colons_and_percent_signs() -> None:
    assert Scope(namespace={"a:b": "c%d", "plain": "x.y"}).tags == ("ns.a%3Ab:c%25d", "ns.plain:x.y")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tenant_id": ""}, "tenant_id is empty"),
        ({"user_id": 7}, "user_id must be a str"),
        ({"namespace": {"k": 1}}, "must be a str"),
        ({"namespace": "p"}, "must be a dict"),
        ({"agent_id": "a\0"}, "NUL"),
        ({"run_id": "x" * 256}, "256 characters"),
    ],
)
def test_a_scope_refuses(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Scope(**given)


def test_models_are_frozen_and_survive_json() -> None:
    one = memory()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.version = 2  # type: ignore[misc]
    assert Memory.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    new = NewMemory("text", scope=Scope(user_id="u"), valid_time_from=NOW)
    assert NewMemory.from_dict(json.loads(json.dumps(new.to_dict()))) == new
    query = SearchQuery("q", filters=SearchFilters(F("data.a") > 1, types=["fact"], valid_at=NOW), as_of=NOW)
    assert SearchQuery.from_dict(json.loads(json.dumps(query.to_dict()))) == query


def test_unknown_fields_in_json_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no field 'colour'"):
        Memory.from_dict({**memory().to_dict(), "colour": 1})
    with pytest.raises(InvalidInputError, match="no field 'tenant'"):
        Scope.from_dict({"tenant": "a"})
    with pytest.raises(InvalidInputError, match="Memory lacks memory_id, record_id"):
        Memory.from_dict({"version": 1})
    with pytest.raises(InvalidInputError, match="read from an object"):
        Memory.from_dict([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metadata": {"x": math.nan}}, "metadata.x is nan"),
        ({"metadata": {"x": 2**63}}, "does not fit 64 bits"),
        ({"metadata": []}, "metadata must be a dict"),
        (
            {"content": Content("x"), "valid_time_from": NOW, "valid_time_to": datetime(2026, 1, 1, tzinfo=UTC)},
            "before",
        ),
        ({"event_time": datetime(2026, 1, 1)}, "no timezone"),  # noqa: DTZ001
        ({"type": "x" * 51}, "51 characters"),
        ({"sources": ["m1"]}, r"sources\[0\] must be"),
        ({"created_time": None}, "created_time is missing"),
    ],
)
def test_a_memory_refuses(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        memory(**given)


def test_content_is_a_text_or_data() -> None:
    for wrong, said in [
        ({}, "content is empty"),
        ({"text": " "}, "content.text is empty"),
        ({"data": "text"}, "a dict or a list"),
        ({"data": {"x": "y" * 5_000_000}}, "larger than"),
        ({"text": "a\ud800"}, "lone surrogate"),
    ]:
        with pytest.raises(InvalidInputError, match=said):
            Content(**wrong)  # type: ignore[arg-type]


def test_data_must_satisfy_its_schema() -> None:
    pytest.importorskip("jsonschema")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert Content(data={"n": 1}, schema=schema).data == {"n": 1}
    with pytest.raises(InvalidInputError, match=r"violates its schema at \$\.n"):
        Content(data={"n": "x"}, schema=schema)
    with pytest.raises(InvalidInputError, match="no JSON Schema"):
        Content(data={}, schema={"type": "nonsense"})
    with pytest.raises(InvalidInputError, match="does not hold"):
        Content(data={}, schema={"$ref": "https://example.org/x.json"})


DOCUMENT = {
    "data": {
        "title": "T",
        "items": [{"desc": "one"}, {"desc": None}, {"desc": "two", "more": [{"x": 1}, {"x": [2, "b"]}]}],
        "a.b": {'c"d': "quoted"},
        "matrix": [["m00", "m01"], ["m10"]],
        "empty": "",
    },
    "metadata": {"tags": ["x", "y"], "flag": True},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("data.title", [("data.title", "T")]),
        ("data.items[*].desc", [("data.items[0].desc", "one"), ("data.items[2].desc", "two")]),
        ("data.items[2].desc", [("data.items[2].desc", "two")]),
        ("data.items[*].more[*].x", [("data.items[2].more[0].x", "1"), ("data.items[2].more[1].x", "2\nb")]),
        ("data.items[9].desc", []),
        ('data."a.b"."c\\"d"', [('data."a.b"."c\\"d"', "quoted")]),
        ("data.matrix[*][*]", [(f"data.matrix[{i}][{j}]", f"m{i}{j}") for i, j in [(0, 0), (0, 1), (1, 0)]]),
        ("metadata.tags", [("metadata.tags", "x\ny")]),
        ("metadata.flag", []),
        ("data.missing.deep", []),
        ("data.empty", []),
    ],
)
def test_paths_lead_to_texts(path: str, found: list[tuple[str, str]]) -> None:
    assert list(texts_at(path, DOCUMENT)) == found


@pytest.mark.parametrize(
    "path", ["", "data", "text.x", "data..x", "data.x[", "data.x[-1]", "data.x[y]", 'data."x', "data. x", "data.x]", 7]
)
def test_malformed_paths_are_refused(path: Any) -> None:
    with pytest.raises(InvalidInputError):
        parse_path(path)


def test_path_bombs_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="at most 32"):
        IndexHint(vector_fields=["data" + "[*]" * 40])
    with pytest.raises(InvalidInputError, match="at most 32 are accepted"):
        IndexHint(vector_fields=[f"data.x{n}" for n in range(33)])
    hint = IndexHint(vector_fields=["data.items[*].x"])
    with pytest.raises(InvalidInputError, match=f"more than {MAX_VECTORS}"):
        hint.vector_texts("t", {"data": {"items": [{"x": str(n)} for n in range(100)]}})


def test_a_hint_says_what_is_embedded_and_what_is_read() -> None:
    hint = IndexHint(
        vector_concat_fields=["data.title", "metadata.tags"],
        vector_fields=["data.items[*].desc"],
        fulltext_fields=["data.title"],
    )
    assert hint.vector_texts("main", DOCUMENT) == {
        "text": "main\nT\nx\ny",
        "data.items[0].desc": "one",
        "data.items[2].desc": "two",
    }
    assert hint.words_of("main", DOCUMENT) == "main\nT"
    assert IndexHint().vector_texts(None, DOCUMENT) == {}


def test_search_queries_refuse() -> None:
    for wrong, said in [
        ({"text": " "}, "query is empty"),
        ({"mode": "fuzzy"}, "hybrid, semantic, keyword"),
        ({"limit": 0}, "from 1 to 1,000"),
        ({"limit": 1_001}, "from 1 to 1,000"),
        ({"weights": {"words": 1}}, "accepted: semantic, keyword"),
        ({"weights": {"semantic": -1}}, "pass 0 to"),
        ({"filters": {"data.x": {"like": 1}}}, "unknown operator"),
        ({"as_of": "yesterday"}, "is no time"),
    ]:
        with pytest.raises(InvalidInputError, match=said):
            SearchQuery(**{"text": "q", **wrong})  # type: ignore[arg-type]


def test_filters_by_name_are_one_filter() -> None:
    combined = SearchFilters(F("data.a") == 1, types=["fact"], event_from=NOW, event_to=NOW, valid_at=NOW).filter
    assert combined is not None
    assert combined.nodes == 9
    assert SearchFilters().filter is None
    with pytest.raises(InvalidInputError, match="unknown filter field"):
        _ = SearchFilters(F("colour") == 1).filter
