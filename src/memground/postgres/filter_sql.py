"""Filters as SQL conditions. Paths and values are bound parameters; nothing is spliced into statement text.

A comparison inside JSON becomes one ``jsonb_path_match(column, path, vars)``, where keys stand in the path as JSON
strings and values in ``vars``. Lax jsonpath opens arrays more eagerly than :func:`memground.filters.matches` does
(twice, where a filter meets a comparison), so each predicate asks for the type of what it compares.
"""

import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Double,
    Float,
    Integer,
    Numeric,
    Text,
    and_,
    any_,
    collate,
    false,
    func,
    literal,
    not_,
    or_,
)
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH
from sqlalchemy.types import TypeEngine

from memground.filters import And, AnyElement, Comparison, FieldKind, Filter, Not, Or, Scalar, check, positive
from memground.filters.values import ARRAYS, ORDERINGS, exact

_SQL_TESTS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_JSONPATH_TESTS = {"eq": "==", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True)
class FilterColumn:
    """What a root name in a filter stands for: a column (or expression) and how its values compare.

    A NULL is a missing value. Text columns need a deterministic collation, as columns have unless declared otherwise.
    """

    kind: FieldKind
    column: ColumnElement[Any]

    @classmethod
    def json(cls, column: ColumnElement[Any]) -> "FilterColumn":
        """A jsonb column; paths go into it."""
        return cls("json", column)

    @classmethod
    def text(cls, column: ColumnElement[Any]) -> "FilterColumn":
        """A text or varchar column."""
        return cls("text", column)

    @classmethod
    def number(cls, column: ColumnElement[Any]) -> "FilterColumn":
        """An integer, numeric or floating point column; a NaN in it matches nothing."""
        return cls("number", column)

    @classmethod
    def datetime(cls, column: ColumnElement[Any]) -> "FilterColumn":
        """A ``timestamp with time zone`` column."""
        return cls("datetime", column)

    @classmethod
    def boolean(cls, column: ColumnElement[Any]) -> "FilterColumn":
        """A boolean column."""
        return cls("boolean", column)


def compile_sql(filter: Filter, columns: Mapping[str, FilterColumn]) -> ColumnElement[bool]:
    """The condition that is true of exactly the rows whose document :func:`memground.filters.matches`; never NULL.

    ``columns``: root name to column. Raises InvalidInputError when the filter does not fit them.
    """
    checked = check(filter, {name: column.kind for name, column in columns.items()})
    return _condition(checked, columns)


def _condition(node: Filter, columns: Mapping[str, FilterColumn]) -> ColumnElement[bool]:
    match node:
        case And(parts):
            return and_(*(_condition(part, columns) for part in parts))
        case Or(parts):
            return or_(*(_condition(part, columns) for part in parts))
        case Not(part):
            return not_(_condition(part, columns))
        case AnyElement():
            return _json_condition(node, columns[node.segments[0]].column)
        case Comparison():
            column = columns[node.segments[0]]
            wanted, negated = positive(node)
            if column.kind == "json":
                condition = _json_condition(wanted, column.column)
            else:
                condition = _typed_condition(wanted, column)
            return not_(condition) if negated else condition
        case _:
            raise TypeError(f"not a node of a filter: {type(node).__name__}")


# Typed columns ------------------------------------------------------------------------------------------------------


def _typed_condition(comparison: Comparison, column: FilterColumn) -> ColumnElement[bool]:
    if comparison.op == "exists":
        return column.column.is_not(None)
    match column.kind:
        case "number":
            return _number_condition(comparison, column.column)
        case "text":
            # Equality is by bytes in every deterministic collation; leaving it alone lets an index serve it.
            left = collate(column.column, "C") if comparison.op in ORDERINGS else column.column
            return _compared(comparison.op, left, Text(), comparison.values)
        case "datetime":
            return _compared(comparison.op, column.column, DateTime(timezone=True), comparison.values)
        case _:
            return _compared(comparison.op, column.column, Boolean(), comparison.values)


def _number_condition(comparison: Comparison, column: ColumnElement[Any]) -> ColumnElement[bool]:
    op, numbers = comparison.op, cast("tuple[int | float, ...]", comparison.values)
    if isinstance(column.type, Integer) and all(isinstance(number, int) for number in numbers):
        return _compared(op, column, BigInteger(), numbers)
    if isinstance(column.type, Float):
        condition = _compared("in" if op == "eq" else op, column, Double[float](), _doubles(op, numbers))
        return and_(column != literal(math.nan, Double[float]()), condition)
    condition = _compared(op, column, Numeric(), [Decimal(exact(number)) for number in numbers])
    return and_(column != literal(Decimal("NaN"), Numeric()), condition)


