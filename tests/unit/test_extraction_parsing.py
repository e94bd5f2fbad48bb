"""What a language model answers becomes items, whatever it answers."""

import contextlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memground.errors import ProviderError
from memground.text import check_json, check_text
from neuromem import Emotion, Episode, Fact, HygieneRules, Triple
from neuromem.extraction.asking import Asked, Turn
from neuromem.extraction.items import Extraction, ProfileUpdate
from neuromem.extraction.parsing import parse_extraction
from neuromem.extraction.schema import EXTRACTION_SCHEMA
from neuromem.types import Dropped

NOON = datetime(2024, 5, 17, 12, tzinfo=UTC)
PORTO = ZoneInfo("Europe/Lisbon")


def turn(number: int, text: str = "…") -> Turn:
    return Turn(f"m{number}", "user", text, NOON)


ASKED = Asked(turns=(turn(3), turn(4), turn(5)), earlier=(turn(1), turn(2)), timezone=PORTO)


def parse(answer: Any, **options: Any) -> Extraction:
    return parse_extraction(answer if isinstance(answer, str) else json.dumps(answer), ASKED, **options)


def fact(**fields: Any) -> Fact:
    return parse({"facts": [{"content": "x", **fields}]}).facts[0].item


def test_everything_a_model_can_say() -> None:
    found = parse(
        {
            "facts": [
                {
                    "content": "Anna lives in Porto",
                    "category": "Home",
                    "confidence": 0.9,
                    "importance": 7,
                    "valid_from": "2024-05-10",
                    "valid_to": None,
                    "emotion": {"valence": 0.5, "arousal": 0.25, "label": "joy"},
                    "entities": ["Anna", "Porto"],
                    "sources": [3],
                }
            ],
            "episodes": [
                {"content": "Anna missed her flight", "happened_at": "2024-05-16T18:30:00", "sources": [4, 5]}
            ],
            "triples": [
                {
                    "subject": "Anna",
                    "subject_type": "Person",
                    "relation": "lives_in",
                    "object": "Porto",
                    "object_type": "place",
                    "confidence": 1,
                    "valid_from": "2024-05-10T00:00:00Z",
                    "valid_to": None,
                    "sources": [3],
                }
            ],
            "profile_updates": [{"key": "Home City", "value": "Porto", "sources": [3]}],
        }
    )
    moved = datetime(2024, 5, 9, 23, tzinfo=UTC)
    assert found.facts[0].item == Fact(
        "Anna lives in Porto", "home", 0.9, 7, moved, None, Emotion(0.5, 0.25, "joy"), ("Anna", "Porto")
    )
    assert found.episodes[0].item == Episode(
        "Anna missed her flight", happened_at=datetime(2024, 5, 16, 17, 30, tzinfo=UTC)
    )
    assert found.triples[0].item == Triple(
        "Anna", "lives_in", "Porto", "person", "place", 1.0, datetime(2024, 5, 10, tzinfo=UTC)
    )
    assert found.profile_updates[0].item == ProfileUpdate("home_city", "Porto")
    assert [item.sources for item in (*found.facts, *found.episodes)] == [("m3",), ("m4", "m5")]
    assert found.dropped == ()
    assert found.to_dict()["facts"][0]["item"]["valid_from"] == "2024-05-09T23:00:00+00:00"


@pytest.mark.parametrize(
    "answer",
    [
        '{"facts": [{"content": "likes tea"}], "episodes": [], "triples": [], "profile_updates": []}',
        '```json\n{"facts": [{"content": "likes tea"}]}\n```',
        'Sure! Here is the JSON:\n\n{"facts": [{"content": "likes tea"}]}\n\nI hope this helps {really}.',
        '<think>Maybe {"facts": [{"content": "no"}]}?</think>\n{"facts": [{"content": "likes tea"}]}',
        "{'facts': [{'content': 'likes tea',},],}",
        '{"facts": [{"content": "likes tea"}',
        '{"facts": [{"content": "likes tea", "category": "fo',
        '{"facts": ["likes tea"]}',
        '{"facts": "likes tea"}',
        '{"facts": {"content": "likes tea"}}',
        '{"facts": {"1": {"content": "likes tea"}}}',
        '{"Facts": [{"Content": "likes tea"}]}',
        '{"extraction": {"facts": [{"content": "likes tea"}]}}',
        '[{"facts": [{"content": "likes tea"}]}, {"triples": []}]',
        '{"facts": [{"content": "likes tea"}, {"content": "likes tea"}]}',
        '{"facts": [{"content": "  likes tea\\u0000\\ud800 "}]}',
    ],
)
def test_answers_models_really_give(answer: str) -> None:
    assert [item.item.content for item in parse(answer).facts] == ["likes tea"]


