"""Filters as conditions of Elasticsearch's, in two readings: what may pass, and what passes for sure.

Where the index can decide a comparison the two are one. Where it cannot (a field beyond the mapping's limit whose value
is a long string, an array beside a single value), `may` holds too much and `must` too little, never the other way;
`~f` may pass where `f` does not pass for sure. So what is asked is never a subset, and the truth finishes it.

A comparison is about the facts (`facts.py`) of a document or, under `any`, of an object that was indexed on its own.
Order is asked of the typed fields where there are some: they are faster than a range of facts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, cast

from memground.filters import And, AnyElement, Comparison, Filter, Not, Or, Scalar, positive
from memground.filters.values import ORDERINGS, exact, kind_of
from omnimem.storage.elasticsearch.clauses import (
    EVERY,
    NOTHING,
    Clause,
    Leaf,
    Terms,
    all_of,
    any_of,
    nested,
    none_of,
    terms,
)
from omnimem.storage.elasticsearch.facts import (
    FACTS,
    MAX_BOUND,
    MAX_PATH,
    MAX_SORTED,
    OPAQUE,
    UNNESTED,
    UNTYPED,
    Kind,
    beyond,
    equal,
    fact,
    microseconds,
    path_of,
)
from omnimem.storage.elasticsearch.mapping import UNTYPED_FIELDS, suffixed

MAX_CLAUSES = 600
"""Clauses a filter may take of the 1,024 that Elasticsearch always accepts; the question's words take others."""
MAX_LEVELS = 20
"""Levels a filter may take of Elasticsearch's 30."""
_MAX_STEPS = 2_000
"""Nodes visited at most: a path into arrays of objects has many readings."""
_IGNORED = "_ignored"
_INT64 = (-(2**63), 2**63 - 1)
_RANGES: dict[str, tuple[str, ...]] = {op: (op,) for op in ("gt", "gte", "lt", "lte")} | {"between": ("gte", "lte")}


@dataclass(frozen=True)
class Bounds:
    """What may pass, and what passes for sure. One and the same object where the index decides."""

    may: Clause
    must: Clause

    @property
    def exact(self) -> bool:
        return self.may is self.must

    def negated(self) -> "Bounds":
        if self.exact:
            return _decided(none_of(self.may))
        return Bounds(none_of(self.must), none_of(self.may))


UNDECIDED = Bounds(EVERY, NOTHING)
DECIDED = "decided"
"""The name of the condition that a document passes for sure."""


def compile_bounds(filter: Filter) -> Bounds:
    """Both readings of a filter that was checked against the fields there are."""
    return _Compiler().node(filter, _Level())


def condition(filter: Filter) -> dict[str, Any]:
    """The condition for every document that may pass a filter that was checked. Hits that pass it for sure name it
    (`matched_queries`: `DECIDED`)."""
    bounds = compile_bounds(filter)
    opaque = terms(FACTS, [OPAQUE])
    sure = all_of([bounds.must, none_of(opaque)])
    options = [{"bool": {"filter": [sure.body], "_name": DECIDED}}, opaque.body]
    if not bounds.exact:
        options.append(bounds.may.body)
    return {"bool": {"should": options, "minimum_should_match": 1}}


def _decided(clause: Clause) -> Bounds:
    return Bounds(clause, clause)


@dataclass(frozen=True)
class _Level:
    """Where paths begin: at the document or at a nested one (`field`), `prefix` further down in it."""

    field: str = ""
    prefix: tuple[str, ...] = ()

    @property
    def is_root(self) -> bool:
        return not self.field

    def name(self, field: str) -> str:
        return f"{self.field}.{field}" if self.field else field

    @property
    def facts(self) -> str:
        return self.name(FACTS)

    def fact(self, path: str, kind: Kind) -> Clause:
        return terms(self.facts, [fact(path, kind)])


