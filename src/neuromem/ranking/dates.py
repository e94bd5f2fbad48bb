"""Dates a question names, and how far from them a day is.

Absolute dates only, in English, Chinese and ISO 8601, found in some microseconds. What needs to know what day it is
("last May", 上个月) is not for here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from memground.text import fold

type Floats = NDArray[np.float64]

_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_MONTH = "|".join(dict.fromkeys(name for month in _MONTHS for name in (month, month[:3])))
_CHINESE_MONTHS = ("一", "二", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二")
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_DATES = (
    re.compile(r"(?<!\d)(?P<y>\d{4})-(?P<m>\d{1,2})(?:-(?P<d>\d{1,2}))?(?!\d)"),
    re.compile(r"(?:(?P<y>\d{4})年)?(?P<m>\d{1,2}|十[一二]?|[一二三四五六七八九])月(?:(?P<d>\d{1,2})[日号])?"),
    re.compile(rf"\b(?P<d>{_DAY})\s+(?:of\s+)?(?P<m>{_MONTH})\b\.?,?(?:\s+(?P<y>\d{{4}}))?"),
    re.compile(rf"\b(?P<m>{_MONTH})\b\.?(?:\s+(?P<d>{_DAY})(?!\d))?,?(?:\s+(?P<y>\d{{4}}))?"),
    re.compile(r"(?<!\d)(?P<y>(?:19|20)\d{2})(?:年|(?!\w))"),
)
_SAYS_WHEN = re.compile(r"\b(in|since|until|till|during|last|this|next|early|late|mid|between|around)\s$")


@dataclass(frozen=True)
class NamedDate:
    """A year, a month or a day, as far as named; what is open is None."""

    year: int | None
    month: int | None
    day: int | None

    def span(self, year: int) -> tuple[int, int]:
        """Its first and last day in a year, as proleptic ordinals; the last of a month for a day it does not have."""
        first = date(year, self.month or 1, 1)
        if self.month is None:
            return first.toordinal(), date(year, 12, 31).toordinal()
        last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
        if self.day is not None:
            first = last = first.replace(day=min(self.day, last.day))
        return first.toordinal(), last.toordinal()


def named_dates(query: str) -> list[NamedDate]:
    """The dates a query names."""
    text, found = fold(query), list[NamedDate]()
    for pattern in _DATES:
        for match in pattern.finditer(text):
            parts = {"y": None, "m": None, "d": None} | match.groupdict()
            # May is a verb, too, and April a name, and 2023 may be a house number.
            sure = sum(part is not None for part in parts.values()) > 1 or not match[0].isascii()
            named = parts["m"] is None or parts["m"] in _MONTHS
            if not sure and not (named and _SAYS_WHEN.search(text[: match.start()])):
                continue
            year, month = (None if parts["y"] is None else int(parts["y"])), _month(parts["m"])
            day = int(re.sub(r"\D", "", parts["d"])) if parts["d"] else None
            if (
                (year is None or 1 <= year < 9999)
                and (month is None or 1 <= month <= 12)
                and (day or 1) in range(1, 32)
            ):
                found.append(NamedDate(year, month, day))
        text = pattern.sub(" , ", text)
    return found


def days_off(dates: Sequence[NamedDate], days: Floats) -> Floats:
    """(n,) days between each of `days` (proleptic ordinals) and the nearest of `dates`, 0 within it."""
    off = np.full_like(days, np.inf)
    if not days.size:
        return off
    first, last = (date.fromordinal(int(end)).year for end in (days.min(), days.max()))
    for named in dates:
        for year in [named.year] if named.year else range(max(1, first - 1), min(last + 1, 9998) + 1):
            start, end = named.span(year)
            off = np.minimum(off, np.maximum(np.maximum(start - days, days - end), 0.0))
    return off


def _month(name: str | None) -> int | None:
    if name is None:
        return None
    if name in _CHINESE_MONTHS:
        return 1 + _CHINESE_MONTHS.index(name)
    return int(name) if name.isdecimal() else 1 + [month[:3] for month in _MONTHS].index(name[:3])