@pytest.mark.parametrize("answer", ["{}", "[]", '{"facts": [], "profile_updates": {}}', '{"facts": null}'])
def test_nothing_found_is_an_answer(answer: str) -> None:
    assert parse(answer) == Extraction()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("I am sorry, I cannot help with that.", "without JSON: 'I am sorry"),
        ("", "without JSON"),
        ("null", "without JSON"),
        ("42", "without JSON"),
        ('"facts"', "without JSON"),
        ('{"error": "overloaded"}', "none of facts"),
        ("[" * 50_000, "JSON"),
        ('{"facts": ' * 3_000, "cannot be repaired"),
        ("x" * 1_000_001, "1,000,001 characters"),
        ('{"facts": [' + '{"content": "x"} ' * 10_000, "broken JSON"),
        (None, "NoneType"),
        (b"{}", "bytes"),
    ],
)
def test_what_is_no_answer_is_an_error_that_says_so(answer: Any, says: str) -> None:
    with pytest.raises(ProviderError, match=says) as caught:
        parse_extraction(answer, ASKED, model="gpt-x")
    assert str(caught.value).startswith("gpt-x answered")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("next spring", None),
        ("", None),
        ("yesterday", None),
        ("2024-13-45", None),
        (True, None),
        (1715900000, None),
        ([2024], None),
        ("9" * 5000, None),
        ("2024-05-17", datetime(2024, 5, 16, 23, tzinfo=UTC)),
        ("2024-05-17T18:30", datetime(2024, 5, 17, 17, 30, tzinfo=UTC)),
        ("2024-05-17T18:30:00Z", datetime(2024, 5, 17, 18, 30, tzinfo=UTC)),
        ("2024-05-17T18:30:00+08:00", datetime(2024, 5, 17, 10, 30, tzinfo=UTC)),
        ("2021-06", datetime(2021, 5, 31, 23, tzinfo=UTC)),
        ("2021", datetime(2021, 1, 1, tzinfo=UTC)),
        (2021, datetime(2021, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_that_is_none_drops_the_field_and_not_the_memory(given: Any, understood: datetime | None) -> None:
    assert fact(valid_from=given).valid_from == understood
    episode = parse({"episodes": [{"content": "x", "timestamp": given}]}).episodes[0].item
    assert episode.happened_at == understood


def test_an_end_before_the_start_is_none() -> None:
    assert fact(valid_from="2024", valid_to="2023").valid_to is None
    assert fact(valid_from="2024", valid_to="2024").valid_to is None
    assert fact(valid_to="2023").valid_to == datetime(2023, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        (0.4, 0.4),
        ("0.4", 0.4),
        ("high", 0.9),
        ("高", 0.9),
        (" LOW ", 0.3),
        ("85%", 0.85),
        (85, 0.85),
        ("8/10", 0.8),
        (0, 0.0),
        (1, 1.0),
        (1e300, 1.0),
        (None, 1.0),
        (-1, 1.0),
        ("sure", 1.0),
        (True, 1.0),
        ([0.4], 1.0),
        (float("nan"), 1.0),
        (float("inf"), 1.0),
        (10**400, 1.0),
    ],
)
def test_confidence(given: Any, understood: float) -> None:
    assert fact(confidence=given).confidence == pytest.approx(understood)


@pytest.mark.parametrize(
    ("given", "understood"),
    [(7, 7), (7.4, 7), ("7", 7), ("8/10", 8), (0, 1), (99, 10), (0.7, 7), ("high", 9), (None, None), ("very", None)],
)
def test_importance(given: Any, understood: int | None) -> None:
    assert fact(importance=given).importance == understood


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ({"valence": -0.6, "arousal": 0.7, "label": "紧张"}, Emotion(-0.6, 0.7, "紧张")),
        ({"valence": "-0.6", "arousal": 7}, Emotion(-0.6, 1.0)),
        ({"valence": -3}, Emotion(-1.0, 0.0)),
        ({"valence": 0.5, "arousal": None, "label": ["x"]}, Emotion(0.5, 0.0)),
        ({"valence": float("nan"), "arousal": 0.5}, None),
        ({"label": "happy"}, None),
        ("happy", None),
        ([], None),
        (None, None),
    ],
)
def test_emotion(given: Any, understood: Emotion | None) -> None:
    assert fact(emotion=given).emotion == understood


def test_entities() -> None:
    assert fact(entities=["Anna", "Anna", {"name": "Porto"}, 7, None, " "]).entities == ("Anna", "Porto", "7")
    assert fact(entities="Anna, Porto、上海").entities == ("Anna", "Porto", "上海")
    assert fact(entities={"a": 1}).entities == ()
    assert len(fact(entities=[f"e{number}" for number in range(10_000)]).entities) == 50