@dataclass
class _Compiler:
    """One filter's compilation. `relied`: fields of nested objects that it needs to be there."""

    steps: int = 0
    relied: list[str] = field(default_factory=list[str])

    def node(self, node: Filter, level: _Level) -> Bounds:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            return UNDECIDED
        found = self._node(node, level)
        if max(found.may.size, found.must.size) > MAX_CLAUSES or max(found.may.depth, found.must.depth) > MAX_LEVELS:
            return UNDECIDED
        return found

    def _node(self, node: Filter, level: _Level) -> Bounds:
        match node:
            case And(parts):
                return _joined(all_of, [self.node(part, level) for part in parts])
            case Or(parts):
                return _joined(any_of, [self.node(part, level) for part in parts])
            case Not(part):
                return self.node(part, level).negated()
            case AnyElement():
                return self._any(node, level)
            case Comparison():
                wanted, negated = positive(node)
                path = path_of((*level.prefix, *wanted.segments))
                found = UNDECIDED if len(path) > MAX_PATH else self._comparison(wanted, path, level)
                return found.negated() if negated else found
            case _:
                raise TypeError(f"not a node of a filter: {type(node).__name__}")

    # ------------------------------------------------------------ one and the same element

    def _any(self, node: AnyElement, level: _Level) -> Bounds:
        segments = (*level.prefix, *node.segments)
        if not level.is_root:
            return self._element(segments, node.part, level)
        found = self._element(segments, node.part, level)
        # Whether nested objects were left out is said by the document, which nested conditions do not see.
        lost = any_of([terms(FACTS, [UNNESTED]), _ignored(self.relied)])
        self.relied.clear()
        there = level.fact(path_of(segments), Kind.EXISTS)
        return Bounds(any_of([found.may, all_of([there, lost])]), all_of([found.must, none_of(lost)]))

    def _element(self, segments: tuple[str, ...], part: Filter, level: _Level) -> Bounds:
        """An object at `segments` satisfies `part`: one that lies there alone, or one of an array on the way."""
        path = path_of(segments)
        if len(path) > MAX_PATH:
            return UNDECIDED
        alone = self.node(part, _Level(level.field, segments))
        options = [_joined(all_of, [_decided(level.fact(path, Kind.OBJECT)), alone])]
        for end in range(1, len(segments) + 1):
            self.steps += 1
            if self.steps > _MAX_STEPS:
                return UNDECIDED
            inner = _Level(level.name(suffixed(path_of(segments[:end]), "nested")))
            self.relied += [inner.field, inner.facts]
            rest = segments[end:]
            each = self._element(rest, part, inner) if rest else self.node(part, inner)
            may = nested(inner.field, each.may)
            options.append(_decided(may) if each.exact else Bounds(may, nested(inner.field, each.must)))
        return _joined(any_of, options)

    # ------------------------------------------------------------ comparisons

    def _comparison(self, wanted: Comparison, path: str, level: _Level) -> Bounds:
        values, facts = wanted.values, level.facts
        match wanted.op:
            case "exists":
                return _decided(level.fact(path, Kind.EXISTS))
            case "eq" | "in":
                return _decided(terms(facts, _equals(path, values)))
            case "contains" | "contains_any" | "contains_all":
                return self._contains(wanted, path, level)
            case op if op in ORDERINGS:
                if kind_of(values[0]) == "text":
                    return self._text_range(op, path, cast("tuple[str, ...]", values), level)
                numbers = tuple(microseconds(v) if isinstance(v, datetime) else exact(v) for v in cast(Any, values))
                return self._number_range(op, path, numbers, level)
            case op:
                raise TypeError(f"not an operator of a filter: {op}")

    def _contains(self, wanted: Comparison, path: str, level: _Level) -> Bounds:
        """Facts of equality do not say whether the value was an array's, and of which of several."""
        array = level.fact(path, Kind.ARRAY)
        equals = _equals(path, wanted.values)
        unclear = [fact(path, Kind.MIXED)]
        if wanted.op == "contains_all" and len(equals) > 1:
            unclear.append(fact(path, Kind.ARRAYS))
            every = {"terms": equals, "minimum_should_match": len(equals)}
            may = all_of([array, Leaf({"terms_set": {level.facts: every}}, len(equals))])
        elif wanted.op == "contains_all" and not equals:
            return _decided(array)
        else:
            may = all_of([array, terms(level.facts, equals)])
        if may == NOTHING:
            return _decided(NOTHING)
        return Bounds(may, all_of([may, none_of(terms(level.facts, unclear))]))

    def _number_range(self, op: str, path: str, numbers: Sequence[int | Decimal], level: _Level) -> Bounds:
        ends = list(zip(_RANGES[op], numbers, strict=True))
        facts = _facts_range(path, Kind.NUMBER, ends, level)
        if not level.is_root or path in UNTYPED_FIELDS:
            return _decided(facts)
        typed: dict[str, dict[str, int] | dict[str, float]] = {
            suffixed(path, "long"): _whole(ends),
            suffixed(path, "double"): {end: _double(number, end) for end, number in ends},
        }
        ranges = [Leaf({"range": {name: bounds}}) for name, bounds in typed.items() if bounds]
        return _decided(any_of([*ranges, all_of([_lost(path, list(typed)), facts])]))

    def _text_range(self, op: str, path: str, texts: Sequence[str], level: _Level) -> Bounds:
        ends = list(zip(_RANGES[op], texts, strict=True))
        facts = _facts_range(path, Kind.STRING, [(end, text[: MAX_SORTED + 1]) for end, text in ends], level)
        long = level.fact(path, Kind.LONG)
        if not level.is_root or path in UNTYPED_FIELDS:
            return Bounds(any_of([facts, long]), facts)
        name = suffixed(path, "keyword")
        typed = Leaf({"range": {name: _text_bounds(ends)}})
        sure = typed if all(len(text) <= MAX_BOUND for text in texts) else NOTHING
        lost = _lost(path, [name])
        may = any_of([typed, all_of([lost, any_of([facts, long])])])
        return Bounds(may, any_of([sure, all_of([lost, facts])]))


