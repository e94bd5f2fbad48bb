"""The small parts everything stands on: times, views of the past, text, and the joining of ranked lists."""

from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memground.clock import ManualClock, Stamp, SystemClock, as_utc, nanoseconds
from memground.errors import InvalidInputError
from memground.fusion import RRF_K, rrf
from memground.text import MAX_TEXT, check_json, check_text, fold, question_share
from memground.view import View, contains

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
day = timedelta(days=1)
moments = st.datetimes(timezones=st.just(UTC))


class Colour(str, Enum):  # noqa: UP042 - its str() differs from its value, which is the point
    RED = "red"


class Level(IntEnum):
    HIGH = 3


# ---------------------------------------------------------------- clock


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1_000),
        (datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC), 1_772_366_400_000_001_000),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), 253_402_300_799_999_999_000),
        (datetime(1970, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))), 0),
    ],
)
def test_nanoseconds_are_exact(moment: datetime, expected: int) -> None:
    assert nanoseconds(moment) == expected
    assert Stamp(moment, "agent").version == expected


@given(moments)
def test_a_microsecond_later_is_a_thousand_nanoseconds_more(moment: datetime) -> None:
    if moment < datetime.max.replace(tzinfo=UTC):
        assert nanoseconds(moment + timedelta(microseconds=1)) - nanoseconds(moment) == 1_000


def test_a_naive_or_foreign_moment_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"as_of=2026-03-01T12:00:00 has no timezone; pass an aware datetime"):
        as_utc(datetime(2026, 3, 1, 12), "as_of")  # noqa: DTZ001
    for value in (date(2026, 3, 1), "2026-03-01", 1_772_366_400, None):
        with pytest.raises(InvalidInputError, match="as_of must be a datetime with a timezone, got"):
            as_utc(value, "as_of")  # type: ignore[arg-type]


def test_moments_become_utc() -> None:
    moment = as_utc(datetime(2026, 3, 1, 20, tzinfo=timezone(timedelta(hours=8))), "t")
    assert (moment, moment.tzinfo) == (noon, UTC)


def test_clocks() -> None:
    assert abs(SystemClock().now() - datetime.now(UTC)) < timedelta(seconds=1)
    clock = ManualClock(noon)
    clock.advance(day)
    assert clock.now() == noon + day
    clock.set(noon)
    assert clock.now() == noon
    with pytest.raises(InvalidInputError, match="no timezone"):
        clock.set(datetime(2026, 3, 1))  # noqa: DTZ001


# ---------------------------------------------------------------- view


def test_a_view_of_now_of_the_past_and_of_what_has_not_come() -> None:
    clock = ManualClock(noon)
    assert View.of(clock) == View(now=noon)
    assert View.of(clock, noon - day) == View(now=noon - day, known_at=noon - day)
    assert View.of(clock, noon) == View.of(clock, noon + day) == View(now=noon)
    assert View.of(clock, valid_at=noon + day) == View(now=noon, valid_at=noon + day)
    for bad in ({"as_of": datetime(2026, 1, 1)}, {"valid_at": datetime(2026, 1, 1)}):  # noqa: DTZ001
        with pytest.raises(InvalidInputError, match=f"{next(iter(bad))}=2026-01-01T00:00:00 has no timezone"):
            View.of(clock, **bad)


def test_an_end_that_lies_ahead_is_not_known_yet() -> None:
    past = View(now=noon, known_at=noon)
    assert past.mask(None) is None
    assert past.mask(noon - day) == noon - day
    assert past.mask(noon) == noon
    assert past.mask(noon + day) is None
    assert View(now=noon).mask(noon + day) == noon + day


def test_half_open_intervals() -> None:
    assert contains(noon, noon + day, noon)
    assert not contains(noon, noon + day, noon + day)
    assert not contains(noon, None, noon - day)
    assert contains(None, noon, noon - day)
    assert contains(None, None, noon)
    assert not contains(noon, noon, noon)


# ---------------------------------------------------------------- text


