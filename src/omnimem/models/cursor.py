"""Cursors: where a listing goes on, as an opaque text that only fits the listing it came from."""

import base64
import hashlib
import json
from typing import Any

from memground.errors import InvalidInputError
from memground.text import show

_MAX = 4_000


def write_cursor(place: list[Any], listing: object) -> str:
    """`place`: JSON-able values; `listing`: whatever tells one listing from another."""
    text = json.dumps([_mark(listing), *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: object, listing: object, *kinds: type) -> list[Any]:
    """The place. Raises InvalidInputError for a cursor of another listing, or one that is none."""
    wrong = InvalidInputError(
        f"cursor={show(cursor)} is not accepted; pass the cursor of the page before, with the same arguments"
    )
    if not isinstance(cursor, str) or len(cursor) > _MAX:
        raise wrong
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(found, list):
        raise wrong
    mark, *place = found  # pyright: ignore[reportUnknownVariableType]
    if mark != _mark(listing) or [type(value) for value in place] != list(kinds):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        raise wrong
    return place  # pyright: ignore[reportUnknownVariableType]


def _mark(listing: object) -> str:
    return hashlib.sha256(json.dumps(listing, sort_keys=True, default=str).encode()).hexdigest()[:12]