def _joined(join: Any, parts: Sequence[Bounds]) -> Bounds:
    may: Clause = join(part.may for part in parts)
    return _decided(may) if all(part.exact for part in parts) else Bounds(may, join(part.must for part in parts))


def _equals(path: str, values: Sequence[Scalar]) -> list[str]:
    return list(dict.fromkeys(found for value in values if (found := equal(path, value)) is not None))


def _ignored(fields: Sequence[str]) -> Clause:
    """One of these fields, or an object above it, was left out of a document: the mapping has too many."""
    names: dict[str, None] = {}
    for name in fields:
        parts = name.split(".")
        names |= dict.fromkeys(".".join(parts[:end]) for end in range(2, len(parts) + 1))
    return Terms(_IGNORED, tuple(names)) if names else NOTHING


def _lost(path: str, fields: Sequence[str]) -> Clause:
    """A value at a path has no field of its own in a document, by our limits or by the mapping's."""
    return any_of([_ignored(fields), terms(FACTS, [fact(path, Kind.UNTYPED), UNTYPED])])


def _facts_range(path: str, kind: Kind, ends: Sequence[tuple[str, Any]], level: _Level) -> Clause:
    bounds: dict[str, str] = {"gte": fact(path, kind), "lt": beyond(path, kind)}
    for end, value in ends:
        found = cast(str, equal(path, value)) if kind is Kind.NUMBER else fact(path, kind, value)
        bounds = {name: bound for name, bound in bounds.items() if name[0] != end[0]} | {end: found}
    return Leaf({"range": {level.facts: bounds}})


def _text_bounds(ends: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The ends of a range of strings. Of a long one only its beginning can be asked for: what is behind it, or all."""
    bounds: dict[str, str] = {}
    for end, text in ends:
        if len(text) <= MAX_BOUND:
            bounds[end] = text
        elif end in ("gt", "gte"):
            bounds["gte"] = text[:MAX_BOUND]
    return bounds or {"gte": ""}


def _whole(ends: Sequence[tuple[str, int | Decimal]]) -> dict[str, int]:
    """The ends of a range of whole numbers of 64 bits; empty where there are none in it."""
    low, high = _INT64
    for end, number in ends:
        up = end in ("gte", "lt")
        near = int(Decimal(number).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR))
        match end:
            case "gt" | "gte":
                low = max(low, near + (end == "gt"))
            case _:
                high = min(high, near - (end == "lt"))
    return {"gte": low, "lte": high} if low <= high else {}


def _double(number: int | Decimal, end: str) -> float:
    """The double that bounds a range as the number does, which may lie between two of them."""
    near = float(number)
    up = end in ("gte", "lt")
    if exact(near) == number or (exact(near) > number) is up:
        return near + 0.0  # no negative zero
    return math.nextafter(near, math.inf if up else -math.inf)