def _doubles(op: str, numbers: Sequence[int | float]) -> list[float]:
    """The doubles that divide a column of doubles as ``numbers`` do: no integer beyond 2**53 is rounded."""
    match op:
        case "eq" | "in":
            return [float(number) for number in numbers if exact(float(number)) == exact(number)]
        case "between":
            return [_double_beside(numbers[0], above=True), _double_beside(numbers[1], above=False)]
        case _:
            return [_double_beside(numbers[0], above=op in ("gte", "lt"))]


def _double_beside(number: int | float, above: bool) -> float:
    """The double equal to ``number``, or the next one above or below it."""
    near = float(number)
    if exact(near) == exact(number) or (exact(near) > exact(number)) is above:
        return near
    return math.nextafter(near, math.inf if above else -math.inf)


def _compared(op: str, left: ColumnElement[Any], kind: TypeEngine[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    if op == "in":
        # One array parameter, so that the statement text does not depend on how many values there are.
        test = left == any_(literal(list(values), ARRAY(kind)))
    elif op == "between":
        low, high = values
        test = left.between(literal(low, kind), literal(high, kind))
    else:
        test = _SQL_TESTS[op](left, literal(values[0], kind))
    # `IS NOT NULL AND` rather than coalesce: as two-valued, and an index can still serve the test.
    return and_(left.is_not(None), test)


# JSON ---------------------------------------------------------------------------------------------------------------


def _json_condition(node: Comparison | AnyElement, column: ColumnElement[Any]) -> ColumnElement[bool]:
    path = _JsonPath()
    predicate = path.predicate(node, "$", node.segments[1:])
    matched = func.jsonb_path_match(column, literal(predicate, JSONPATH()), literal(path.variables, JSONB()))
    return func.coalesce(matched, false(), type_=Boolean())


class _JsonPath:
    """Writes one jsonpath predicate, collecting the values it compares with as variables."""

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}

    def predicate(self, node: Comparison | AnyElement, base: str, segments: Sequence[str]) -> str:
        """The predicate for ``node``, its path being ``segments`` from ``base``; never unknown below the root."""
        if isinstance(node, AnyElement):
            return f'exists({_at(base, segments)} ? (@.type() == "object" && ({self._inside(node.part)})))'
        if node.op == "exists":
            return f'exists({_at(base, segments)}.type() ? (@ != "null"))'
        if node.op not in ARRAYS:
            # The filter opens an array; what then still is one was nested and would be opened a second time.
            return f'exists({_at(base, segments)} ? (@.type() != "array" && {self._test(node)}))'
        if not segments:
            return self._array_test(node, base)
        # A filter cannot see an array, only its elements; so ask the object that holds it.
        parent, member = _at(base, segments[:-1]), _at("@", segments[-1:])
        return f'exists({parent} ? (@.type() == "object" && {self._array_test(node, member)}))'

    def _inside(self, part: Filter) -> str:
        """The predicate for ``part`` on one element, ``@``; true or false, so that ``!`` is the complement."""
        match part:
            case And(parts):
                return " && ".join(f"({self._inside(each)})" for each in parts)
            case Or(parts):
                return " || ".join(f"({self._inside(each)})" for each in parts)
            case Not(inner):
                return f"!({self._inside(inner)})"
            case AnyElement():
                return self.predicate(part, "@", part.segments)
            case Comparison():
                wanted, negated = positive(part)
                predicate = self.predicate(wanted, "@", wanted.segments)
                return f"!({predicate})" if negated else predicate
            case _:
                raise TypeError(f"not a node of a filter: {type(part).__name__}")

    def _test(self, comparison: Comparison) -> str:
        """``@``, no array, against the values. Different types compare as unknown, which a filter drops."""
        match comparison.op:
            case "between":
                low, high = (self._variable(value) for value in comparison.values)
                return f"@ >= {low} && @ <= {high}"
            case "in":
                return f"@ == {self._variable(comparison.values)}[*]"
            case op:
                return f"@ {_JSONPATH_TESTS[op]} {self._variable(comparison.value)}"

    def _array_test(self, comparison: Comparison, array: str) -> str:
        """``array``, a path to one value, is an array holding the values; ``==`` opens exactly that array."""
        if comparison.op == "contains_any":
            tests = [f"{array} == {self._variable(comparison.values)}[*]"]
        else:
            tests = [f"{array} == {self._variable(value)}" for value in comparison.values]
        return " && ".join([f'{array}.type() == "array"', *tests])

    def _variable(self, value: Scalar | tuple[Scalar, ...]) -> str:
        name = f"v{len(self.variables)}"
        self.variables[name] = value
        return f"${name}"


def _at(base: str, segments: Sequence[str]) -> str:
    return base + "".join("." + json.dumps(segment, ensure_ascii=False) for segment in segments)
