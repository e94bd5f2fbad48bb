"""The checks every public call makes before anything is written."""

import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from memground.clock import as_utc
from memground.errors import InvalidInputError
from memground.text import check_json, check_text

MAX_QUERY = 10_000
MAX_LIMIT = 1_000


def name(value: object, what: str, *, limit: int = 255) -> str:
    """A short identifying text: user id, session id, key, type."""
    return check_text(value, what, limit=limit)


def optional_name(value: object, what: str, *, limit: int = 255) -> str | None:
    return None if value is None else name(value, what, limit=limit)


def query(value: object) -> str:
    return check_text(value, "query", limit=MAX_QUERY)


def limit(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_LIMIT:
        raise InvalidInputError(f"limit={value!r} is not accepted; pass a whole number from 1 to {MAX_LIMIT:,}")
    return value


def identifier(value: object, what: str) -> uuid.UUID:
    """A memory or message id as a UUID."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)  # pyright: ignore[reportArgumentType]
    except (ValueError, TypeError, AttributeError):
        raise InvalidInputError(f"{what}={value!r} is no id; pass the {what} of a result (a UUID)") from None


def metadata(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"metadata must be a dict, got {type(value).__name__} {value!r:.80}")
    return check_json(value, "metadata")


def importance(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10:
        raise InvalidInputError(f"importance={value!r} is not accepted; pass a whole number from 1 to 10")
    return value


def moment(value: datetime | None, what: str) -> datetime | None:
    return None if value is None else as_utc(value, what)


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
    try:
        numbers = [float(x) for x in value]
    except (TypeError, ValueError):
        raise InvalidInputError(f"{what} must be a list of {dims} numbers, got {type(value).__name__}") from None
    if len(numbers) != dims:
        raise InvalidInputError(f"{what} has {len(numbers)} numbers, the database holds vectors of {dims}")
    if not all(map(math.isfinite, numbers)):
        raise InvalidInputError(f"{what} holds NaN or infinity; pass finite numbers")
    if not any(numbers):
        raise InvalidInputError(f"{what} is all zeros, which is similar to nothing; pass a real embedding")
    return numbers