@pytest.mark.parametrize(
    "value", ["a", " padded ", "a\nb\tc", "订单8841", "👩‍👩‍👧", "é", "\ufffe", "\U0010ffff", "x" * MAX_TEXT]
)
def test_texts_that_are_kept_as_they_are(value: str) -> None:
    assert check_text(value, "content") is value


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "content must be a str, got NoneType"),
        (b"a", "content must be a str, got bytes"),
        ("", "content is empty"),
        (" \t\n\u3000\u00a0", "content is empty"),
        ("ab\x00c", "NUL character at position 2"),
        ("ab\ud83d", r"lone surrogate U\+D83D at position 2"),
        ("x" * (MAX_TEXT + 1), "1,000,001 characters; at most 1,000,000"),
    ],
)
def test_texts_that_are_refused(value: Any, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        check_text(value, "content")


def test_the_limit_and_the_empty_text_are_the_callers_choice() -> None:
    assert check_text("", "prefix", empty=True) == ""
    with pytest.raises(InvalidInputError, match="user_id has 4 characters; at most 3"):
        check_text("anna", "user_id", limit=3)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1))
def test_every_text_with_a_visible_character_is_kept(value: str) -> None:
    if value.strip():
        assert check_text(value, "content") == value


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "", "b.c", "订单"]), inner),
    max_leaves=12,
)


@given(json_values)
def test_json_is_copied_as_it_is(value: Any) -> None:
    assert check_json(value, "metadata") == value


def test_json_becomes_plain_types_and_is_a_copy() -> None:
    inner = {"list": [1, 2]}
    value = {"tuple": (1, True), "enum": Colour.RED, "number": Level.HIGH, "inner": inner}
    copy = check_json(value, "metadata")
    assert copy == {"tuple": [1, True], "enum": "red", "number": 3, "inner": {"list": [1, 2]}}
    assert (type(copy["enum"]), type(copy["number"])) == (str, int)
    inner["list"].append(3)
    assert copy["inner"] == {"list": [1, 2]}


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"a": [1, float("nan")]}, r"metadata\.a\[1\] is nan"),
        ({"a": float("-inf")}, r"metadata\.a is -inf"),
        ({"a": 2**63}, r"metadata\.a is 9223372036854775808, which does not fit 64 bits"),
        ({"a": {"b": noon}}, r"metadata\.a\.b is a datetime, which JSON cannot hold.*isoformat"),
        ({"a": {1, 2}}, r"metadata\.a is a set"),
        ({"a": b"x"}, r"metadata\.a is a bytes"),
        ({1: "a"}, "metadata has the key 1 of type int; keys must be str"),
        ({None: "a"}, "metadata has the key None"),
        ({"a\x00": 1}, "a key of metadata holds a NUL"),
        ({"a": "\ud800"}, r"metadata\.a holds the lone surrogate"),
        ({"a": cyclic()}, "nested deeper than 32 levels"),
        ({"a": "x" * 600_000, "b": "x" * 600_000}, "metadata is larger than 1,000,000"),
        ({"a": [None] * 1_000_001}, "metadata is larger than 1,000,000"),
    ],
)
def test_what_json_cannot_hold_is_refused(value: Any, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint) as caught:
        check_json(value, "metadata")
    assert len(str(caught.value)) < 300


def test_depth_is_counted_exactly() -> None:
    value: Any = 1
    for _ in range(32):
        value = [value]
    assert check_json(value, "metadata") == value
    with pytest.raises(InvalidInputError, match="deeper than 32"):
        check_json([value], "metadata")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  New\n York ", "new york"),
        ("ＺＸ－９９１７", "zx-9917"),
        ("STRASSE Straße", "strasse strasse"),
        ("ﬁne①", "fine1"),
        ("e\u0301", "é"),
        ("你好\u3000世界", "你好 世界"),
        ("", ""),
    ],
)
def test_fold(text: str, expected: str) -> None:
    assert fold(text) == expected


# ---------------------------------------------------------------- fusion


def test_rrf_literally() -> None:
    assert RRF_K == 60
    scores = rrf([["a", "b", "c"], ["c", "a"], ["d"]])
    assert scores == {
        "a": 1 / 61 + 1 / 62,
        "b": 1 / 62,
        "c": 1 / 63 + 1 / 61,
        "d": 1 / 61,
    }
    assert scores["a"] == pytest.approx(0.03252247488101534, abs=1e-15)
    assert rrf([["a"], ["a"]], k=1) == {"a": 1.0}
    assert rrf([]) == rrf([[], []]) == {}


@pytest.mark.parametrize(
    ("said", "share"),
    [("Yes.", 0.0), ("How are you?", 1.0), ("Fine! And you?", 0.5), ("你好吗？我很好。", 0.5), ("…", 0.0)],
)
def test_the_share_of_a_text_that_asks(said: str, share: float) -> None:
    assert question_share(said) == share
