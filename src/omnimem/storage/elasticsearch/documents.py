"""What is kept of a record: one document, its values in fields named by their type, its facts, its words.

`data.status` "pending" is `data.status__keyword`, 4 is `…__long`, 4.0 `…__double`, true `…__boolean`; an array of
objects is `data.items__nested`, each object with fields of its own. Beside it, `data.items.price__double` has the
prices of all items: what a path leads to, as filters read it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from memground.words import words
from omnimem.models.index import parse_path, texts_at
from omnimem.models.memory import Memory
from omnimem.models.scope import DIMENSIONS, Scope
from omnimem.storage.base import KeywordEntry
from omnimem.storage.elasticsearch.facts import (
    FACTS,
    MAX_PATH,
    MAX_SORTED,
    OPAQUE,
    UNNESTED,
    UNTYPED,
    Kind,
    equal,
    fact,
    microseconds,
    segment,
)
from omnimem.storage.elasticsearch.mapping import UNTYPED_FIELDS, suffixed
from omnimem.storage.flat import scope_fields

MAX_FACTS = 50_000
"""Facts of one document; one that has more is opaque."""
MAX_ELEMENTS = 5_000
"""Objects of arrays that one document has on their own."""
_MAX_TYPED_DEPTH = 16
"""Segments of a path that has fields of its own."""
_INT64 = range(-(2**63), 2**63)


class TooMuch(Exception):
    """The document has more facts, or more objects in arrays, than are kept."""


def document(entry: KeywordEntry) -> dict[str, Any]:
    """The document of a record, with all there is to say of it."""
    memory = entry.record.memory
    try:
        return {**describe(memory.document), **_fulltext(memory), **_shared(entry)}
    except TooMuch:
        return reduced(entry)


def reduced(entry: KeywordEntry) -> dict[str, Any]:
    """The document without fields of the record's own, which a mapping may refuse; its facts are there."""
    try:
        described = describe(entry.record.memory.document, typed=False)
    except TooMuch:
        return opaque(entry)
    return {**described, **_shared(entry)}


def opaque(entry: KeywordEntry) -> dict[str, Any]:
    """The document by which a record is found in its scope; what it holds is left to the truth."""
    return {**_shared(entry), FACTS: [OPAQUE]}


def scope_filters(scope: Scope) -> Iterator[dict[str, Any]]:
    """The conditions that a scope admits a document."""
    for dimension in DIMENSIONS:
        if (value := getattr(scope, dimension)) is not None:
            yield {"term": {f"scope_{dimension}": value}}
    for tag in scope.tags:
        yield {"term": {"scope_tags": tag}}


