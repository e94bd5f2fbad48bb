"""What stands in a filter: operators, paths and values, each checked where it enters."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, cast, get_args

from memground.errors import InvalidInputError
from memground.text import show

type Scalar = str | int | float | bool | datetime
type ScalarKind = Literal["text", "number", "boolean", "datetime"]
# fmt: off
Operator = Literal[
    "eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "exists", "contains", "contains_any", "contains_all",
    "between",
]
# fmt: on

MAX_PATH_LENGTH = 500
MAX_SEGMENTS = 32
MAX_LIST_LENGTH = 1_000
MAX_TEXT_LENGTH = 10_000

OPERATORS: tuple[str, ...] = get_args(Operator)
ORDERINGS = frozenset({"gt", "gte", "lt", "lte", "between"})
LISTS = frozenset({"in", "not_in", "contains_any", "contains_all"})
ARRAYS = frozenset({"contains", "contains_any", "contains_all"})
LOGIC = frozenset({"and", "or", "not"})

_INT64 = range(-(2**63), 2**63)
_SEGMENT = re.compile(r'(?:"((?:[^"\\]|\\["\\])+)"|([^."\[\]]+))(?:\[\*\])?')
_BARE = re.compile(r'[^."\[\]]+')
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_PATH_HELP = 'accepted: dot separated names such as data.items.price, a name with dots or quotes as data."a.b"'


def split_path(path: str) -> tuple[str, ...]:
    """The segments of a path, unquoted. Raises InvalidInputError when it is malformed or too long."""
    if not isinstance(path, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"a filter path must be a string, not {show(path)}; {_PATH_HELP}")
    if len(path) > MAX_PATH_LENGTH:
        raise InvalidInputError(
            f"filter path {show(path)} has {len(path)} characters; at most {MAX_PATH_LENGTH} are accepted"
        )
    _check_storable(path, "filter path")
    segments: list[str] = []
    position = 0
    while True:
        found = _SEGMENT.match(path, position)
        if found is None:
            raise InvalidInputError(f"filter path {show(path)} is malformed at character {position}; {_PATH_HELP}")
        quoted, bare = found.groups()
        segments.append(bare or re.sub(r"\\(.)", r"\1", quoted))
        position = found.end()
        if position == len(path):
            break
        if path[position] != ".":
            raise InvalidInputError(f"filter path {show(path)} is malformed at character {position}; {_PATH_HELP}")
        position += 1
    if len(segments) > MAX_SEGMENTS:
        raise InvalidInputError(
            f"filter path {show(path)} has {len(segments)} segments; at most {MAX_SEGMENTS} are accepted"
        )
    return tuple(segments)


def join_path(segments: tuple[str, ...]) -> str:
    """The one spelling of a path; never a bare ``and``, ``or`` or ``not``, which are logic in the JSON form."""
    if len(segments) == 1 and segments[0] in LOGIC:
        return f'"{segments[0]}"'
    return ".".join(
        segment if _BARE.fullmatch(segment) else '"' + re.sub(r'(["\\])', r"\\\1", segment) + '"'
        for segment in segments
    )


def kind_of(value: object) -> ScalarKind | None:
    """The kind by which values compare; None for what never matches (null, arrays, objects, NaN, naive datetimes)."""
    match value:
        case bool():
            return "boolean"
        case int():
            return "number"
        case float() | Decimal():
            return None if math.isnan(value) else "number"
        case str():
            return "text"
        case datetime():
            return None if value.utcoffset() is None else "datetime"
        case _:
            return None


def exact(number: float | Decimal) -> int | Decimal:
    """The number its JSON text stands for: 0.1 is one tenth, as in PostgreSQL's numeric."""
    # float.__repr__, because subclasses such as numpy's print themselves differently.
    return Decimal(float.__repr__(number)) if isinstance(number, float) else number


def utc(where: str, value: datetime) -> datetime:
    """``value`` in UTC. Raises InvalidInputError, beginning with ``where``, when it is naive or out of range."""
    if value.utcoffset() is None:
        raise InvalidInputError(f"{where} got the naive datetime {value.isoformat()}; give it a timezone")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidInputError(f"{where} got {value.isoformat()}, which is outside the years 1 to 9999 UTC") from None


def checked_value(path: str, op: str, value: object) -> Scalar | tuple[Scalar, ...]:
    """``value`` as a comparison keeps it. Raises InvalidInputError when ``op`` does not take it."""
    if op not in OPERATORS:
        accepted = ", ".join(OPERATORS)
        raise InvalidInputError(f"unknown operator {show(op)} for {show(path)}; accepted: {accepted}, any")
    where = f"operator {op!r} on {show(path)}"
    if op == "exists":
        if not isinstance(value, bool):
            raise InvalidInputError(f"{where} takes true or false, not {show(value)}")
        return value
    if op not in LISTS and op != "between":
        return _checked_scalar(where, op, value)
    if not isinstance(value, list | tuple):
        raise InvalidInputError(f"{where} takes a list of values, not {show(value)}")
    items = cast("Sequence[object]", value)
    if len(items) > MAX_LIST_LENGTH:
        raise InvalidInputError(f"{where} has {len(items)} values; at most {MAX_LIST_LENGTH} are accepted")
    values = tuple(_checked_scalar(where, op, item) for item in items)
    if op == "between" and (len(values) != 2 or kind_of(values[0]) != kind_of(values[1])):
        raise InvalidInputError(f"{where} takes two values of one type, [low, high], not {show(items)}")
    return values


def _checked_scalar(where: str, op: str, value: object) -> Scalar:
    match value:
        case None:
            raise InvalidInputError(f"{where} got null; use exists(False) for a field that is missing or null")
        case bool():
            if op in ORDERINGS:
                raise InvalidInputError(
                    f"{where} got {value}; booleans have no order, accepted: number, string, datetime"
                )
            return value
        case int():
            if value not in _INT64:
                raise InvalidInputError(f"{where} got an integer that does not fit 64 bits: {show(value)}")
            return value
        case float():
            if not math.isfinite(value):
                raise InvalidInputError(f"{where} got {value}; numbers must be finite")
            return value
        case str():
            if len(value) > MAX_TEXT_LENGTH:
                raise InvalidInputError(
                    f"{where} got a string of {len(value)} characters; at most {MAX_TEXT_LENGTH} are accepted"
                )
            _check_storable(value, f"{where}: the string")
            return value
        case datetime():
            return utc(where, value)
        case _:
            raise InvalidInputError(
                f"{where} got {show(value)} ({type(value).__name__}); accepted: string, integer, finite float, "
                f"boolean, timezone-aware datetime{_list_hint(value)}"
            )


def _list_hint(value: object) -> str:
    return "; for a list of values use in, contains_any or contains_all" if isinstance(value, list | tuple) else ""


def _check_storable(text: str, what: str) -> None:
    if _UNSTORABLE.search(text):
        raise InvalidInputError(f"{what} {show(text)} holds a NUL character or a lone surrogate, which no store keeps")