@pytest.mark.parametrize(
    ("given", "sources"),
    [
        ([3], ("m3",)),
        ([5, 3, 3], ("m3", "m5")),
        (["turn 4"], ("m4",)),
        ("3, 4", ("m3", "m4")),
        (3.0, ("m3",)),
        ([2, 3], ("m2", "m3")),
        ([2], ("m2", "m3", "m4", "m5")),
        (None, ("m3", "m4", "m5")),
        ([], ("m3", "m4", "m5")),
        ([0, 6, -1, 10**30, True, {}, float("nan")], ("m3", "m4", "m5")),
        ("everything", ("m3", "m4", "m5")),
    ],
)
def test_an_item_comes_from_new_turns_always(given: Any, sources: tuple[str, ...]) -> None:
    found = parse({"facts": [{"content": "x", "sources": given}]})
    assert found.facts[0].sources == sources


def test_one_bad_item_costs_itself_only() -> None:
    found = parse(
        {
            "facts": [{"content": "a"}, {"content": ""}, {}, 7, None, [], {"content": None}, {"content": ["b"]}],
            "triples": [
                {"subject": "Anna", "relation": "lives_in", "object": "Porto"},
                ["Anna", "owns", {"name": "Miso"}],
                {"subject": "Anna", "relation": "", "object": "x"},
                ["Anna", "owns"],
                "Anna owns Miso",
            ],
        }
    )
    assert [item.item.content for item in found.facts] == ["a"]
    assert [(t.item.subject, t.item.relation, t.item.object) for t in found.triples] == [
        ("Anna", "lives_in", "Porto"),
        ("Anna", "owns", "Miso"),
    ]
    assert found.dropped == (Dropped("fact", "unusable", 7), Dropped("triple", "unusable", 3))


@pytest.mark.parametrize(
    "given",
    [
        {"city": "Porto", "languages": ["pt", "en"], "age": None, "job": "unknown"},
        [
            {"key": "city", "value": "Porto"},
            {"key": "languages", "value": ["pt", "en"]},
            {"key": "age", "value": None},
            {"key": "job", "value": ""},
        ],
        [{"city": "Porto"}, {"languages": ["pt", "en"]}, {"": "x"}, {"x": {}}],
        {"city": {"value": "Porto", "sources": [3]}, "languages": ["pt", "en"], "a": [], "b": {"c": 2**70}},
    ],
)
def test_profile_updates_in_every_shape(given: Any) -> None:
    found = parse({"profile_updates": given})
    assert [(u.item.key, u.item.value) for u in found.profile_updates] == [
        ("city", "Porto"),
        ("languages", ["pt", "en"]),
    ]
    assert found.dropped == (Dropped("profile", "unusable", 2),)


def test_too_much_is_counted_and_quick() -> None:
    many = {"facts": [{"content": f"fact {number}"} for number in range(10_000)]}
    begun = time.perf_counter()
    found = parse(many, rules=HygieneRules(max_items=50))
    assert time.perf_counter() - begun < 2
    assert len(found.facts) == 50
    assert found.dropped == (Dropped("fact", "too many", 9_950),)


@pytest.mark.parametrize("depth", [9, 300, 900])
def test_a_value_nested_beyond_reason_costs_itself_only(depth: int) -> None:
    deep = f'{"[" * depth}"x"{"]" * depth}'
    answer = f'{{"facts": ["a", "b"], "profile_updates": {{"deep": {deep}, "city": "Porto"}}}}'
    found = parse(answer)
    assert len(found.facts) == 2
    assert [update.item for update in found.profile_updates] == [ProfileUpdate("city", "Porto")]


def test_a_number_no_float_can_hold_costs_itself_only() -> None:
    found = parse({"facts": [{"content": "a", "sources": [10**400, 4], "importance": 10**400}]})
    assert [(item.item.importance, item.sources) for item in found.facts] == [(None, ("m4",))]


@pytest.mark.parametrize(
    "answer",
    ["<think>" * 140_000, "<think></think>" * 60_000, "<think>hm {" * 90_000, "</think>" * 120_000],
)
def test_thoughts_without_end_are_read_in_no_time(answer: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ProviderError):
        parse(answer)
    assert time.monotonic() - begun < 2
    assert parse('<THINK>{"facts": [1]}</think>{"facts": ["a"]}<thinking>{}</thinking>').facts[0].item == Fact("a")


