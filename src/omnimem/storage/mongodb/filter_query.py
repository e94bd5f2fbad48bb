"""Filters as MongoDB queries. Values stand in the query as values; a name is coded (`coding.write_key`), never spliced.

What the query language says exactly is said in it, so that an index may serve it: a dotted path goes into arrays as the
filter's does, one level at each name. What must hold of one and the same value (`between`, `contains_all`, `any`) is an
expression that walks the path by itself.

A query that would be nested too deep or grow too large for the server leaves the parts that make it so to
`memground.filters.matches`: it then finds all that pass and maybe more.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

import bson

from memground.filters import And, AnyElement, Comparison, FieldKind, Filter, Not, Or, Scalar, check, positive
from memground.filters.values import ARRAYS, ORDERINGS, kind_of
from omnimem.storage.mongodb.coding import write_key, write_number, write_time

_MAX_DEPTH = 120
"""Levels of one comparison; the server takes 200 of a whole command, of which groups may take up to 130."""
_MAX_GROUPED = 180
_MAX_BYTES = 4_000_000
"""Of all comparisons together; the server takes 16 MB of a whole command."""
_NOT_NULL = ["object", "array", "string", "bool", "int", "long", "double", "decimal"]
_NAMES = {"eq": "$eq", "gt": "$gt", "gte": "$gte", "lt": "$lt", "lte": "$lte", "in": "$in"}

type Query = dict[str, Any]
type Test = Callable[[str], Any]
"""From a variable to the expression that tests its value."""


@dataclass(frozen=True)
class CompiledFilter:
    """`query` finds the documents that pass; where it is not `exact`, maybe others too."""

    query: Query
    exact: bool


def compile_query(filter: Filter, fields: Mapping[str, FieldKind]) -> CompiledFilter:
    """The query whose documents are exactly those :func:`memground.filters.matches`, or more where it says so.

    `fields`: root name to kind; the document has them under these names, as `coding` writes them. Raises
    InvalidInputError when the filter does not fit them.
    """
    compiler = _Compiler(fields)
    query = compiler.condition(check(filter, fields), negated=False, depth=0)
    return CompiledFilter(query or {}, compiler.exact)


class _Compiler:
    """Compiles one filter. Negations move down to the comparisons, so that leaving one out only ever widens."""

    def __init__(self, fields: Mapping[str, FieldKind]) -> None:
        self._fields = fields
        self._bytes = 0
        self.exact = True

    def condition(self, node: Filter, *, negated: bool, depth: int) -> Query | None:
        """None: everything may pass."""
        match node:
            case Not(part):
                return self.condition(part, negated=not negated, depth=depth)
            case And(parts) | Or(parts):
                inner = depth + 2 if len(parts) > 1 else depth
                found = [self.condition(part, negated=negated, depth=inner) for part in parts]
                kept = [query for query in found if query is not None]
                if isinstance(node, Or) is not negated:
                    return _group("$or", kept) if len(kept) == len(found) else None
                return _group("$and", kept) if kept else None
            case Comparison():
                wanted, complement = positive(node)
                kind = self._fields[node.segments[0]]
                query = _json_query(wanted) if kind == "json" else _typed_query(wanted)
                return self._fitting({"$nor": [query]} if negated is not complement else query, depth)
            case AnyElement():
                query = _expression(node)
                return self._fitting({"$nor": [query]} if negated else query, depth)
            case _:
                raise TypeError(f"not a node of a filter: {type(node).__name__}")

    def _fitting(self, query: Query, depth: int) -> Query | None:
        """The query if the server takes it at this place; otherwise it is left out."""
        own = _depth(query)
        if own <= _MAX_DEPTH and own + depth <= _MAX_GROUPED:
            size = len(bson.encode(query))
            if self._bytes + size <= _MAX_BYTES:
                self._bytes += size
                return query
        self.exact = False
        return None


def _group(name: str, parts: list[Query]) -> Query:
    return parts[0] if len(parts) == 1 else {name: parts}


def _depth(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(_depth, value.values()), default=0)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case list():
            return 1 + max(map(_depth, value), default=0)  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return 0


def _written(value: Scalar) -> Any:
    match value:
        case datetime():
            return write_time(value)
        case float():
            return write_number(value)
        case _:
            return value


# In the query language ---------------------------------------------------------------------------------------------


def _typed_query(comparison: Comparison) -> Query:
    """A field that holds one value, or null, or is not there."""
    if comparison.op == "exists":
        return {comparison.segments[0]: {"$ne": None}}
    values = [_written(value) for value in comparison.values]
    if comparison.op == "between":
        return {comparison.segments[0]: {"$gte": values[0], "$lte": values[1]}}
    return {comparison.segments[0]: {_NAMES[comparison.op]: values if comparison.op == "in" else values[0]}}


def _json_query(comparison: Comparison) -> Query:
    path = ".".join(write_key(segment) for segment in comparison.segments)
    values = [_written(value) for value in comparison.values]
    match comparison.op:
        case "exists":
            return {path: {"$type": _NOT_NULL}}
        case "contains_all" if not values:
            return {path: {"$type": "array"}}
        case "between" | "contains_all":
            return _expression(comparison)
        case "contains":
            return {path: {"$elemMatch": {"$eq": values[0]}}}
        case "contains_any":
            return {path: {"$elemMatch": {"$in": values}}}
        case op:
            return {path: {_NAMES[op]: values if op == "in" else values[0]}}


# As expressions ----------------------------------------------------------------------------------------------------


def _expression(node: Comparison | AnyElement) -> Query:
    root, *rest = node.segments
    return {"$expr": _Expression().holds(node, f"${write_key(root)}", rest)}


class _Expression:
    """Writes one expression; every element it looks at has a variable of its own."""

    def __init__(self) -> None:
        self._numbers = count()

    def holds(self, node: Comparison | AnyElement, value: str, segments: list[str]) -> Any:
        """Whether `node` holds, its path being `segments` from `value`."""
        if isinstance(node, AnyElement):
            return self._walk(value, segments, lambda element: self._object(node.part, element), opened=True)
        if node.op == "exists":
            return self._walk(value, segments, lambda found: {"$gt": [found, None]}, opened=False)
        if node.op in ARRAYS:
            return self._walk(value, segments, lambda found: _array_test(node, found), opened=False)
        return self._walk(value, segments, lambda element: _test(node, element), opened=True)

    def _walk(self, value: str, segments: list[str], test: Test, *, opened: bool) -> Any:
        """Whether any value the path leads to passes; `opened`: an array at its end stands for its elements."""
        if not segments and not opened:
            return test(value)
        name = f"e{next(self._numbers)}"
        element = f"$${name}"
        if segments:
            # An array in an array is not gone into: a name is looked for in objects only.
            member = self._walk(f"{element}.{write_key(segments[0])}", segments[1:], test, opened=opened)
            passes: Any = {"$and": [{"$not": [{"$isArray": [element]}]}, member]}
        else:
            passes = test(element)
        elements = {"$cond": [{"$isArray": [value]}, value, [value]]}
        return {"$anyElementTrue": [{"$map": {"input": elements, "as": name, "in": passes}}]}

    def _object(self, part: Filter, element: str) -> Any:
        return {"$and": [{"$eq": [{"$type": element}, "object"]}, self._inside(part, element)]}

    def _inside(self, part: Filter, element: str) -> Any:
        match part:
            case And(parts):
                return {"$and": [self._inside(each, element) for each in parts]}
            case Or(parts):
                return {"$or": [self._inside(each, element) for each in parts]}
            case Not(inner):
                return {"$not": [self._inside(inner, element)]}
            case AnyElement():
                return self._member(part, element)
            case Comparison():
                wanted, complement = positive(part)
                found = self._member(wanted, element)
                return {"$not": [found]} if complement else found
            case _:
                raise TypeError(f"not a node of a filter: {type(part).__name__}")

    def _member(self, node: Comparison | AnyElement, element: str) -> Any:
        first, *rest = node.segments
        return self.holds(node, f"{element}.{write_key(first)}", rest)


def _literal(value: Any) -> Any:
    return {"$literal": value}


def _test(comparison: Comparison, element: str) -> Any:
    """Expressions compare values of any two types; those of different types are told apart first."""
    values = [_written(value) for value in comparison.values]
    if comparison.op == "in":
        return {"$in": [element, _literal(values)]}
    if comparison.op not in ORDERINGS:
        return {"$eq": [element, _literal(values[0])]}
    is_text = kind_of(comparison.values[0]) == "text"
    alike = {"$eq": [{"$type": element}, "string"]} if is_text else {"$isNumber": element}
    if comparison.op == "between":
        low, high = values
        return {"$and": [alike, {"$gte": [element, _literal(low)]}, {"$lte": [element, _literal(high)]}]}
    return {"$and": [alike, {_NAMES[comparison.op]: [element, _literal(values[0])]}]}


def _array_test(comparison: Comparison, found: str) -> Any:
    wanted = _literal([_written(value) for value in comparison.values])
    if comparison.op == "contains_any":
        held: Any = {"$gt": [{"$size": {"$setIntersection": [wanted, found]}}, 0]}
    else:
        held = {"$setIsSubset": [wanted, found]}
    return {"$cond": [{"$isArray": [found]}, held, False]}
