"""Times that questions name, read with a now and a time zone."""

import time
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromem.ranking import phrases
from neuromem.ranking.times import MOST, TimeRange, seconds_off, time_ranges

NOW = datetime(2026, 11, 21, 14, tzinfo=UTC)
"""A Saturday."""

ENGLISH = {
    "What did Anna say yesterday?": "2026-11-20 2026-11-21",
    "today": "2026-11-21 2026-11-22",
    "What do I have to do tomorrow?": "2026-11-22 2026-11-23",
    "the day before yesterday": "2026-11-19 2026-11-20",
    "the day after tomorrow": "2026-11-23 2026-11-24",
    "What did I have for breakfast this morning?": "2026-11-21T05 2026-11-21T12",
    "who called last night?": "2026-11-20T18 2026-11-21T06",
    "What did we plan for tonight?": "2026-11-21T18 2026-11-22T06",
    "yesterday evening": "2026-11-20T17 2026-11-21",
    "last Friday night": "2026-11-20T18 2026-11-21T06",
    "on the morning of 8 May 2023": "2023-05-08T05 2023-05-08T12",
    "May 8th, 2023 in the evening": "2023-05-08T17 2023-05-09",
    "the other day": "2026-11-14 2026-11-20",
    "an hour ago": "2026-11-21T13 2026-11-21T14",
    "two days ago": "2026-11-19 2026-11-20",
    "10 days ago": "2026-11-11 2026-11-12",
    "two weeks ago": "2026-11-02 2026-11-09",
    "a fortnight ago": "2026-11-02 2026-11-09",
    "a few days ago": "2026-11-16 2026-11-20",
    "a couple of weeks ago": "2026-10-26 2026-11-09",
    "three months ago": "2026-08-01 2026-09-01",
    "Where did Caroline move from 4 years ago?": "2022-01-01 2023-01-01",
    "half a year ago": "2026-05-01 2026-06-01",
    "a decade ago": "2016-01-01 2017-01-01",
    "two weeks and three days ago": "2026-11-04 2026-11-05",
    "the 5th of last month": "2026-10-05 2026-10-06",
    "in two days' time": "2026-11-23 2026-11-24",
    "two days from now": "2026-11-23 2026-11-24",
    "over the past two weeks": "2026-11-07T14 2026-11-21T14",
    "in the last 3 months": "2026-08-21T14 2026-11-21T14",
    "in the past year": "2025-11-21T14 2026-11-21T14",
    "last week": "2026-11-09 2026-11-16",
    "this week": "2026-11-16 2026-11-23",
    "next week": "2026-11-23 2026-11-30",
    "the week before last": "2026-11-02 2026-11-09",
    "last month": "2026-10-01 2026-11-01",
    "last quarter": "2026-07-01 2026-10-01",
    "What did they see during their trip last year?": "2025-01-01 2026-01-01",
    "last decade": "2010-01-01 2020-01-01",
    "last weekend": "2026-11-14 2026-11-16",
    "over the weekend": "2026-11-21 2026-11-23",
    "Friday": "2026-11-20 2026-11-21",
    "on Fri": "2026-11-20 2026-11-21",
    "last Saturday": "2026-11-14 2026-11-15",
    "this Wednesday": "2026-11-18 2026-11-19",
    "next Saturday": "2026-11-28 2026-11-29",
    "Tuesday last week": "2026-11-10 2026-11-11",
    "last week on Tuesday": "2026-11-10 2026-11-11",
    "Monday, 8 May 2023": "2023-05-08 2023-05-09",
    "What did I do last May?": "2026-05-01 2026-06-01",
    "last december": "2025-12-01 2026-01-01",
    "next May": "2027-05-01 2027-06-01",
    "May last year": "2025-05-01 2025-06-01",
    "8 May last year": "2025-05-08 2025-05-09",
    "What happened in May?": "2026-05-01 2026-06-01 yearly",
    "on 7 May": "2026-05-07 2026-05-08 yearly",
    "on 7 December": "2025-12-07 2025-12-08 yearly",
    "at the end of June": "2026-06-01 2026-07-01 yearly",
    "in June 2023": "2023-06-01 2023-07-01",
    "on 9 November, 2022?": "2022-11-09 2022-11-10",
    "on October 13th, 2023": "2023-10-13 2023-10-14",
    "2023-05-08": "2023-05-08 2023-05-09",
    "in 2019": "2019-01-01 2020-01-01",
    "the 1990s": "1990-01-01 2000-01-01",
    "in the 90s": "1990-01-01 2000-01-01",
    "last summer": "2026-06-01 2026-09-01",
    "last winter": "2025-12-01 2026-03-01",
    "Which state did Joanna visit in summer 2021?": "2021-06-01 2021-09-01",
    "plans for the summer of 2024": "2024-06-01 2024-09-01",
    "What did we do in the summer?": "2026-06-01 2026-09-01 yearly",
    "Christmas 2022": "2022-12-24 2022-12-27",
    "last Thanksgiving": "2025-11-27 2025-11-28",
    "last New Year’s Eve": "2025-12-31 2026-01-01",
    "between March and May": "2026-03-01 2026-06-01 yearly",
    "between August 11 and August 15 2023": "2023-08-11 2023-08-16",
    "from June 2022 to March 2023": "2022-06-01 2023-04-01",
    "from November 2022 until February": "2022-11-01 2023-03-01",
    "before May 2023": "… 2023-05-01",
    "until yesterday": "… 2026-11-20",
    "after last Christmas": "2025-12-27 …",
    "since 2019": "2019-01-01 …",
    "since May": "2026-05-01 …",
}
CHINESE = {
    "三年前我住在哪里？": "2023-01-01 2024-01-01",
    "10年前": "2016-01-01 2017-01-01",
    "去年五月我做了什么": "2025-05-01 2025-06-01",
    "去年的夏天": "2025-06-01 2025-09-01",
    "前年": "2024-01-01 2025-01-01",
    "今年上半年": "2026-01-01 2026-07-01",
    "上周五": "2026-11-13 2026-11-14",
    "上上周": "2026-11-02 2026-11-09",
    "下周一": "2026-11-23 2026-11-24",
    "上周末": "2026-11-14 2026-11-16",
    "星期五": "2026-11-20 2026-11-21",
    "昨天": "2026-11-20 2026-11-21",
    "大前天": "2026-11-18 2026-11-19",
    "前天晚上": "2026-11-19T17 2026-11-20T06",
    "昨晚": "2026-11-20T17 2026-11-21T06",
    "今天早上": "2026-11-21T05 2026-11-21T12",
    "两个月前": "2026-09-01 2026-10-01",
    "两周前": "2026-11-02 2026-11-09",
    "半年前": "2026-05-01 2026-06-01",
    "十二天前": "2026-11-09 2026-11-10",
    "几天前": "2026-11-14 2026-11-20",
    "最近三天": "2026-11-18T14 2026-11-21T14",
    "过去两个月": "2026-09-21T14 2026-11-21T14",
    "上个月": "2026-10-01 2026-11-01",
    "上个月5号": "2026-10-05 2026-10-06",
    "这个月": "2026-11-01 2026-12-01",
    "上个季度": "2026-07-01 2026-10-01",
    "2023年6月": "2023-06-01 2023-07-01",
    "2023年5月8日去哪了": "2023-05-08 2023-05-09",
    "二零二三年六月七日": "2023-06-07 2023-06-08",
    "２０２３年６月": "2023-06-01 2023-07-01",
    "我2019年在哪": "2019-01-01 2020-01-01",
    "2021年夏天": "2021-06-01 2021-09-01",
    "90年代": "1990-01-01 2000-01-01",
    "三月": "2026-03-01 2026-04-01 yearly",
    "十二月二十三日": "2025-12-23 2025-12-24 yearly",
    "春节": "2026-02-16 2026-02-24 yearly",
    "去年春节": "2025-01-28 2025-02-05",
    "从2022年3月到5月": "2022-03-01 2022-06-01",
    "2022年和2023年之间": "2022-01-01 2024-01-01",
    "2019年前": "… 2019-01-01",
    "去年五月之后": "2025-06-01 …",
    "自从2019年以来": "2019-01-01 …",
}
NONE = (
    "May I ask for the second time?", "May I march with April to Jan in room 2023?", "Will March win?",
    "this may be why", "it may take a second", "the sun sat on the wall", "he took the fall", "fall of the wall",
    "3个月 three months 12:30 2.3.1 99999 31-12", "2023-13-45 on 77 May", "9999 years ago", "12345", "in the 0000",
    "one-year-old", "every day of the week", "how many years?", "今后", "以后", "天气", "", " ", "\x1f", "Ⅻ月٣",
)  # fmt: skip


