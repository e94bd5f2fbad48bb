"""When a question is about: the times its words name, as ranges, and how far from them something lies.

Read are English and Chinese: dates ("7 May 2023", "2023年6月", "in June"), what depends on today ("last May",
"two weeks ago", 上周五, 三年前), parts of a day, seasons, some holidays; and "between", "before", "after", "since".
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from math import inf

import numpy as np
from numpy.typing import NDArray

from neuromem.ranking import phrases
from neuromem.ranking.calendar import Span
from neuromem.ranking.dates import BLANK, MONTH, NamedDate, named_dates, said_before

type Floats = NDArray[np.float64]

MOST = 4
"""Times read from one question. Whoever names more asks about none in particular."""
_HINT = re.compile(
    r"\b(?:ago|yesterday|today|tonight|tomorrow|days?|nights?|mornings?|evenings?|minutes?|hours?|fortnights?|weeks?"
    r"|weekends?|months?|quarter|years?|decades?|mon(?:day)?|tue(?:s(?:day)?)?|wed(?:nesday)?|thu(?:rs?(?:day)?)?"
    rf"|fri(?:day)?|sat(?:urday)?|sun(?:day)?|{MONTH}|spring|summer|autumn|fall|winter|xmas|christmas|new year"
    r"|halloween|valentine|thanksgiving)\b"
)
_HINT_WITHOUT_SPACES = re.compile(
    r"\d(?:\d{3}|0['’]?s)|[年月日天周前后晚早春夏秋冬]|星期|礼拜|季度|圣诞|国庆|元旦|五一|情人|万圣|平安夜"
)
"""A look at these spares a question that names no time the rest."""
_HAN_YEAR = re.compile(r"[〇零一二三四五六七八九]{4}(?=年)")
_DIGITS = str.maketrans("〇零一二三四五六七八九", "00123456789")
_BEFORE = re.compile(
    r"\b(?:(before|prior to|earlier than|until|till|up to)|(after|later than)|(since))(?: the)? $", re.I
)
_OPENING = re.compile(r"(?:\b(?:between|from)(?: the)? |从|自)$", re.I)
_HAN_AFTER = re.compile(r"的?(?:(之前|以前|前)|(之后|以后|后)|(以来|开始|起|至今))")
_SINCE_HAN = re.compile(r"(?:自从?|从)$")
_JOINS = re.compile(
    r"(?:\s?(?:to|till|until|through|thru|–|—|-|到|至|~)\s?|\s(?P<and>and) |\s?(?P<han>[和与])\s?)(?:the )?", re.I
)
_BETWEEN = re.compile(r"\bbetween (?:the )?$", re.I)
_PART_AFTER = re.compile(rf"(?:,? (?:in the |at )?(?P<part>{phrases.PART})\b|的?(?P<han>{phrases.PART}))", re.I)
_PART_BEFORE = re.compile(rf"\b(?P<part>{phrases.PART}) (?:of |on )(?:the )?$", re.I)
_YEAR_SECONDS = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The time some words of a question name: [start, end) in UTC, None where it is open.

    `yearly`: it was named without a year ("in May") and means that of any; start and end are the last that has begun.
    """

    start: datetime | None
    end: datetime | None
    text: str
    yearly: bool = False

    @property
    def seconds(self) -> tuple[float, float]:
        """Start and end in seconds since 1970, infinite where open."""
        start = -inf if self.start is None else self.start.timestamp()
        return start, inf if self.end is None else self.end.timestamp()

    def in_years(self, first: int, last: int) -> "list[TimeRange]":
        """What it means from year to year; itself where it is not yearly."""
        if not self.yearly or self.start is None or self.end is None:
            return [self]
        length = self.end - self.start
        starts = [_in_year(self.start, year) for year in range(max(first, 1), min(last, 9_997) + 1)]
        return [TimeRange(start, start + length, self.text) for start in starts]


def _in_year(moment: datetime, year: int) -> datetime:
    leap = (moment.month, moment.day) == (2, 29)
    return moment.replace(year=year, day=28) if leap else moment.replace(year=year)


def time_ranges(query: str, now: datetime, zone: tzinfo = UTC) -> tuple[TimeRange, ...]:
    """The times a question names, as the clocks of a zone count them; none where it names none."""
    if not _HINT.search(query.lower()) and not _HINT_WITHOUT_SPACES.search(query):
        return ()
    shown = " ".join(unicodedata.normalize("NFKC", query).split())
    text = _HAN_YEAR.sub(lambda year: year[0].translate(_DIGITS), shown)
    try:
        here = now.astimezone(zone).replace(tzinfo=None)
    except OverflowError:  # the first and the last day there is
        return ()
    found = sorted(_found(text, here), key=lambda words: words.begin)
    ranges = (_range(words, shown, zone) for words in _joined(text, [_with_part(text, words) for words in found]))
    return tuple(dict.fromkeys(found for found in ranges if found is not None))[:MOST]


@dataclass(frozen=True, slots=True)
class _Words:
    """Words of the text and the span they name."""

    begin: int
    stop: int
    span: Span


