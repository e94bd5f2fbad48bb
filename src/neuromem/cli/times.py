"""Moments as people write them."""

import re
from datetime import UTC, datetime

from memground.errors import InvalidInputError

_LANGUAGES = ["en", "zh"]
_ISO_LIKE = re.compile(r"\s*[+-]?\d{3,}")
_ACCEPTED = "a date (2025-03-01), a time (2025-03-01T18:30+01:00) or words such as 'yesterday' or '3 weeks ago'"


def moment(text: str, option: str) -> datetime:
    """The moment a person means, in UTC. Without a timezone the local one holds; a date is its first instant there.

    Raises InvalidInputError naming the `option`.
    """
    try:
        found = _iso(text) or _words(text)
        if found is not None:
            return found.astimezone(UTC)
    except (OverflowError, ValueError, OSError):  # years that no clock or timezone reaches
        pass
    raise InvalidInputError(f"{option} {text[:80]!r} is no moment; accepted: {_ACCEPTED}")


def optional_moment(text: str | None, option: str) -> datetime | None:
    return None if text is None else moment(text, option)


def local(moment: datetime, *, precise: bool = False) -> str:
    """A moment in the local timezone, to the second; `precise`: as it is stored, to be given back to --as-of."""
    return moment.astimezone().isoformat(sep=" ", timespec="microseconds" if precise else "seconds")


def zone(given: str | None) -> str:
    """The time zone given, or this machine's, by its IANA name; UTC where it has none of a name."""
    if given is not None:
        return given
    from zoneinfo import ZoneInfoNotFoundError

    from tzlocal import get_localzone_name

    try:
        return get_localzone_name() or "UTC"
    except (ZoneInfoNotFoundError, ValueError, OSError):  # no zone is set, or one that nobody knows
        return "UTC"


def _iso(text: str) -> datetime | None:
    if text.strip().lower() == "now":
        return datetime.now(UTC)
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def _words(text: str) -> datetime | None:
    # A number that is no ISO date is a mistake: reading it anyway would guess between days and months.
    if not text.strip() or len(text) > 80 or _ISO_LIKE.match(text) or "\0" in text:
        return None
    import dateparser

    return dateparser.parse(
        text, languages=_LANGUAGES, settings={"RETURN_AS_TIMEZONE_AWARE": True, "PREFER_DATES_FROM": "past"}
    )