def read(query: str, now: datetime = NOW, zone: tzinfo = UTC) -> list[str]:
    """Ranges as the tables above write them, by the clock of the zone."""

    def clock(moment: datetime | None) -> str:
        if moment is None:
            return "…"
        here = moment.astimezone(zone)
        return here.strftime("%Y-%m-%dT%H" if here.hour else "%Y-%m-%d")

    return [
        f"{clock(found.start)} {clock(found.end)}{' yearly' if found.yearly else ''}"
        for found in time_ranges(query, now, zone)
    ]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
@pytest.mark.parametrize(("query", "expected"), (ENGLISH | CHINESE).items())
def test_what_words_mean(query: str, expected: str, zone: str) -> None:
    """The same by the clock of every place where it is the same time."""
    assert read(query, NOW.replace(tzinfo=ZoneInfo(zone)), ZoneInfo(zone)) == [expected]


@pytest.mark.parametrize("query", NONE)
def test_ordinary_words_are_no_times(query: str) -> None:
    assert time_ranges(query, NOW) == ()


def test_the_words_are_told() -> None:
    found = time_ranges("Where was Anna  before last May, and on 3 June 2023?", NOW)
    assert [named.text for named in found] == ["before last May", "3 June 2023"]
    assert [named.text for named in time_ranges("二零二三年六月我在哪", NOW)] == ["二零二三年六月"]


