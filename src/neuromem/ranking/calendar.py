"""Days, weeks, months and years as people count them, on the clock of a place: datetimes here carry no zone."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

type Unit = Literal["minute", "hour", "day", "week", "month", "year"]
type Granularity = Literal["day", "week", "month", "year"]
type Which = Literal["last", "this", "next"]

_LUNAR_NEW_YEAR = (
    "127 215 204 123 210 131 219 207 128 216 205 124 212 201 122 209 129 218 207 126 214 203 123 210 131 219 208 128 "
    "216 205 125 212 201 122 210 129 217 206 126 213 203 123 211 131 219 208 128 215 204 124 212 201 122 210 130 217 "
    "206 126 214 202 123"
)
"""Month and day of each from 1990 to 2050: it follows the moon, and no rule is short."""
_FIRST_LUNAR = 1990


@dataclass(frozen=True, slots=True)
class Span:
    """[start, end); None is open. `yearly`: named without a year, this being the last that has begun."""

    start: datetime | None
    end: datetime | None
    yearly: bool = False


type InYear = Callable[[int], Span]
"""What a name stands for in a year: "May", "summer", "Christmas"."""


def whole(moment: datetime, unit: Unit) -> datetime:
    """When the unit began in which a moment lies; weeks begin on Monday."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    match unit:
        case "minute":
            return moment.replace(second=0, microsecond=0)
        case "hour":
            return moment.replace(minute=0, second=0, microsecond=0)
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)


def later(start: datetime, unit: Unit, count: int) -> datetime:
    """`count` units on; of a month that is too short, its last day."""
    match unit:
        case "month" | "year":
            months = start.year * 12 + start.month - 1 + count * (12 if unit == "year" else 1)
            first = start.replace(year=months // 12, month=months % 12 + 1, day=1)
            last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
            return first.replace(day=min(start.day, last.day))
        case _:
            return start + count * timedelta(**{f"{unit}s": 1})


def units(now: datetime, unit: Unit, first: int, last: int | None = None) -> Span:
    """From the unit `first` away from the one that is now, to the one `last` away (default: that one alone)."""
    begin = whole(now, unit)
    return Span(later(begin, unit, first), later(begin, unit, (first if last is None else last) + 1))


def rolling(now: datetime, unit: Unit, count: int) -> Span:
    """The last so many units, up to now."""
    return Span(later(now, unit, -count), now)


def of(named: InYear, now: datetime, which: Which) -> Span:
    """The last of these that is over, the one of this year, or the next to begin."""
    years = [named(now.year + away) for away in (-2, -1, 0, 1)]
    match which:
        case "last":
            return next(span for span in reversed(years) if span.end is not None and span.end <= now)
        case "this":
            return years[2]
        case "next":
            return next(span for span in years if span.start is not None and span.start > now)


def each_year(named: InYear, now: datetime) -> Span:
    """That of every year, the last that has begun as an example."""
    spans = (named(now.year + away) for away in (0, -1))
    span = next((span for span in spans if span.start is not None and span.start <= now), named(now.year))
    return Span(span.start, span.end, yearly=True)


def month(number: int, day: int | None = None) -> InYear:
    """A month, or a day of it; its last where it has no such day. ValueError for no month or day at all."""
    if not 1 <= number <= 12 or not 1 <= (day or 1) <= 31:
        raise ValueError(f"{number}-{day} is no date")

    def named(year: int) -> Span:
        first = datetime(year, number, 1)  # noqa: DTZ001 - on the clock of the place, as everything here
        if day is None:
            return Span(first, later(first, "month", 1))
        start = min(first + timedelta(days=day - 1), later(first, "month", 1) - timedelta(days=1))
        return Span(start, start + timedelta(days=1))

    return named


def season(number: int) -> InYear:
    """0 spring to 3 winter, of the northern half of the world; winter by the year in which it begins."""

    def named(year: int) -> Span:
        first = datetime(year, 3 + 3 * number, 1)  # noqa: DTZ001 - as above
        return Span(first, later(first, "month", 3))

    return named


def days(number: int, day: int, count: int) -> InYear:
    """`count` days from a date on: a holiday."""

    def named(year: int) -> Span:
        start = datetime(year, number, day)  # noqa: DTZ001 - as above
        return Span(start, start + timedelta(days=count))

    return named


def thanksgiving(year: int) -> Span:
    """The fourth Thursday of November."""
    first = datetime(year, 11, 1)  # noqa: DTZ001 - as above
    start = first + timedelta(days=(3 - first.weekday()) % 7 + 21)
    return Span(start, start + timedelta(days=1))


def lunar_new_year(year: int) -> Span:
    """Its eve and the week that follows. ValueError beyond the years that are listed."""
    dates = _LUNAR_NEW_YEAR.split()
    if not 0 <= year - _FIRST_LUNAR < len(dates):
        raise ValueError(f"the lunar new year of {year} is not listed")
    number, day = divmod(int(dates[year - _FIRST_LUNAR]), 100)
    start = datetime(year, number, day) - timedelta(days=1)  # noqa: DTZ001 - as above
    return Span(start, start + timedelta(days=8))


def weekday(now: datetime, number: int, which: Which) -> Span:
    """0 Monday to 6 Sunday: the last one before today, that of this week, or the next one after today."""
    today = whole(now, "day")
    match which:
        case "last":
            start = today - timedelta(days=(today.weekday() - number - 1) % 7 + 1)
        case "this":
            start = whole(now, "week") + timedelta(days=number)
        case "next":
            start = today + timedelta(days=(number - today.weekday() - 1) % 7 + 1)
    return Span(start, start + timedelta(days=1))


def weekend(now: datetime, weeks: int) -> Span:
    """Saturday and Sunday of a week, 0 being this one."""
    start = later(whole(now, "week"), "week", weeks) + timedelta(days=5)
    return Span(start, start + timedelta(days=2))