def _found(text: str, now: datetime) -> Iterator[_Words]:
    blank = text
    for form, meaning in phrases.FORMS:
        pattern = re.compile(form, re.IGNORECASE)  # of which re keeps what it has made: a start makes none
        for match in pattern.finditer(blank):
            begin, stop = match.span()
            blank = f"{blank[:begin]}{BLANK * (stop - begin)}{blank[stop:]}"
            if (only := next((name for name in ("time", "feast") if match.groupdict().get(name)), None)) is not None:
                begin, stop = match.span(only)
            try:
                yield _Words(begin, stop, meaning(match, now))
            except (ValueError, OverflowError):  # 9999 years ago, or no time after all
                continue
    for named in named_dates(blank):
        try:
            yield _Words(named.begin, named.stop, _span(named, now))
        except (ValueError, OverflowError):
            continue


def _span(named: NamedDate, now: datetime) -> Span:
    if named.year is not None:
        return named.in_year(named.year)
    return phrases.calendar.each_year(named.in_year, now)


def _with_part(text: str, words: _Words) -> _Words:
    """Narrowed to the part of the day that is named beside it: yesterday evening, 昨天晚上."""
    span = words.span
    if span.start is None or span.end is None or (span.end - span.start).days != 1:
        return words
    if after := _PART_AFTER.match(text, words.stop):
        part = phrases.part(span.start, after["part"] or after["han"])
        return _Words(words.begin, after.end(), Span(part.start, part.end, span.yearly))
    if before := _PART_BEFORE.search(said_before(text, words.begin)):
        part = phrases.part(span.start, before["part"])
        return _Words(words.begin - len(before[0]), words.stop, Span(part.start, part.end, span.yearly))
    return words


def _joined(text: str, found: Sequence[_Words]) -> Iterator[_Words]:
    """Between the one and the other, and what lies before, after or since one."""
    place = 0
    while place < len(found):
        words = found[place]
        place += 1
        if place < len(found) and (both := _hull(text, words, found[place])) is not None:
            opening = _OPENING.search(said_before(text, words.begin))
            yield _Words(words.begin - len(opening[0] if opening else ""), found[place].stop, both)
            place += 1
            continue
        yield _opened(text, words)


def _hull(text: str, first: _Words, second: _Words) -> Span | None:
    """From the one to the other, where the words between them say so."""
    joins = _JOINS.fullmatch(text, first.stop, second.begin) if second.begin >= first.stop else None
    if joins is None or (joins["and"] and not _BETWEEN.search(said_before(text, first.begin))):
        return None
    if joins["han"] and not text.startswith(("之间", "间"), second.stop):
        return None
    one, other = first.span, second.span
    if one.start is None or other.start is None or other.end is None:
        return None
    start, end = one.start, other.end
    try:
        if one.yearly and not other.yearly:  # the last before the other
            there = _in_year(start, other.start.year)
            start = there if there <= other.start else _in_year(start, there.year - 1)
        elif other.yearly:  # the next after the one
            there = _in_year(other.start, start.year)
            end = _in_year(end, end.year - other.start.year + there.year + (there < start))
    except ValueError:  # beyond the years there are
        return None
    return Span(start, end, one.yearly and other.yearly) if start < end else None


def _opened(text: str, words: _Words) -> _Words:
    """What lies before, after or since it, where that is said."""
    span = words.span
    if before := _BEFORE.search(said_before(text, words.begin)):
        until, after, _ = before.groups()
        begin, stop = words.begin - len(before[0]), words.stop
    elif (later := _HAN_AFTER.match(text, words.stop)) is not None:
        until, after, _ = later.groups()
        since = _SINCE_HAN.search(said_before(text, words.begin))
        begin, stop = words.begin - len(since[0] if since else ""), later.end()
    else:
        return words
    if until:
        return _Words(begin, stop, Span(None, span.start))
    return _Words(begin, stop, Span(span.end if after else span.start, None))


def _range(words: _Words, text: str, zone: tzinfo) -> TimeRange | None:
    try:
        start, end = _utc(words.span.start, zone), _utc(words.span.end, zone)
    except (ValueError, OverflowError):  # the first and the last day there is, elsewhere
        return None
    if start is not None and end is not None and start >= end:
        return None
    return TimeRange(start, end, text[words.begin : words.stop].strip(" ,"), words.span.yearly)


def _utc(moment: datetime | None, zone: tzinfo) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=zone).astimezone(UTC)


def of_the_time(times: Sequence[TimeRange]) -> str:
    """What is said of a hit that lies in one of the times."""
    return f"of the time asked about: {' or '.join(named.text for named in times)}"


def seconds_off(ranges: Sequence[TimeRange], moments: Floats) -> Floats:
    """(n,) seconds between each of `moments` (since 1970) and the nearest of the ranges, 0 within one."""
    off = np.full_like(moments, np.inf)
    if not moments.size:
        return off
    first, last = (1970 + int(end // _YEAR_SECONDS) for end in (moments.min(), moments.max()))
    for named in ranges:
        for each in named.in_years(first - 1, last + 2):
            start, end = each.seconds
            off = np.minimum(off, np.maximum(np.maximum(start - moments, moments - end), 0.0))
    return off