def test_a_day_is_that_of_the_place() -> None:
    """At 23:30 in New York it is tomorrow already in London; and the day that clocks change has 25 hours."""
    now = datetime(2026, 11, 22, 4, 30, tzinfo=UTC)
    assert read("yesterday", now, ZoneInfo("America/New_York")) == ["2026-11-20 2026-11-21"]
    assert read("yesterday", now, UTC) == ["2026-11-21 2026-11-22"]
    (named,) = time_ranges("on 1 November 2026", now, ZoneInfo("America/New_York"))
    assert named.start == datetime(2026, 11, 1, 4, tzinfo=UTC)
    assert named.end == datetime(2026, 11, 2, 5, tzinfo=UTC)


def test_what_is_now_decides() -> None:
    leap = datetime(2024, 2, 29, 12, tzinfo=UTC)
    assert read("last month", leap) == ["2024-01-01 2024-02-01"]
    assert read("a year ago", leap) == ["2023-01-01 2024-01-01"]
    assert read("two weeks and one month ago", leap)
    sunday = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert read("on the weekend", sunday) == ["2026-11-21 2026-11-23"]
    assert read("on the weekend", sunday + timedelta(days=1)) == ["2026-11-21 2026-11-23"]
    assert read("last weekend", sunday + timedelta(days=1)) == ["2026-11-21 2026-11-23"]
    may = datetime(2026, 5, 10, tzinfo=UTC)
    assert read("last May", may) == ["2025-05-01 2025-06-01"]
    assert read("in May", may) == ["2026-05-01 2026-06-01 yearly"]


