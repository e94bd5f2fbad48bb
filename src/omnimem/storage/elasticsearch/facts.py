"""Facts: what a document says of each of its paths, written as terms.

Elasticsearch flattens documents and forgets shapes: an empty array is nothing, one value and an array of one are the
same, 4 and 4.0 are two fields. So every document, and every object of an array of objects, carries terms that say what
a filter may ask: `path NUL kind value`. They lie in one field, whatever keys the documents have, so no limit on the
number of fields touches them. Terms of one kind sort as their values do, so a range of values is a range of terms.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any

from memground.filters.values import exact

FACTS = "__facts"
"""The field of the facts, in the document and in each of its nested objects. No key can be written like it."""
MAX_PATH = 1_000
"""Characters of a path that facts are kept for; a filter's path has half as many at most."""
MAX_SORTED = 192
"""Characters of a string that stands in a term itself; a longer one stands by its hash."""
MAX_BOUND = 249
"""Characters of the end of a range of terms: Elasticsearch takes 1,000 bytes."""
_MAX_PATH_BYTES = 200
"""A longer path stands in a fact by its hash, so that path and string together fit the end of a range."""


class Kind(StrEnum):
    """What a fact says of its path. Values follow where the kind has some."""

    EXISTS = "x"
    """There is a value other than null."""
    OBJECT = "o"
    """An object lies there, with no array on the way: the only value there is."""
    ARRAY = "a"
    """An array lies there."""
    ARRAYS = "w"
    """More than one array lies there, by an array of objects on the way."""
    MIXED = "m"
    """Both an array and a single value lie there, by an array of objects on the way."""
    UNTYPED = "u"
    """A value there has no field of its own."""
    BOOLEAN = "b"
    NUMBER = "n"
    STRING = "s"
    HASHED = "h"
    """A long string, by its hash."""
    LONG = "l"
    """A long string lies there, whichever."""


OPAQUE = "\0?"
"""Says of a document that its facts are not all there: it passes every filter, which is finished on truth."""
UNNESTED = "\0E"
"""Says of a document that objects of its arrays are not there on their own."""
UNTYPED = "\0U"
"""Says of a document that no value has a field of its own."""

_ESCAPED = re.compile(r"[^\w-]|(?<=_)_")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HALF = 5_000
_NINES = str.maketrans("0123456789", "9876543210")


@lru_cache(maxsize=4_096)
def segment(key: str) -> str:
    """A key as a segment of a path, one to one: without dots, spaces, wildcards and `__`, which begins a suffix."""
    return _ESCAPED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), key) or "%"


def path_of(segments: Sequence[str]) -> str:
    """The path to a value, as facts and fields write it."""
    return ".".join(segment(key) for key in segments)


def fact(path: str, kind: Kind, value: str = "") -> str:
    return f"{_short(path)}\0{kind}{value}"


def equal(path: str, value: Any) -> str | None:
    """The fact that says a path has this value; None for what equals nothing (null, arrays, objects)."""
    match value:
        case bool():
            return fact(path, Kind.BOOLEAN, str(int(value)))
        case str():
            if len(value) <= MAX_SORTED:
                return fact(path, Kind.STRING, value)
            return fact(path, Kind.HASHED, _hash(value))
        case datetime():
            return fact(path, Kind.NUMBER, sortable(microseconds(value)))
        case int() | float() | Decimal():
            return fact(path, Kind.NUMBER, sortable(exact(value)))
        case _:
            return None


def beyond(path: str, kind: Kind) -> str:
    """The term behind all facts of this kind about a path."""
    return f"{_short(path)}\0{chr(ord(kind) + 1)}"


def _short(path: str) -> str:
    return path if len(path) <= _MAX_PATH_BYTES // 4 or len(path.encode()) <= _MAX_PATH_BYTES else f"%%{_hash(path)}"


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def microseconds(moment: datetime) -> int:
    """Since 1970. Times are kept as such: a date of Elasticsearch's has milliseconds."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def sortable(number: int | Decimal) -> str:
    """A text that sorts by code point as the numbers do, the same for 4 and 4.0."""
    plain = Decimal(number)
    if not plain:
        return "1"
    power = plain.adjusted() + _HALF
    digits = "".join(map(str, plain.as_tuple().digits)).rstrip("0")
    if plain > 0:
        return f"2{power:04d}{digits}"
    return f"0{2 * _HALF - power:04d}{digits.translate(_NINES)}~"
