"""Dates a text names, in English, Chinese and ISO 8601, with a year or without; no need to know what day it is."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from neuromem.ranking import calendar
from neuromem.ranking.calendar import InYear, Span

_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_HAN_DIGITS = "零一二三四五六七八九"
MONTH = "|".join(dict.fromkeys(name for month in (*_MONTHS, "sept") for name in (month, month[:3])))
DAY = r"\d{1,2}(?:st|nd|rd|th)?"
CHINESE_MONTH = r"\d{1,2}|十[一二]?|[一二三四五六七八九]"
CHINESE_DAY = r"(?:\d{1,2}|[一二三四五六七八九十]{1,3})[日号]"
BLANK = "\x1f"
"""Stands where words were that have been read; no word and no space."""
_NO_DATE = "\x1e"
_FEW = 32
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<!\d)(?P<y>\d{4})(?P<s>[-/.])(?P<m>\d{1,2})(?:(?P=s)(?P<d>\d{1,2}))?(?![\d])",
        rf"(?:(?P<y>(?<!\d)\d{{4}})年)?(?P<m>(?<!\d){CHINESE_MONTH})月(?:份)?(?P<d>{CHINESE_DAY})?",
        rf"\b(?P<d>{DAY}) (?:of )?(?P<m>{MONTH})\b\.?,?(?: (?P<y>\d{{4}}))?",
        rf"\b(?P<m>{MONTH})\b\.?(?: (?P<d>{DAY})(?!\d))?,?(?: (?:of )?(?P<y>\d{{4}}))?",
        r"(?<!\d)(?P<y>(?:19|20)\d{2})(?:年|(?!\w))",
    )
)
_SAYS_WHEN = re.compile(
    r"\b(in|since|until|till|before|after|during|last|this|next|early|late|mid|of|between|around)\s$", re.IGNORECASE
)
_GOES_ON = re.compile(rf"{BLANK}\s(and|to|till|until|through)\s$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NamedDate:
    """Where a text names a date, the year where it does, and what else it names of it."""

    begin: int
    stop: int
    year: int | None
    in_year: InYear


def named_dates(text: str) -> Iterator[NamedDate]:
    """The dates of a text, in no certain order; those that are none in any calendar are left out."""
    blank = text
    for pattern in _DATES:
        for match in pattern.finditer(blank):
            parts = {"y": None, "m": None, "d": None} | match.groupdict()
            # May is a verb, too, and April a name, and 2023 may be a house number.
            sure = sum(parts[name] is not None for name in "ymd") > 1 or not match[0].isascii()
            before = said_before(blank, match.start())
            named = parts["m"] is None or parts["m"].lower() in (*_MONTHS, *(month[:3] for month in _MONTHS), "sept")
            is_one = sure or (named and bool(_SAYS_WHEN.search(before) or _GOES_ON.search(before)))
            mark = BLANK if is_one else _NO_DATE
            blank = f"{blank[: match.start()]}{mark * len(match[0])}{blank[match.end() :]}"
            if not is_one:
                continue
            try:
                yield _named(match, parts)
            except ValueError:  # 77 May, or the year 0
                continue


def said_before(text: str, place: int) -> str:
    """The words right before a place, as many as say what a time means. All of them would take long in a long text."""
    return text[max(0, place - _FEW) : place]


def _named(match: re.Match[str], parts: dict[str, str | None]) -> NamedDate:
    year = None if parts["y"] is None else int(parts["y"])
    if year is not None and not 1 <= year < 9999:
        raise ValueError(f"the year {year} is not kept")
    stop = match.start() + len(match[0].rstrip(" ,"))
    if parts["m"] is None:
        return NamedDate(match.start(), stop, year, _year)
    day = None if parts["d"] is None else chinese_number(re.sub(r"(?:st|nd|rd|th|日|号)$", "", parts["d"].lower()))
    if day == 0:
        raise ValueError("no month has a day 0")
    return NamedDate(match.start(), stop, year, calendar.month(month_number(parts["m"]), day))


def _year(year: int) -> Span:
    january, december = calendar.month(1)(year), calendar.month(12)(year)
    return Span(january.start, december.end)


def month_number(name: str) -> int:
    """1 to 12 of an English name, long or short, or a Chinese or plain number; ValueError for another."""
    short = [month[:3] for month in _MONTHS]
    return 1 + short.index(name[:3].lower()) if name.isascii() and name.isalpha() else chinese_number(name)


def chinese_number(text: str) -> int:
    """A whole number in digits, or in Chinese below 100; ValueError for what is none."""
    if text.isdecimal():
        return int(text)
    tens, ten, ones = text.replace("两", "二").rpartition("十")
    if len(tens) > 1 or len(ones) > 1:
        raise ValueError(f"{text!r} is no number")
    return (_HAN_DIGITS.index(tens) if tens else 1) * (10 if ten else 0) + (_HAN_DIGITS.index(ones) if ones else 0)
