"""What is stored: a memory, of which every change is a record of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib import import_module
from typing import Any

from memground.errors import InvalidInputError
from memground.extras import missing_package
from memground.text import check_json, check_text, show
from omnimem.models.base import Value, instance, items, name, optional_moment, optional_name, whole
from omnimem.models.index import NO_HINT, IndexHint
from omnimem.models.scope import EVERYTHING, Scope, read_scope

MAX_SOURCES = 1_000
MAX_VERSION = 2**63 - 1


class MemoryType(StrEnum):
    """The usual kinds of memories. Any other name of up to 50 characters is a type of your own."""

    GENERAL = "general"
    FACT = "fact"
    EPISODIC = "episodic"
    PROCEDURAL = "procedural"
    INSIGHT = "insight"
    DOCUMENT = "document"


@dataclass(frozen=True)
class SourceReference(Value):
    """What a memory came from: `kind` ("message", "document" …) and `id` there, where in it, and an address.

    `span`: [start, end) in characters.
    """

    kind: str
    id: str
    span: tuple[int, int] | None = None
    uri: str | None = None

    def __post_init__(self) -> None:
        name(self.kind, "source.kind", limit=50)
        name(self.id, "source.id")
        optional_name(self.uri, "source.uri", limit=2_000)
        if self.span is not None:
            ends = items(self.span, "source.span", "two whole numbers, [start, end)")
            if len(ends) != 2:
                raise InvalidInputError(f"source.span={show(self.span)} is not accepted; pass (start, end)")
            start = whole(ends[0], "source.span[0]", 0, 2**53)
            self._settle(span=(start, whole(ends[1], "source.span[1]", start, 2**53)))


@dataclass(frozen=True)
class Content(Value):
    """What a memory says: a text, JSON data, or both. `schema`: a JSON Schema the data must satisfy.

    Raises InvalidInputError for neither, for data that the schema refuses, and for a schema that is none. A schema
    may not refer to others elsewhere.
    """

    text: str | None = None
    data: Any = None
    schema: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.text is None and self.data is None:
            raise InvalidInputError("content is empty; pass a text, data, or both")
        if self.text is not None:
            check_text(self.text, "content.text")
        if self.data is not None:
            instance(self.data, "content.data", Mapping | list | tuple, "a dict or a list")
            self._settle(data=check_json(self.data, "content.data"))
        if self.schema is not None:
            instance(self.schema, "content.schema", Mapping, "a JSON Schema, a dict")
            self._settle(schema=check_json(self.schema, "content.schema"))
            _check_schema(self.data, self.schema)


@dataclass(frozen=True)
class Memory(Value):
    """One record: an immutable state of a memory.

    `memory_id` names the memory, all records of which share it; `record_id` this state. `version` (nanoseconds since
    1970, strictly increasing) orders the records. `is_latest`: it was the current one when it was read.
    `created_time`: when the record was written. `valid_time_from` and `valid_time_to`: when it is true in the world,
    both ends included; None is open.
    """

    memory_id: str
    record_id: str
    version: int
    is_latest: bool
    scope: Scope
    content: Content
    metadata: Mapping[str, Any]
    type: str
    sources: Sequence[SourceReference]
    index_hint: IndexHint
    created_time: datetime
    event_time: datetime | None = None
    valid_time_from: datetime | None = None
    valid_time_to: datetime | None = None

    def __post_init__(self) -> None:
        name(self.memory_id, "memory_id")
        name(self.record_id, "record_id")
        whole(self.version, "version", 0, MAX_VERSION)
        instance(self.is_latest, "is_latest", bool, "True or False")
        instance(self.scope, "scope", Scope, "a Scope")
        created = optional_moment(self.created_time, "created_time")
        if created is None:
            raise InvalidInputError("created_time is missing; pass an aware datetime")
        self._settle(created_time=created, **checked(NewMemory(**{key: getattr(self, key) for key in _GIVEN})))

    @property
    def text(self) -> str | None:
        """The text of the content."""
        return self.content.text

    @property
    def document(self) -> dict[str, Any]:
        """The memory as filters and index paths see it: its fields by root name."""
        return {
            "data": self.content.data,
            "metadata": self.metadata,
            "sources": [source.to_dict() for source in self.sources],
            "text": self.content.text,
            **{key: getattr(self, key) for key in _PLAIN},
        }

    @classmethod
    def _read(cls, given: dict[str, Any]) -> dict[str, Any]:
        return NewMemory.read_parts(given)


@dataclass(frozen=True)
class NewMemory(Value):
    """A memory to be created; see `Memory` for its fields. A text alone may stand for the content."""

    content: Content | str
    scope: Scope = EVERYTHING
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    type: str = MemoryType.GENERAL
    sources: Sequence[SourceReference] = ()
    index_hint: IndexHint = NO_HINT
    event_time: datetime | None = None
    valid_time_from: datetime | None = None
    valid_time_to: datetime | None = None

    def __post_init__(self) -> None:
        self._settle(scope=read_scope(self.scope), **_settled(self))

    @classmethod
    def _read(cls, given: dict[str, Any]) -> dict[str, Any]:
        return cls.read_parts(given)

    @staticmethod
    def read_parts(given: dict[str, Any]) -> dict[str, Any]:
        """A JSON form's members that are models, made into such; times into datetimes."""
        parts = dict(given)
        for key, model in (("scope", Scope), ("content", Content), ("index_hint", IndexHint)):
            if isinstance(parts.get(key), Mapping):
                parts[key] = model.from_dict(parts[key])
        if "sources" in parts:
            found = items(parts["sources"], "sources", "SourceReference")
            parts["sources"] = [s if isinstance(s, SourceReference) else SourceReference.from_dict(s) for s in found]
        return parts


