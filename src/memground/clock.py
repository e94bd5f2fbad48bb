"""The only place that asks what time it is."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

from memground.errors import InvalidInputError
from memground.text import show


@runtime_checkable
class Clock(Protocol):
    """Anything that tells the time as an aware UTC datetime."""

    def now(self) -> datetime:
        """The present moment, with a timezone."""
        ...


class SystemClock:
    """The machine's clock, in UTC, at the microsecond PostgreSQL keeps."""

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that moves only when told to; for tests and for replaying a history."""

    def __init__(self, start: datetime) -> None:
        self._now = as_utc(start, "start")

    def now(self) -> datetime:
        """The moment it was set to, in UTC."""
        return self._now

    def set(self, moment: datetime) -> None:
        """Goes to a moment with a timezone, earlier or later."""
        self._now = as_utc(moment, "moment")

    def advance(self, delta: timedelta) -> None:
        """Goes on by so much."""
        self._now += delta


@dataclass(frozen=True, slots=True)
class Stamp:
    """When and by whom a write is made: one for all rows of one operation.

    `at` is the time of recording, `version` its nanoseconds since 1970 (the least version the write may take),
    `origin` the writer's name, by which `undo` finds it.
    """

    at: datetime
    origin: str

    @property
    def version(self) -> int:
        return nanoseconds(self.at)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# asyncpg writes the very ends as infinity, which comes back as another value.
_FIRST = datetime.min.replace(tzinfo=UTC, microsecond=1)
_LAST = datetime.max.replace(tzinfo=UTC, microsecond=999_998)


def nanoseconds(moment: datetime) -> int:
    """Nanoseconds since 1970, exact (no float on the way)."""
    delta = moment - _EPOCH
    return ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1_000


def as_utc(moment: datetime, name: str) -> datetime:
    """`moment` in UTC; raises InvalidInputError for a naive datetime or something that is no datetime."""
    if not isinstance(moment, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(
            f"{name} must be a datetime with a timezone, got {type(moment).__name__} {show(moment)}"
        )
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidInputError(
            f"{name}={moment.isoformat()} has no timezone; pass an aware datetime such as "
            f"datetime({moment.year}, {moment.month}, {moment.day}, tzinfo=UTC)"
        )
    try:
        return min(max(moment.astimezone(UTC), _FIRST), _LAST)
    except OverflowError:
        raise InvalidInputError(f"{name}={moment.isoformat()} lies outside the years 1 to 9999 UTC") from None