def encoded(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _shared(entry: KeywordEntry) -> dict[str, Any]:
    record = entry.record
    times = {"created_time": record.created_time, "superseded_time": record.superseded_time}
    return {
        "memory_id": record.memory_id,
        "record_id": record.record_id,
        **scope_fields(record.scope),
        **{suffixed(name, "long"): microseconds(time) for name, time in times.items() if time is not None},
        **{suffixed(name, "date"): time.isoformat() for name, time in times.items() if time is not None},
        "content_hash": entry.content_hash,
        "text": record.memory.content.text,
        "words": " ".join(words(entry.text)),
    }


def _fulltext(memory: Memory) -> dict[str, Any]:
    """The texts of the fields that the hint names for it, analysed, for queries of one's own."""
    document = {"data": memory.content.data, "metadata": memory.metadata}
    found: dict[str, list[str]] = {}
    for path in memory.index_hint.fulltext_fields:
        name = ".".join(segment(step) for step in _names(path))
        if len(name) <= MAX_PATH:
            found.setdefault(suffixed(name, "text"), []).extend(text for _, text in texts_at(path, document))
    return {name: texts for name, texts in found.items() if texts}


def _names(path: str) -> list[str]:
    return [step for step in parse_path(path) if isinstance(step, str)]


@dataclass
class _Limits:
    """What is left of one document's."""

    facts: int = MAX_FACTS
    elements: int = MAX_ELEMENTS

    def spend(self, facts: int = 0, elements: int = 0) -> None:
        self.facts -= facts
        self.elements -= elements
        if self.facts < 0 or self.elements < 0:
            raise TooMuch


def describe(document: Mapping[str, Any], *, typed: bool = True) -> dict[str, Any]:
    """The fields and facts of a document: root name to value, as filters see it.

    `typed` False: facts only. Raises TooMuch.
    """
    walk = _Walk(_Limits(), typed=typed)
    for root, value in document.items():
        walk.visit(root, value, 1, alone=True)
    if not typed:
        walk.facts |= dict.fromkeys((UNNESTED, UNTYPED))
    return walk.result()


@dataclass
class _Walk:
    """Describes one document, or one object of an array: `fields` has its typed values and nested objects."""

    limits: _Limits
    typed: bool = True
    inside: int = 0
    """Segments of the path to the object."""
    facts: dict[str, None] = field(default_factory=dict[str, None])
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    _arrays: dict[str, int] = field(default_factory=dict[str, int])
    _singles: set[str] = field(default_factory=set[str])

    def result(self) -> dict[str, Any]:
        for path, count in self._arrays.items():
            if count > 1:
                self.say(fact(path, Kind.ARRAYS))
            if path in self._singles:
                self.say(fact(path, Kind.MIXED))
        return {**self.fields, FACTS: list(self.facts)}

    def say(self, told: str) -> None:
        if told not in self.facts:
            self.limits.spend(facts=1)
            self.facts[told] = None

    def visit(self, path: str, value: Any, depth: int, *, alone: bool) -> None:
        """A value that a path leads to. `alone`: no array was on the way."""
        if value is None or len(path) > MAX_PATH:
            return
        self.say(fact(path, Kind.EXISTS))
        if isinstance(value, list | tuple):
            self._array(path, cast("list[Any]", value), depth, alone=alone)
        elif isinstance(value, Mapping):
            if alone:
                self.say(fact(path, Kind.OBJECT))
            self._members(path, cast("Mapping[str, Any]", value), depth, alone=alone)
        else:
            self._singles.add(path)
            self._scalar(path, value, depth)

    def _members(self, path: str, value: Mapping[str, Any], depth: int, *, alone: bool) -> None:
        for key, member in value.items():
            if key:  # no filter can name an empty one
                self.visit(f"{path}.{segment(key)}", member, depth + 1, alone=alone)

    def _array(self, path: str, values: list[Any], depth: int, *, alone: bool) -> None:
        self.say(fact(path, Kind.ARRAY))
        self._arrays[path] = self._arrays.get(path, 0) + 1
        objects: list[Mapping[str, Any]] = []
        for value in values:
            if isinstance(value, Mapping):
                objects.append(cast("Mapping[str, Any]", value))
                self._members(path, objects[-1], depth, alone=False)
            elif not isinstance(value, list | tuple) and value is not None:  # an array in an array is no value
                self._scalar(path, value, depth)
        if alone and objects and self.typed:
            self.fields[suffixed(path, "nested")] = [self._element(value, depth) for value in objects]

    def _element(self, value: Mapping[str, Any], depth: int) -> dict[str, Any]:
        self.limits.spend(elements=1)
        walk = _Walk(self.limits, inside=self.inside + depth)
        for key, member in value.items():
            if key:
                walk.visit(segment(key), member, 1, alone=True)
        return walk.result()

    def _scalar(self, path: str, value: Any, depth: int) -> None:
        told = equal(path, value)
        if told is None:
            return
        self.say(told)
        if isinstance(value, str) and len(value) > MAX_SORTED:
            self.say(fact(path, Kind.LONG))
        suffix, plain = _typed(value)
        if not self.typed or (path in UNTYPED_FIELDS and not self.inside):
            return
        if suffix is None or self.inside + depth > _MAX_TYPED_DEPTH:
            self.say(fact(path, Kind.UNTYPED))
            return
        self.fields.setdefault(suffixed(path, suffix), []).append(plain)
        if isinstance(value, datetime):
            self.fields[suffixed(path, "date")] = value.isoformat()


def _typed(value: Any) -> tuple[str | None, Any]:
    """The suffix of a value's type, and the value as the field takes it."""
    match value:
        case bool():
            return "boolean", value
        case str():
            return "keyword", value
        case datetime():
            return "long", microseconds(value)
        case int():
            return ("long", value) if value in _INT64 else (None, None)
        case float():
            return "double", value + 0.0  # no negative zero
        case _:
            return None, None
