"""How JSON values and times are kept in MongoDB, so that nothing is lost and the server compares them as filters mean.

- A key that the server would read as something else (with a dot, a dollar first, a number, empty) is percent-encoded.
- A float of 2**53 and more is kept as the decimal that its JSON text stands for: then the server compares every two
  numbers by their exact decimal values, as `memground.filters.matches` does. It comes back as the float it was.
- A time is text of one length, such as `2026-01-31T09:00:00.000000Z`: BSON dates have milliseconds only. It sorts as
  times do.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import unquote

from bson import Decimal128, Int64
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry

_EMPTY = "%"
_EXACT = 2.0**53
"""From here on, the decimal text of a float and its binary value may differ."""


def write_key(key: str) -> str:
    """A key of an object as the name of a field: no dot, no dollar first, not empty and no place in an array."""
    if not key:
        return _EMPTY
    coded = key.replace("%", "%25").replace(".", "%2E")
    if coded[0] == "$" or (coded.isascii() and coded.isdigit()):
        return f"%{ord(coded[0]):02X}{coded[1:]}"
    return coded


def read_key(name: str) -> str:
    """The key that a field's name stands for."""
    return "" if name == _EMPTY else unquote(name) if "%" in name else name


def write_value(value: Any) -> Any:
    """A JSON value as MongoDB keeps it."""
    match value:
        case float():
            return write_number(value)
        case dict():
            return {write_key(key): write_value(item) for key, item in cast("dict[str, Any]", value).items()}
        case list():
            return [write_value(item) for item in cast("list[Any]", value)]
        case _:
            return value


def read_value(value: Any) -> Any:
    """The JSON value that `write_value` was given; numbers were read by `OPTIONS` already."""
    match value:
        case dict():
            return {read_key(name): read_value(item) for name, item in cast("dict[str, Any]", value).items()}
        case list():
            return [read_value(item) for item in cast("list[Any]", value)]
        case _:
            return value


def write_number(number: float) -> int | float | Decimal128:
    if isinstance(number, float) and not -_EXACT < number < _EXACT:
        return Decimal128(float.__repr__(number))
    return number


def write_time(moment: datetime) -> str:
    """An aware datetime as text."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def read_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


class _Whole(TypeDecoder):
    """64-bit integers are plain ints."""

    @property
    def bson_type(self) -> Any:
        return Int64

    def transform_bson(self, value: Any) -> int:
        return int(value)


class _Float(TypeDecoder):
    """Decimals stand for the floats they were made of."""

    @property
    def bson_type(self) -> Any:
        return Decimal128

    def transform_bson(self, value: Any) -> float:
        return float(str(value))


type Document = dict[str, Any]

OPTIONS: CodecOptions[Document] = CodecOptions(
    document_class=dict, tz_aware=True, type_registry=TypeRegistry([_Whole(), _Float()])
)
"""How what MongoDB answers is read."""


def has_coded_keys(value: Any) -> bool:
    """Whether `read_value` has anything to do."""
    match value:
        case Mapping():
            items = cast("Mapping[str, Any]", value)
            return any("%" in name for name in items) or any(has_coded_keys(item) for item in items.values())
        case list():
            return any(has_coded_keys(item) for item in cast("list[Any]", value))
        case _:
            return False
