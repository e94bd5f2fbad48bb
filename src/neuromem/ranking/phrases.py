"""Words for a time that need to know what day it is, in English and Chinese: a table of patterns and what each means.

Each entry reads a match and the local now, and gives a span; ValueError or OverflowError for what no calendar has. The
first entry that matches has the words. Numbers and compounds a pattern leaves open are read by `dateparser`.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import cast

from neuromem.ranking import calendar
from neuromem.ranking.calendar import InYear, Span, Unit, Which
from neuromem.ranking.dates import CHINESE_DAY, CHINESE_MONTH, DAY, MONTH, chinese_number, month_number

type Meaning = Callable[[re.Match[str], datetime], Span]

FORMS: list[tuple[str, Meaning]] = []

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAY = "|".join(_WEEKDAYS)
_SHORT_WEEKDAY = "mon|tues?|wed|thu(?:rs?)?|fri|sat|sun"
_COUNTS = {
    "a": (1, 1), "an": (1, 1), "one": (1, 1), "two": (2, 2), "three": (3, 3), "four": (4, 4), "five": (5, 5),
    "six": (6, 6), "seven": (7, 7), "eight": (8, 8), "nine": (9, 9), "ten": (10, 10), "eleven": (11, 11),
    "twelve": (12, 12), "fifteen": (15, 15), "twenty": (20, 20), "a couple of": (2, 3), "couple of": (2, 3),
    "a few": (2, 5), "few": (2, 5), "several": (3, 7), "几": (2, 7), "数": (2, 7),
}  # fmt: skip
_COUNT = rf"\d{{1,4}}|{'|'.join(sorted((count for count in _COUNTS if count.isascii()), key=len, reverse=True))}"
_UNIT = "minute|hour|day|week|fortnight|month|year|decade"
_UNITS: dict[str, tuple[Unit, int]] = {
    "minute": ("minute", 1), "hour": ("hour", 1), "day": ("day", 1), "week": ("week", 1), "fortnight": ("week", 2),
    "month": ("month", 1), "year": ("year", 1), "decade": ("year", 10), "quarter": ("month", 3),
    "分钟": ("minute", 1), "小时": ("hour", 1), "钟头": ("hour", 1), "天": ("day", 1), "日": ("day", 1),
    "周": ("week", 1), "星期": ("week", 1), "礼拜": ("week", 1), "月": ("month", 1), "年": ("year", 1),
}  # fmt: skip
_AWAY = {
    "last": -1, "past": -1, "previous": -1, "this past": -1, "this": 0, "current": 0, "next": 1, "coming": 1,
    "上上": -2, "上": -1, "这": 0, "本": 0, "下": 1, "下下": 2,
    "大前": -3, "前": -2, "昨": -1, "今": 0, "明": 1, "后": 2, "大后": 3, "去": -1,
}  # fmt: skip
_WHICH = "this past|last|past|previous|this|current|next|coming"
_ONE = {-1: "last", 0: "this", 1: "next"}
_NAMES: dict[str, InYear] = {
    "spring": calendar.season(0), "summer": calendar.season(1), "autumn": calendar.season(2),
    "fall": calendar.season(2), "winter": calendar.season(3),
    "christmas eve": calendar.days(12, 24, 1), "christmas": calendar.days(12, 24, 3), "xmas": calendar.days(12, 24, 3),
    "new year's eve": calendar.days(12, 31, 1), "new year": calendar.days(1, 1, 1),
    "halloween": calendar.days(10, 31, 1), "valentine's day": calendar.days(2, 14, 1),
    "thanksgiving": calendar.thanksgiving, "chinese new year": calendar.lunar_new_year,
    "lunar new year": calendar.lunar_new_year, "spring festival": calendar.lunar_new_year,
    "春": calendar.season(0), "夏": calendar.season(1), "秋": calendar.season(2), "冬": calendar.season(3),
    "春节": calendar.lunar_new_year, "过年": calendar.lunar_new_year, "圣诞": calendar.days(12, 24, 3),
    "平安夜": calendar.days(12, 24, 1), "元旦": calendar.days(1, 1, 1), "国庆": calendar.days(10, 1, 7),
    "五一": calendar.days(5, 1, 5), "情人节": calendar.days(2, 14, 1), "万圣节": calendar.days(10, 31, 1),
}  # fmt: skip
_SEASON = "spring|summer|autumn|fall|winter"
_NAME = "|".join(sorted((name.replace("'", "['’]") for name in _NAMES if name.isascii()), key=len, reverse=True))
_HAN_NAME = "春节|过年|圣诞(?:节)?|平安夜|元旦|国庆(?:节)?|五一(?:节|假期)|情人节|万圣节|[春夏秋冬](?:天|季|日(?!本))"
_HAN_NUMBER = r"\d{1,3}|[一二两三四五六七八九十]{1,3}|[几数]"
_HAN_UNIT = "分钟|个?小时|个?钟头|天|日|周|个?星期|个?礼拜|个月|年"
_HAN_YEAR = "大前|前|去|今|明|后"

PARTS: dict[str, tuple[int, int]] = {
    "early morning": (4, 8), "morning": (5, 12), "noon": (11, 14), "lunchtime": (11, 14), "afternoon": (12, 18),
    "evening": (17, 24), "night": (18, 30),
    "凌晨": (0, 6), "早上": (5, 12), "早晨": (5, 12), "上午": (5, 12), "中午": (11, 14), "下午": (12, 18),
    "傍晚": (17, 20), "晚上": (17, 30), "夜里": (18, 30), "夜晚": (18, 30), "早": (5, 12), "晚": (17, 30),
}  # fmt: skip
"""Hours of a day: a night ends on the next one."""
PART = "|".join(sorted(PARTS, key=len, reverse=True))


def part(day: datetime, name: str) -> Span:
    """A part of the day that begins at `day`."""
    first, last = PARTS[name.lower()]
    return Span(day + timedelta(hours=first), day + timedelta(hours=last))


def _form(pattern: str) -> Callable[[Meaning], Meaning]:
    def register(meaning: Meaning) -> Meaning:
        FORMS.append((pattern, meaning))
        return meaning

    return register


def _text(match: re.Match[str], group: str) -> str | None:
    """What a group of the pattern matched, in lower case; None where it did not."""
    found = match[group] if group in match.re.groupindex else None
    return None if found is None else found.lower().replace("’", "'")


def _said(match: re.Match[str], group: str) -> str:
    return cast(str, _text(match, group))


def _counted(text: str) -> tuple[int, int]:
    if text in _COUNTS:
        return _COUNTS[text]
    number = chinese_number(text)
    return number, number


def _away(now: datetime, unit: str, least: int, most: int, direction: int) -> Span:
    size, times = _UNITS[unit]
    first, last = sorted((direction * least * times, direction * most * times))
    return calendar.units(now, size, first, last)


def _named(name: str) -> InYear:
    return next(_NAMES[key] for key in (name, name[:2], name[:1]) if key in _NAMES)


def _which(word: str) -> Which:
    return cast(Which, _ONE[_AWAY[word]])


def _day_number(text: str | None) -> int | None:
    return None if text is None else chinese_number(re.sub(r"(?:st|nd|rd|th|日|号)$", "", text))


# English, the longer forms first.


@_form(
    rf"\b(?:(?:{_COUNT}) (?:{_UNIT})s?(?:,? and |, | )){{1,4}}(?:{_COUNT}) (?:{_UNIT})s? ago\b"
    rf"|\bthe (?:{DAY}|first|second|third) of (?:last|this|next) month\b"
)
def _compound(match: re.Match[str], now: datetime) -> Span:
    """Two weeks and three days ago; the 5th of last month."""
    # Slow to load, and seldom wanted: these are the forms the table below does not read.
    from dateparser.date import DateDataParser

    words = re.sub(r"\b(first|second|third)\b", lambda word: _ORDINALS[word[0].lower()], match[0], flags=re.IGNORECASE)
    parser = DateDataParser(languages=["en"], settings={"RELATIVE_BASE": now, "PREFER_DATES_FROM": "past"})
    found = parser.get_date_data(words).date_obj
    if found is None:
        raise ValueError(f"{words!r} is no date")
    fine = re.search("minute|hour", words, re.IGNORECASE)
    return calendar.units(found, "hour" if fine else "day", 0)


_ORDINALS = {"first": "1st", "second": "2nd", "third": "3rd"}


@_form(r"\b(?:the )?day (?P<way>before yesterday|after tomorrow)\b|\b(?P<day>yesterday|today|tomorrow)\b")
def _day(match: re.Match[str], now: datetime) -> Span:
    away = {"before yesterday": -2, "after tomorrow": 2, "yesterday": -1, "today": 0, "tomorrow": 1}
    return calendar.units(now, "day", away[_text(match, "way") or _said(match, "day")])


@_form(r"\b(?:(?P<last>last) (?P<late>night|evening)|(?P<tonight>tonight)|this (?P<part>morning|afternoon|evening))\b")
def _part_of_day(match: re.Match[str], now: datetime) -> Span:
    today = calendar.whole(now, "day")
    if match["last"]:
        return part(today - timedelta(days=1), _said(match, "late"))
    return part(today, "night" if match["tonight"] else _said(match, "part"))


@_form(r"\bthe other day\b")
def _the_other_day(match: re.Match[str], now: datetime) -> Span:
    return calendar.units(now, "day", -7, -2)


@_form(rf"\bhalf an? (?P<unit>hour|day|month|year|decade) ago\b|\b(?P<count>{_COUNT}) (?P<units>{_UNIT})s? ago\b")
def _ago(match: re.Match[str], now: datetime) -> Span:
    if unit := _text(match, "unit"):
        return _half(now, unit)
    return _away(now, _said(match, "units"), *_counted(_said(match, "count")), -1)


def _half(now: datetime, unit: str) -> Span:
    size, count = _HALVES[unit]
    return calendar.units(now, size, -count)


_HALVES: dict[str, tuple[Unit, int]] = {
    "hour": ("minute", 30), "day": ("hour", 12), "month": ("day", 15), "year": ("month", 6), "decade": ("year", 5),
    "小时": ("minute", 30), "天": ("hour", 12), "月": ("day", 15), "年": ("month", 6),
}  # fmt: skip


@_form(rf"\b(?P<count>{_COUNT}) (?P<unit>{_UNIT})s? from now\b|\bin (?P<many>{_COUNT}) (?P<units>{_UNIT})s?['’] time\b")
def _from_now(match: re.Match[str], now: datetime) -> Span:
    unit = _text(match, "unit") or _said(match, "units")
    return _away(now, unit, *_counted(_text(match, "count") or _said(match, "many")), 1)


@_form(
    rf"\b(?:last|past|previous) (?P<count>{_COUNT}) (?P<unit>{_UNIT})s?\b(?! of\b)"
    r"|\bpast (?P<one>hour|week|month|quarter|year|decade)\b"
)
def _rolling(match: re.Match[str], now: datetime) -> Span:
    unit, times = _UNITS[_text(match, "unit") or _said(match, "one")]
    most = _counted(_said(match, "count"))[1] if match["count"] else 1
    return calendar.rolling(now, unit, most * times)


@_form(
    rf"\b(?P<day>{_WEEKDAY}),? (?:of )?(?P<which>last|this|next) week\b"
    rf"|\b(?P<week>last|this|next) week(?: on)? (?P<on>{_WEEKDAY})\b"
)
def _day_of_week(match: re.Match[str], now: datetime) -> Span:
    number = _WEEKDAYS.index(_text(match, "day") or _said(match, "on"))
    week = calendar.later(now, "week", _AWAY[_text(match, "which") or _said(match, "week")])
    return calendar.weekday(week, number, "this")


@_form(
    rf"\b(?:(?P<day>{DAY}) (?:of )?)?(?P<month>{MONTH})\b\.?(?: (?P<after>{DAY})\b)?,? (?:of |in )?"
    r"(?P<year>last|this|next) year\b"
)
def _month_of_year(match: re.Match[str], now: datetime) -> Span:
    day = _day_number(_text(match, "day") or _text(match, "after"))
    return calendar.month(month_number(_said(match, "month")), day)(now.year + _AWAY[_said(match, "year")])


@_form(
    r"\b(?P<which>last|this|next) (?P<unit>week|month|quarter|year|decade|weekend)\b(?! of\b)"
    r"|\b(?P<one>week|month|year|weekend) (?P<over>before last|after next)\b"
)
def _calendar_unit(match: re.Match[str], now: datetime) -> Span:
    away = {"before last": -2, "after next": 2}[_said(match, "over")] if match["over"] else _AWAY[_said(match, "which")]
    unit = _text(match, "unit") or _said(match, "one")
    if unit == "weekend":
        return calendar.weekend(now, away)
    size, times = _UNITS[unit]
    if times == 1:
        return calendar.units(now, size, away)
    # Quarters and decades begin where the calendar has them, not now.
    start = calendar.whole(now, size)
    start = calendar.later(start, size, -((start.year if size == "year" else start.month - 1) % times))
    return Span(calendar.later(start, size, away * times), calendar.later(start, size, (away + 1) * times))


@_form(r"\b(?:on|over|during|at) the weekend\b")
def _the_weekend(match: re.Match[str], now: datetime) -> Span:
    return calendar.weekend(now, 0 if now.weekday() >= 5 else -1)


@_form(rf"\b(?P<which>{_WHICH}) (?P<month>{MONTH})\b\.?(?: (?P<day>{DAY})\b)?(?!,? \d{{4}})")
def _which_month(match: re.Match[str], now: datetime) -> Span:
    if match["month"] in ("may", "march") and match["day"] is None and _said(match, "which") != "last":
        raise ValueError("this may be a verb")
    named = calendar.month(month_number(_said(match, "month")), _day_number(_text(match, "day")))
    return calendar.of(named, now, _which(_said(match, "which")))


@_form(rf"\b(?:{_WEEKDAY}|{_SHORT_WEEKDAY})\.?,? (?=(?:the )?(?:{DAY}\b|(?:{MONTH})\b))")
def _day_of_a_date(match: re.Match[str], now: datetime) -> Span:
    """Monday, 8 May: the date says it all."""
    raise ValueError("the date follows")


@_form(
    rf"\b(?:(?P<which>{_WHICH}) (?P<day>{_WEEKDAY})"
    rf"|(?P<near>last|next|on) (?P<short>{_SHORT_WEEKDAY})|(?P<bare>{_WEEKDAY}))\b"
)
def _weekday(match: re.Match[str], now: datetime) -> Span:
    name = _text(match, "day") or _text(match, "short") or _said(match, "bare")
    number = [day[:3] for day in _WEEKDAYS].index(name[:3])
    which = _text(match, "which") or _text(match, "near")
    return calendar.weekday(now, number, "last" if which in (None, "on") else _which(which))


@_form(
    rf"\b(?:(?P<which>{_WHICH}) (?P<a>{_NAME})"
    rf"|(?P<b>{_NAME})(?: of| in)? (?:(?P<number>(?:19|20)\d\d)|(?P<year>last|this|next) year)"
    rf"|(?:in|during) (?:the )?(?P<time>{_SEASON})"
    rf"|(?:on|at|over|during|since|before|after) (?!{_SEASON})(?P<feast>{_NAME}))"
    r"\b(?! (?:of|to) |(?: of| in)? (?:\d{4}|last|this|next)\b)"
)
def _season(match: re.Match[str], now: datetime) -> Span:
    named = _named(next(filter(None, (_text(match, group) for group in ("a", "b", "time", "feast"))), ""))
    if number := match["number"]:
        return named(int(number))
    if year := _text(match, "year"):
        return named(now.year + _AWAY[year])
    if which := _text(match, "which"):
        return calendar.of(named, now, _which(which))
    return calendar.each_year(named, now)


@_form(r"\b(?P<year>(?:19|20)\d0)['’]?s\b|\bthe ['’]?(?P<short>\d0)['’]?s\b|(?P<han>(?:19|20)?\d0)年代")
def _decade(match: re.Match[str], now: datetime) -> Span:
    number = int(_text(match, "year") or _text(match, "short") or _said(match, "han"))
    start = number if number >= 100 else number + (1900 if number >= 30 else 2000)
    return Span(datetime(start, 1, 1), datetime(start + 10, 1, 1))  # noqa: DTZ001 - on the clock of the place


# Chinese.


@_form(
    rf"(?P<year>{_HAN_YEAR})年的?(?:(?P<month>{CHINESE_MONTH})月(?P<day>{CHINESE_DAY})?|(?P<name>{_HAN_NAME})|(?P<half>[上下])半年)?"
    rf"|(?<!\d)(?P<number>(?:19|20)\d\d)年的?(?P<named>{_HAN_NAME})"
)
def _han_year(match: re.Match[str], now: datetime) -> Span:
    year = int(match["number"]) if match["number"] else now.year + _AWAY[match["year"]]
    if name := match["name"] or match["named"]:
        return _named(name)(year)
    if match["month"]:
        return calendar.month(chinese_number(match["month"]), _day_number(match["day"]))(year)
    first = datetime(year, 1, 1)  # noqa: DTZ001 - on the clock of the place
    if match["half"]:
        return calendar.units(first, "month", 0, 5) if match["half"] == "上" else calendar.units(first, "month", 6, 11)
    return calendar.units(first, "year", 0)


@_form(
    rf"半个?(?P<half>小时|天|月|年)(?:以|之)?前|(?<![\d第])(?P<count>{_HAN_NUMBER})(?P<unit>{_HAN_UNIT})(?:以|之)?(?P<way>[前后])"
)
def _han_ago(match: re.Match[str], now: datetime) -> Span:
    if match["half"]:
        return _half(now, match["half"])
    unit = match["unit"].removeprefix("个")
    return _away(now, unit, *_counted(match["count"]), -1 if match["way"] == "前" else 1)


@_form(
    rf"(?:最近|过去|近|这|前)的?(?P<count>{_HAN_NUMBER})(?P<unit>{_HAN_UNIT})|(?:最近|过去|近)半(?:个(?P<month>月)|(?P<year>年))"
)
def _han_rolling(match: re.Match[str], now: datetime) -> Span:
    if match["count"] is None:
        return calendar.rolling(now, *_HALVES[match["month"] or match["year"]])
    unit, times = _UNITS[match["unit"].removeprefix("个")]
    return calendar.rolling(now, unit, _counted(match["count"])[1] * times)


@_form(r"(?P<which>上上|下下|[上这本下])个?(?:周|星期|礼拜)(?P<day>[一二三四五六日天末])?")
def _han_week(match: re.Match[str], now: datetime) -> Span:
    away = _AWAY[match["which"]]
    if match["day"] is None:
        return calendar.units(now, "week", away)
    if match["day"] == "末":
        return calendar.weekend(now, away)
    return calendar.weekday(calendar.later(now, "week", away), _han_weekday(match["day"]), "this")


@_form(rf"(?P<which>上上|下下|[上这本下])个?(?:月(?P<day>{CHINESE_DAY})?|(?P<quarter>季度))")
def _han_month(match: re.Match[str], now: datetime) -> Span:
    away = _AWAY[match["which"]]
    if match["quarter"]:
        start = calendar.later(calendar.whole(now, "month"), "month", -((now.month - 1) % 3) + 3 * away)
        return calendar.units(start, "month", 0, 2)
    first = calendar.later(calendar.whole(now, "month"), "month", away)
    return calendar.month(first.month, _day_number(match["day"]))(first.year)


@_form(r"(?P<day>大前|大后|[前昨今明后])(?:[天日]|(?P<part>[早晚])(?:上)?)")
def _han_day(match: re.Match[str], now: datetime) -> Span:
    day = calendar.units(now, "day", _AWAY[match["day"]])
    return part(cast(datetime, day.start), match["part"]) if match["part"] else day


@_form(r"(?:周|星期|礼拜)(?P<day>[一二三四五六日天末])")
def _han_bare_weekday(match: re.Match[str], now: datetime) -> Span:
    if match["day"] == "末":
        return calendar.weekend(now, 0 if now.weekday() >= 5 else -1)
    return calendar.weekday(now, _han_weekday(match["day"]), "last")


@_form(rf"(?P<name>{_HAN_NAME})")
def _han_name(match: re.Match[str], now: datetime) -> Span:
    return calendar.each_year(_named(match["name"]), now)


def _han_weekday(name: str) -> int:
    return "一二三四五六日".index(name.replace("天", "日"))
