"""A view of the past is a value: which moment of knowledge and which moment of the world a read is about."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from memground.clock import Clock, as_utc

KNOWN_SINCE = datetime(1700, 1, 1, tzinfo=UTC)
"""Nothing counts as known before: the keyword index keeps times as nanoseconds in 64 bits, from 1678 on."""


@dataclass(frozen=True, slots=True)
class View:
    """What a read may see.

    `known_at`: rows known at this moment (None: now, the current rows). `valid_at`: rows true in the world at this
    moment (None: no restriction). `now`: what "now" means for ages; equals `known_at` when that is given.
    """

    now: datetime
    known_at: datetime | None = None
    valid_at: datetime | None = None

    @classmethod
    def of(cls, clock: Clock, as_of: datetime | None = None, valid_at: datetime | None = None) -> "View":
        """The view asked for by `as_of=` and `valid_at=`; refuses naive datetimes.

        A moment that has not come yet is today: nothing can be known after now.
        """
        now = clock.now()
        valid = None if valid_at is None else as_utc(valid_at, "valid_at")
        if as_of is None:
            return cls(now=now, valid_at=valid)
        known = max(as_utc(as_of, "as_of"), KNOWN_SINCE - timedelta(microseconds=1))
        if known >= now:
            return cls(now=now, valid_at=valid)
        return cls(now=known, known_at=known, valid_at=valid)

    def mask(self, known_to: datetime | None) -> datetime | None:
        """The end of a row's known time as this view sees it: an end that lies ahead is not known yet."""
        if known_to is None or (self.known_at is not None and known_to > self.known_at):
            return None
        return known_to


def contains(start: datetime | None, end: datetime | None, moment: datetime) -> bool:
    """Whether the half-open interval [start, end) holds `moment`; None is open."""
    return (start is None or start <= moment) and (end is None or moment < end)