_PLAIN = (
    "memory_id", "record_id", "version", "type", "created_time", "event_time", "valid_time_from", "valid_time_to",
)  # fmt: skip
_GIVEN = (
    "content", "scope", "metadata", "type", "sources", "index_hint", "event_time", "valid_time_from", "valid_time_to",
)  # fmt: skip


def checked(new: NewMemory) -> dict[str, Any]:
    """The fields of a new memory, as a record has them."""
    return {key: getattr(new, key) for key in _GIVEN}


def _settled(new: NewMemory) -> dict[str, Any]:
    content = Content(new.content) if isinstance(new.content, str) else new.content
    instance(content, "content", Content, "a str or Content")
    metadata: Any = {} if new.metadata is None else new.metadata  # pyright: ignore[reportUnnecessaryComparison]
    instance(metadata, "metadata", Mapping, "a dict")
    sources = tuple(items(new.sources, "sources", "SourceReference"))
    if len(sources) > MAX_SOURCES:
        raise InvalidInputError(f"sources has {len(sources)} items; at most {MAX_SOURCES:,} are accepted")
    for position, source in enumerate(sources):
        instance(source, f"sources[{position}]", SourceReference, "a SourceReference")
    instance(new.index_hint, "index_hint", IndexHint, "an IndexHint")
    start = optional_moment(new.valid_time_from, "valid_time_from")
    end = optional_moment(new.valid_time_to, "valid_time_to")
    if start is not None and end is not None and end < start:
        raise InvalidInputError(f"valid_time_to={end.isoformat()} lies before valid_time_from={start.isoformat()}")
    return {
        "content": content,
        "metadata": check_json(metadata, "metadata"),
        "type": str.__str__(name(new.type, "type", limit=50)),
        "sources": sources,
        "event_time": optional_moment(new.event_time, "event_time"),
        "valid_time_from": start,
        "valid_time_to": end,
    }


def _check_schema(data: Any, schema: Mapping[str, Any]) -> None:
    try:
        jsonschema: Any = import_module("jsonschema")
        referencing: Any = import_module("referencing")
    except ImportError as error:
        raise missing_package("jsonschema", "schema") from error
    unresolved = (referencing.exceptions.Unresolvable, jsonschema.exceptions._WrappedReferencingError)
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
        # A registry of its own: by default a schema could make this program fetch addresses.
        found = kind(schema, registry=referencing.Registry()).iter_errors(data)
        wrong = jsonschema.exceptions.best_match(found)
    except jsonschema.exceptions.SchemaError as error:
        raise InvalidInputError(f"content.schema is no JSON Schema: {error.message[:200]}") from None
    except unresolved as error:
        raise InvalidInputError(f"content.schema refers to what it does not hold: {str(error)[:200]}") from None
    except RecursionError:
        raise InvalidInputError("content.schema refers to itself without end") from None
    if wrong is not None:
        raise InvalidInputError(f"content.data violates its schema at {wrong.json_path}: {wrong.message[:200]}")