@pytest.mark.parametrize("year", [1, 2, 9998, 9999])
def test_at_the_ends_of_time_nothing_is_raised(year: int) -> None:
    for query in (*ENGLISH, *CHINESE):
        time_ranges(query, datetime(year, 1, 1, tzinfo=UTC), ZoneInfo("America/New_York"))
        time_ranges(query, datetime(year, 12, 31, 23, tzinfo=UTC), ZoneInfo("Asia/Shanghai"))


PIECES = st.sampled_from(
    [
        *ENGLISH,
        *CHINESE,
        *NONE,
        *phrases.PARTS,
        "between",
        "and",
        "to",
        "before",
        "since",
        "到",
        "之间",
        "从",
        "前",
        "of",
    ]
)
ZONES = st.sampled_from([UTC, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kathmandu"), ZoneInfo("Pacific/Apia")])


@given(
    st.lists(PIECES | st.text(max_size=8), max_size=6),
    st.sampled_from(["", " "]),
    st.datetimes(timezones=st.just(UTC)),
    ZONES,
)
def test_whatever_is_asked_ranges_have_a_length(pieces: list[str], between: str, now: datetime, zone: tzinfo) -> None:
    query = between.join(pieces)
    found = time_ranges(query, now, zone)
    assert len(found) <= MOST
    assert found == time_ranges(query, now, zone)
    for named in found:
        assert named.start is not None or named.end is not None
        assert named.start is None or named.end is None or named.start < named.end
        assert all(end is None or end.tzinfo is UTC for end in (named.start, named.end))
        assert named.text
    off = seconds_off(found, np.array([-1e9, now.timestamp(), 2e9]))
    assert (off >= 0).all()
    assert np.isfinite(off).all() == bool(found)


def test_how_far_off_a_moment_is() -> None:
    day = 86_400.0

    def at(*parts: int) -> float:
        return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]

    named = TimeRange(datetime(2023, 5, 1, tzinfo=UTC), datetime(2023, 6, 1, tzinfo=UTC), "May 2023")
    moments = np.array([at(2023, 5, 1), at(2023, 5, 31, 23), at(2023, 6, 3), at(2023, 4, 30), at(2024, 5, 1)])
    assert seconds_off([named], moments) / day == pytest.approx([0, 0, 2, 1, 335])
    every = TimeRange(named.start, named.end, "May", yearly=True)
    assert seconds_off([every], moments) / day == pytest.approx([0, 0, 2, 1, 0])
    assert seconds_off([named, every], moments) / day == pytest.approx([0, 0, 2, 1, 0])
    assert seconds_off([TimeRange(named.end, None, "since June")], moments)[[2, 3]] / day == pytest.approx([0, 32])
    assert seconds_off([TimeRange(None, named.start, "before May")], moments)[[2, 3]] / day == pytest.approx([33, 0])
    leap = TimeRange(datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), "29 February", yearly=True)
    assert seconds_off([leap], np.array([at(2023, 2, 28), at(2028, 2, 28)])).tolist() == [0, 0]


def test_what_names_no_time_costs_next_to_nothing() -> None:
    """Under 50 µs for an ordinary question; and no text, however long or odd, takes long."""
    plain = "What did Caroline and her friends think about the colour of the old house near the river?"
    assert _seconds(plain, 2_000) < 50e-6
    assert _seconds("What did we do last May, or two weeks ago on Tuesday evening?", 100) < 3e-3
    for piece in ("2019 ", "may ", "1 day and ", "上", "十", "between ", "last ", "三年前", "5 May 2019 "):
        assert _seconds(piece * (10_000 // len(piece)), 1) < 1.0


def _seconds(query: str, times: int) -> float:
    """Of the fastest of several calls: others use the machine too."""
    best = float("inf")
    for _ in range(min(times, 200)):
        begun = time.perf_counter()
        time_ranges(query, NOW)
        best = min(best, time.perf_counter() - begun)
    return best
