"""The checks every public call makes before anything is written."""

import math
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from types import UnionType
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from memground.clock import as_utc
from memground.embedding.base import MAX_LENGTH, MIN_LENGTH
from memground.errors import InvalidInputError
from memground.text import check_json, check_text, show

_ID_PREFIX = re.compile(r"[0-9a-f]{4,32}")
MAX_QUERY = 10_000
MAX_LIMIT = 1_000
MAX_VERSION = 2**63 - 1
MAX_PLACE = 2**31 - 1
MAX_DAYS = 100 * 366
ALWAYS = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""Before and after all that is kept: to the driver, infinity."""


def name(value: object, what: str, *, limit: int = 255) -> str:
    """A short identifying text: user id, session id, key, type."""
    return check_text(value, what, limit=limit)


def optional_name(value: object, what: str, *, limit: int = 255) -> str | None:
    return None if value is None else name(value, what, limit=limit)


def schema(value: object) -> str:
    """The name of a PostgreSQL schema that may be ours."""
    text = name(value, "schema", limit=63)
    if len(text.encode()) > 63:
        raise InvalidInputError(f"schema={text!r} has {len(text.encode())} bytes; PostgreSQL names have at most 63")
    if text.startswith("pg_") or text == "information_schema":
        raise InvalidInputError(f"schema={text!r} belongs to PostgreSQL; choose another name")
    return text


def instance(value: object, what: str, kind: type | UnionType, accepted: str) -> None:
    """One of the objects a mind is made of."""
    if not isinstance(value, kind):
        raise InvalidInputError(f"{what} must be {accepted}, got {type(value).__name__} {show(value)}")


def function(value: object, what: str) -> None:
    """Something that can be called, or None."""
    if value is not None and not callable(value):
        raise InvalidInputError(f"{what} must be a function, got {type(value).__name__} {show(value)}")


def query(value: object) -> str:
    return check_text(value, "query", limit=MAX_QUERY)


def whole(value: object, what: str, lowest: int, highest: int) -> int:
    """A whole number within bounds, both included."""
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise InvalidInputError(
            f"{what}={show(value)} is not accepted; pass a whole number from {lowest:,} to {highest:,}"
        )
    return value


def limit(value: object) -> int:
    return whole(value, "limit", 1, MAX_LIMIT)


def items(value: object, what: str, accepted: str) -> Sequence[Any]:
    """The items of a list or tuple; a text is none, though Python would walk its characters."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise InvalidInputError(f"{what} must be a list of {accepted}, got {type(value).__name__} {show(value)}")
    return cast(Sequence[Any], value)


def identifier(value: object, what: str) -> uuid.UUID:
    """A memory or message id as a UUID."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)  # pyright: ignore[reportArgumentType]
    except (ValueError, TypeError, AttributeError):
        raise InvalidInputError(f"{what}={show(value)} is no id; pass the {what} of a result (a UUID)") from None


def id_range(prefix: object, what: str) -> tuple[uuid.UUID, uuid.UUID]:
    """The first and the last id that begin with four or more characters of one."""
    digits = name(prefix, what).replace("-", "").lower()
    if not _ID_PREFIX.fullmatch(digits):
        raise InvalidInputError(f"{what}={show(prefix)} is no id; pass one, or at least its first four characters")
    return uuid.UUID(digits.ljust(32, "0")), uuid.UUID(digits.ljust(32, "f"))


def metadata(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"metadata must be a dict, got {type(value).__name__} {show(value)}")
    return check_json(value, "metadata")


def importance(value: object) -> int:
    return whole(value, "importance", 1, 10)


def share(value: object, what: str) -> float:
    """A number from 0 to 1."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise InvalidInputError(f"{what}={show(value)} is not accepted; pass a number from 0 to 1")
    return float(value)


def moment(value: datetime | None, what: str) -> datetime | None:
    return None if value is None else as_utc(value, what)


def timezone(value: object) -> tzinfo:
    """A time zone by its IANA name."""
    name = check_text(value, "timezone", limit=255)
    if name.upper() == "UTC":
        return UTC  # known without a database of time zones
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of that database, such as "Europe"
        raise InvalidInputError(
            f"timezone={show(name)} is no time zone known here; pass an IANA name such as 'Europe/Lisbon' or 'UTC'"
        ) from None


def span(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """[start, end) in UTC; None is as far as times go."""
    first, last = moment(start, "start") or ALWAYS[0], moment(end, "end") or ALWAYS[1]
    if last <= first:
        raise InvalidInputError(
            f"end={last.isoformat()} does not lie after start={first.isoformat()}; a time range is [start, end)"
        )
    return first, last


def validity(start: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    """valid_from and valid_to in UTC, in order."""
    start, end = moment(start, "valid_from"), moment(end, "valid_to")
    if start is not None and end is not None and end <= start:
        raise InvalidInputError(
            f"valid_to={end.isoformat()} does not lie after valid_from={start.isoformat()}; validity is [from, to)"
        )
    return start, end


def vector(value: Sequence[float], dims: int, what: str = "query_embedding") -> list[float]:
    """A vector of `dims` finite numbers, not all zero (cosine has no meaning for a zero vector)."""
    numbers = _numbers(value)
    if numbers is None:
        raise InvalidInputError(f"{what} must be a list of {dims} numbers, got {type(value).__name__} {show(value)}")
    if len(numbers) != dims:
        raise InvalidInputError(f"{what} has {len(numbers)} numbers, the database holds vectors of {dims}")
    if not all(map(math.isfinite, numbers)):
        raise InvalidInputError(f"{what} holds NaN or infinity; pass finite numbers")
    if not any(numbers):
        raise InvalidInputError(f"{what} is all zeros, which is similar to nothing; pass a real embedding")
    if not MIN_LENGTH <= (length := math.hypot(*numbers)) <= MAX_LENGTH:
        raise InvalidInputError(f"{what} has the length {length:g}; accepted: {MIN_LENGTH:g} to {MAX_LENGTH:g}")
    return numbers


def _numbers(value: Any) -> list[float] | None:
    if isinstance(value, str | bytes):  # float() reads the digits of a text
        return None
    try:
        return list(map(float, value))
    except (TypeError, ValueError, OverflowError):
        return None
