"""What a filter means: :func:`check` against the fields there are, :func:`matches` against one document.

The rules, which follow PostgreSQL's lax jsonpath:

- Two-valued: ``~f`` is the complement of ``f``, ``ne`` of ``eq``, ``not_in`` of ``in``. A missing path makes every
  other comparison false.
- Naming a member of an array names it in each object of that array (one level). At the end of a path a comparison
  holds if any value there satisfies it, an array standing for its elements (one level). ``between`` wants one value
  within both ends.
- ``exists`` and ``contains*`` see the array itself: an empty array exists; ``contains_all`` wants all in one array.
- Numbers compare by the exact decimal value of their JSON text, strings by code point, booleans and only booleans
  with booleans, datetimes as instants. Values of different kinds never match.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, TypeGuard, cast

from memground.errors import InvalidInputError
from memground.filters.tree import And, AnyElement, Comparison, Filter, Not, Or
from memground.filters.values import ARRAYS, OPERATORS, ORDERINGS, Operator, Scalar, exact, kind_of, show, utc

type FieldKind = Literal["json", "text", "number", "datetime", "boolean"]

_COMPLEMENTS: dict[str, Operator] = {"ne": "eq", "not_in": "in"}
_TESTS: dict[str, Callable[[int, int], bool]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def positive(comparison: Comparison) -> tuple[Comparison, bool]:
    """The comparison a compiler has to express, and whether its complement is meant.

    Of the three operators that are true of missing fields, ``ne`` becomes not ``eq``, ``not_in`` not ``in`` and
    ``exists`` false not ``exists`` true.
    """
    complement = _COMPLEMENTS.get(comparison.op)
    if complement is not None:
        return Comparison(comparison.path, complement, comparison.value), True
    if comparison.op == "exists" and comparison.value is False:
        return Comparison(comparison.path, "exists", True), True
    return comparison, False


# Against the fields there are ---------------------------------------------------------------------------------------


def check(filter: Filter, kinds: Mapping[str, FieldKind]) -> Filter:
    """``filter`` if it fits the fields in ``kinds`` (root name to kind), ISO strings on datetime fields made datetimes.

    Raises InvalidInputError for a field that is not there, a path into a field that has none, and an operator or value
    that the field cannot have.
    """
    match filter:
        case And(parts):
            return And(tuple(check(part, kinds) for part in parts))
        case Or(parts):
            return Or(tuple(check(part, kinds) for part in parts))
        case Not(part):
            return Not(check(part, kinds))
        case AnyElement(path, part):
            kind = _field_kind(filter, kinds)
            if kind != "json":
                raise InvalidInputError(f"operator 'any' on {show(path)}: a {kind} field has no elements")
            _check_inside(part)
            return filter
        case Comparison():
            kind = _field_kind(filter, kinds)
            if kind == "json":
                _check_inside(filter)
                return filter
            return _check_typed(filter, kind)
        case _:
            raise InvalidInputError(f"{show(filter)} is not a filter")


def _field_kind(node: Comparison | AnyElement, kinds: Mapping[str, FieldKind]) -> FieldKind:
    root = node.segments[0]
    kind = kinds.get(root)
    if kind is None:
        accepted = ", ".join(f"{name}.<path>" if known == "json" else name for name, known in sorted(kinds.items()))
        raise InvalidInputError(f"unknown filter field {show(node.path)}; accepted: {accepted}")
    if kind != "json" and len(node.segments) > 1:
        raise InvalidInputError(f"filter path {show(node.path)} goes into {root!r}, a {kind} field without members")
    return kind


def _check_inside(filter: Filter) -> None:
    """Inside JSON any field may be named, but no value is a datetime."""
    match filter:
        case And(parts) | Or(parts):
            for part in parts:
                _check_inside(part)
        case Not(part) | AnyElement(_, part):
            _check_inside(part)
        case Comparison(path, op):
            for value in filter.values:
                if isinstance(value, datetime):
                    raise InvalidInputError(
                        f"operator {op!r} on {show(path)} got the datetime {value.isoformat()}, but JSON holds none; "
                        f"compare with a string, a number or a boolean"
                    )
        case _:
            raise InvalidInputError(f"{show(filter)} is not a filter")


def _check_typed(comparison: Comparison, kind: FieldKind) -> Comparison:
    path, op = comparison.path, comparison.op
    if op == "exists":
        return comparison
    refused = ARRAYS | ORDERINGS if kind == "boolean" else ARRAYS
    if op in refused:
        accepted = ", ".join(name for name in OPERATORS if name not in refused)
        raise InvalidInputError(f"operator {op!r} does not apply to {show(path)}, a {kind} field; accepted: {accepted}")
    values = tuple(_typed_value(comparison, kind, value) for value in comparison.values)
    return Comparison(path, op, values if isinstance(comparison.value, tuple) else values[0])


def _typed_value(comparison: Comparison, kind: FieldKind, value: Scalar) -> Scalar:
    where = f"operator {comparison.op!r} on {show(comparison.path)}"
    if kind == "datetime" and isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidInputError(
                f"{where}, a datetime field, got {show(value)}; accepted: a timezone-aware datetime or its ISO 8601 "
                f"text, such as 2025-01-31T09:00:00+00:00"
            ) from error
        return utc(where, parsed)
    if kind_of(value) != kind:
        raise InvalidInputError(
            f"{where}, a {kind} field, got {show(value)} ({type(value).__name__}); accepted: a {kind}"
        )
    return value


# Against one document -----------------------------------------------------------------------------------------------


def matches(filter: Filter, document: Mapping[str, Any]) -> bool:
    """Whether ``document`` (root name to value; None or absent is missing) satisfies ``filter``.

    Values are what ``json.loads`` returns, plus Decimals and timezone-aware datetimes; anything else matches nothing.
    """
    match filter:
        case And(parts):
            return all(matches(part, document) for part in parts)
        case Or(parts):
            return any(matches(part, document) for part in parts)
        case Not(part):
            return not matches(part, document)
        case AnyElement(_, part):
            leaves = _leaves(_values_at(filter.segments, document))
            return any(matches(part, leaf) for leaf in leaves if _is_object(leaf))
        case Comparison(_, op):
            if op in _COMPLEMENTS:
                return not _holds(filter, _COMPLEMENTS[op], document)
            return _holds(filter, op, document)
        case _:
            raise InvalidInputError(f"{show(filter)} is not a filter")


def _holds(comparison: Comparison, op: Operator, document: Mapping[str, Any]) -> bool:
    found, wanted = _values_at(comparison.segments, document), comparison.values
    if op == "exists":
        return any(value is not None for value in found) is wanted[0]
    if op in ARRAYS:
        quantifier = all if op == "contains_all" else any
        return any(
            quantifier(any(_compare("eq", element, value) for element in array) for value in wanted)
            for array in found
            if _is_array(array)
        )
    if op == "in":
        return any(_compare("eq", leaf, value) for leaf in _leaves(found) for value in wanted)
    if op == "between":
        low, high = wanted
        return any(_compare("gte", leaf, low) and _compare("lte", leaf, high) for leaf in _leaves(found))
    return any(_compare(op, leaf, wanted[0]) for leaf in _leaves(found))


def _values_at(segments: tuple[str, ...], document: Mapping[str, Any]) -> list[object]:
    """The values a path leads to, arrays at its end not yet opened."""
    found: list[object] = [document]
    for segment in segments:
        found = [value[segment] for value in _leaves(found) if _is_object(value) and segment in value]
    return found


def _leaves(values: Sequence[object]) -> Iterator[Any]:
    """The values, each array replaced by its elements (one level)."""
    for value in values:
        if _is_array(value):
            yield from value
        else:
            yield value


def _is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _is_array(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def _compare(op: str, left: object, right: Scalar) -> bool:
    kind = kind_of(left)
    if kind is None or kind != kind_of(right):
        return False
    a, b = _comparable(left), _comparable(right)
    return _TESTS[op]((a > b) - (a < b), 0)


def _comparable(value: Any) -> Any:
    match value:
        case bool() | str():
            return value
        case datetime():
            # Instants: Python compares wall clocks when both share a zone, wrong where clocks go back.
            return value.astimezone(UTC)
        case _:
            return exact(cast("float | Decimal", value))
