"""The JSON form of a filter, both ways."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from memground.errors import InvalidInputError
from memground.filters.tree import (
    MAX_DEPTH,
    MAX_NODES,
    And,
    AnyElement,
    Comparison,
    Filter,
    Not,
    Or,
    too_deep,
    too_large,
)
from memground.filters.values import LOGIC, OPERATORS, Operator, Scalar, show


def parse(value: Filter | Mapping[str, Any] | None) -> Filter | None:
    """What a caller passed as ``where=`` or ``filters=``; None and ``{}`` mean no filter.

    Raises InvalidInputError as :func:`from_json` does.
    """
    if value is None or isinstance(value, Filter):
        return value
    if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(
            f"{show(value)} is not a filter; accepted: a comparison such as F('data.x') == 1, its JSON form, or None"
        )
    return from_json(value) if value else None


def from_json(value: Mapping[str, Any]) -> Filter:
    """Read the JSON form; several keys in one object all hold.

    Datetimes arrive as ISO 8601 strings; :func:`~memground.filters.check` turns them into datetimes where the field is
    one. Raises InvalidInputError naming the operator, path or value that is wrong and what is accepted.
    """
    return _Reader().read(value, 1)


def to_json(filter: Filter) -> dict[str, Any]:
    """The JSON form; datetimes become ISO 8601 strings in UTC."""
    match filter:
        case And(parts):
            return {"and": [to_json(part) for part in parts]}
        case Or(parts):
            return {"or": [to_json(part) for part in parts]}
        case Not(part):
            return {"not": to_json(part)}
        case AnyElement(path, part):
            return {path: {"any": to_json(part)}}
        case Comparison(path, op, value):
            plain = [_plain(item) for item in value] if isinstance(value, tuple) else _plain(value)
            return {path: {op: plain}}
        case _:
            raise InvalidInputError(f"{show(filter)} is not a filter")


def _plain(value: Scalar) -> str | int | float | bool:
    return value.isoformat() if isinstance(value, datetime) else value


class _Reader:
    """Reads one JSON form, counting entries so that a huge input is refused before all of it is read."""

    def __init__(self) -> None:
        self._entries = 0

    def read(self, value: object, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise too_deep()
        if not isinstance(value, Mapping):
            raise InvalidInputError(f'{show(value)} is not a filter; accepted: an object such as {{"data.x": 1}}')
        entries = cast("Mapping[object, object]", value)
        parts = [part for key, entry in entries.items() for part in self._entry(key, entry, depth)]
        if not parts:
            raise InvalidInputError("an empty filter {}; give at least one field, or no filter at all")
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _entry(self, key: object, value: object, depth: int) -> list[Filter]:
        self._count()
        if not isinstance(key, str):
            raise InvalidInputError(f"filter key {show(key)} is not a string; accepted: a path, and, or, not")
        if key == "not":
            return [Not(self.read(value, depth + 1))]
        if key in LOGIC:
            if not isinstance(value, list | tuple):
                raise InvalidInputError(f"{key!r} takes a list of filters, not {show(value)}")
            parts = tuple(self.read(part, depth + 1) for part in cast("Sequence[object]", value))
            return [And(parts) if key == "and" else Or(parts)]
        if not isinstance(value, Mapping):
            return [Comparison(key, "eq", cast("Scalar", value))]
        operations = cast("Mapping[object, object]", value)
        if not operations:
            raise InvalidInputError(f"no operator for {show(key)}; accepted: {', '.join(OPERATORS)}, any")
        return [self._operation(key, op, operand, depth) for op, operand in operations.items()]

    def _operation(self, path: str, op: object, value: object, depth: int) -> Filter:
        self._count()
        if op == "any":
            return AnyElement(path, self.read(value, depth + 1))
        return Comparison(path, cast("Operator", op), cast("Scalar", value))

    def _count(self) -> None:
        self._entries += 1
        if self._entries > 2 * MAX_NODES:  # a node takes at most two entries: its path and its operator
            raise too_large()