@pytest.mark.parametrize("again", ["{\n", "{'", "[(", "'`", "(:", "]}\n{", "\n{)```]", "{a,a]", ' "a\n', '"'])
def test_garbage_is_given_up_soon(again: str) -> None:
    """What a model says that repeats itself until its answer is full."""
    garbage = again * (90_000 // len(again))
    for answer in (garbage, f'{{"facts": ["likes tea", {garbage}'):
        begun = time.monotonic()
        with contextlib.suppress(ProviderError):
            parse(answer)
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize("spoil", [lambda a: a[:-9], lambda a: a.replace('"', "'"), lambda a: a.replace("}, {", "} {")])
def test_a_long_answer_is_repaired_whole(spoil: Callable[[str], str]) -> None:
    answer = json.dumps({"facts": [{"content": f"Anna's friend {n}", "sources": [3, 4]} for n in range(200)]})
    assert len(parse(spoil(answer)).facts) == 200


def test_long_texts_are_cut() -> None:
    found = parse({"facts": [{"content": "x" * 100_000, "category": "y" * 1000}]})
    assert len(found.facts[0].item.content) == 4_000
    assert found.facts[0].item.content.endswith("x…")
    assert len(found.facts[0].item.category) == 50


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
FIELDS = {*Fact.__dataclass_fields__, *Episode.__dataclass_fields__, *Triple.__dataclass_fields__}
NAMES = st.sampled_from(sorted(FIELDS | {"sources", "key", "value", "valence", "arousal", "label", "name"}))
ITEMS = st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON, max_size=3), max_size=10)
SECTIONS = st.dictionaries(
    st.sampled_from(["facts", "episodes", "triples", "profile_updates"]), JSON | st.lists(ITEMS | JSON, max_size=5)
)


def is_storable(found: Extraction) -> None:
    """What PostgreSQL and the checks of the public calls take."""
    for item in (*found.facts, *found.episodes):
        check_text(item.item.content, "content")
        check_text(item.item.category, "category", limit=50)
        assert 0 <= item.item.confidence <= 1
        assert item.item.importance is None or 1 <= item.item.importance <= 10
        assert item.item.emotion is None or -1 <= item.item.emotion.valence <= 1
        for entity in item.item.entities:
            check_text(entity, "entity", limit=255)
    for triple in found.triples:
        for part in (triple.item.subject, triple.item.object):
            check_text(part, "part", limit=255)
        for part in (triple.item.relation, triple.item.subject_type, triple.item.object_type):
            check_text(part, "part", limit=100)
    for update in found.profile_updates:
        check_text(update.item.key, "key", limit=255)
        check_json(update.item.value, "value")
    everything = (*found.facts, *found.episodes, *found.triples, *found.profile_updates)
    assert all(set(item.sources) & {"m3", "m4", "m5"} for item in everything)
    check_json(json.loads(json.dumps(found.to_dict())), "extraction")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(SECTIONS, JSON).map(json.dumps) | st.text() | st.text("{}[]\",:'\\ factsn0", max_size=80))
def test_no_answer_breaks_it(answer: str) -> None:
    try:
        found = parse(answer)
    except ProviderError:
        return
    is_storable(found)


@settings(max_examples=100, deadline=None)
@given(SECTIONS.map(json.dumps), st.data())
def test_no_answer_cut_short_breaks_it(answer: str, data: st.DataObject) -> None:
    test_no_answer_breaks_it.hypothesis.inner_test(answer[: data.draw(st.integers(0, len(answer)))])


def test_the_schema_is_one_a_strict_server_takes() -> None:
    """Every object closed, every property required, and named as the answer is read."""

    def walk(part: dict[str, Any]) -> None:
        if part.get("type") == "object":
            assert part["additionalProperties"] is False
            assert part["required"] == list(part["properties"])
        for inner in (*part.get("properties", {}).values(), *part.get("anyOf", ()), *filter(None, [part.get("items")])):
            walk(inner)

    walk(EXTRACTION_SCHEMA)
    assert set(EXTRACTION_SCHEMA["properties"]) == {"facts", "episodes", "triples", "profile_updates"}


@pytest.mark.parametrize(
    "given",
    [
        ["\u200b", "likes", "tea"],
        ["anna", "!!!", "tea"],
        ["anna", "→", "tea"],
        ["anna", "likes", "…\u00ad"[1:]],
        ["a" * 300, "likes", "tea"],
        ["anna", "likes", "ﷺ" * 100],
        ["anna", "ﷺ" * 90, "tea"],
    ],
)
def test_a_triple_the_graph_would_refuse_costs_itself(given: list[str]) -> None:
    found = parse({"triples": [given, ["anna", "likes", "rain"]]})
    assert [item.item.object for item in found.triples] == ["rain"]
    assert found.dropped == (Dropped("triple", "unusable", 1),)


def test_types_and_relations_are_in_snake_case_and_a_type_that_says_nothing_is_none() -> None:
    given = {"subject": "Anna", "subject_type": "???", "relation": "Works At", "object": "Acme", "object_type": "BigCo"}
    (item,) = parse({"triples": [given]}).triples
    assert (item.item.subject_type, item.item.relation, item.item.object_type) == ("entity", "works_at", "big_co")
