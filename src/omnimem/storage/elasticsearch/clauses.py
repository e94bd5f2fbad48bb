"""Conditions of Elasticsearch's query language as values that simplify when they are joined.

Elasticsearch takes about 1,000 clauses and 30 levels at most, and filters may have as many of their own, so a condition
knows its size: `size` counts its clauses, `depth` its levels.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Clause:
    """A condition. `body`: as Elasticsearch reads it."""

    @property
    def body(self) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def size(self) -> int:
        return 1

    @property
    def depth(self) -> int:
        return 1


@dataclass(frozen=True)
class Leaf(Clause):
    """A query of any kind without others in it."""

    query: Mapping[str, Any]
    clauses: int = 1

    @property
    def body(self) -> dict[str, Any]:
        return dict(self.query)

    @property
    def size(self) -> int:
        return self.clauses


@dataclass(frozen=True)
class Terms(Clause):
    """A field has one of some values."""

    field: str
    values: tuple[str, ...]

    @property
    def body(self) -> dict[str, Any]:
        if len(self.values) == 1:
            return {"term": {self.field: self.values[0]}}
        return {"terms": {self.field: list(self.values)}}


@dataclass(frozen=True)
class _Group(Clause):
    parts: tuple[Clause, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def depth(self) -> int:
        return 1 + max(part.depth for part in self.parts)


@dataclass(frozen=True)
class All(_Group):
    """Every part holds."""

    @property
    def body(self) -> dict[str, Any]:
        held = [part.body for part in self.parts if not isinstance(part, Negated)]
        refused = [part.part.body for part in self.parts if isinstance(part, Negated)]
        return {"bool": {"filter": held, **({"must_not": refused} if refused else {})}}


@dataclass(frozen=True)
class Some(_Group):
    """Some part holds."""

    @property
    def body(self) -> dict[str, Any]:
        return {"bool": {"should": [part.body for part in self.parts], "minimum_should_match": 1}}


@dataclass(frozen=True)
class Negated(Clause):
    """The part does not hold."""

    part: Clause

    @property
    def body(self) -> dict[str, Any]:
        return {"bool": {"must_not": [self.part.body]}}

    @property
    def size(self) -> int:
        return self.part.size

    @property
    def depth(self) -> int:
        return 1 + self.part.depth


@dataclass(frozen=True)
class Nested(Clause):
    """A nested object at the path satisfies the part."""

    path: str
    part: Clause

    @property
    def body(self) -> dict[str, Any]:
        inner = {"path": self.path, "query": self.part.body, "ignore_unmapped": True, "score_mode": "none"}
        return {"nested": inner}

    @property
    def size(self) -> int:
        return self.part.size

    @property
    def depth(self) -> int:
        return 1 + self.part.depth


EVERY = Leaf({"match_all": {}})
NOTHING = Leaf({"match_none": {}})


def all_of(given: Iterable[Clause]) -> Clause:
    parts = [part for each in given for part in (each.parts if isinstance(each, All) else (each,)) if part != EVERY]
    if NOTHING in parts:
        return NOTHING
    return EVERY if not parts else parts[0] if len(parts) == 1 else All(tuple(parts))


def any_of(given: Iterable[Clause]) -> Clause:
    """One of the parts; values of one field are asked for at once."""
    terms: dict[str, dict[str, None]] = {}
    others: list[Clause] = []
    for each in given:
        for part in each.parts if isinstance(each, Some) else (each,):
            if isinstance(part, Terms):
                terms.setdefault(part.field, {}).update(dict.fromkeys(part.values))
            elif part != NOTHING:
                others.append(part)
    if EVERY in others:
        return EVERY
    parts = [*(Terms(field, tuple(values)) for field, values in terms.items()), *others]
    return NOTHING if not parts else parts[0] if len(parts) == 1 else Some(tuple(parts))


def none_of(part: Clause) -> Clause:
    if part == EVERY:
        return NOTHING
    if part == NOTHING:
        return EVERY
    return part.part if isinstance(part, Negated) else Negated(part)


def nested(path: str, part: Clause) -> Clause:
    return NOTHING if part == NOTHING else Nested(path, part)


def terms(field: str, values: Iterable[str]) -> Clause:
    found = tuple(dict.fromkeys(values))
    return Terms(field, found) if found else NOTHING
