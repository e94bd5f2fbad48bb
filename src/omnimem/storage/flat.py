"""A record as flat fields, as the stores of the truth keep it; and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from omnimem.models import Content, IndexHint, Memory, Scope, SourceReference
from omnimem.models.index import NO_HINT
from omnimem.models.scope import DIMENSIONS
from omnimem.storage.base import StoredRecord


def flatten(record: StoredRecord) -> dict[str, Any]:
    """The fields by name: JSON values, and datetimes for times."""
    m = record.memory
    return {
        "record_id": m.record_id,
        "memory_id": m.memory_id,
        "version": m.version,
        "is_latest": record.superseded_time is None,
        **scope_fields(m.scope),
        "text": m.content.text,
        "data": m.content.data,
        "content_schema": m.content.schema,
        "metadata": m.metadata,
        "type": m.type,
        "sources": [source.to_dict() for source in m.sources],
        "index_hint": {} if m.index_hint == NO_HINT else m.index_hint.to_dict(),
        "created_time": m.created_time,
        "superseded_time": record.superseded_time,
        "event_time": m.event_time,
        "valid_time_from": m.valid_time_from,
        "valid_time_to": m.valid_time_to,
    }


def scope_fields(scope: Scope) -> dict[str, Any]:
    """A scope as fields."""
    return {**{f"scope_{d}": getattr(scope, d) for d in DIMENSIONS}, "scope_tags": list(scope.tags)}


def unflatten(fields: Mapping[str, Any]) -> Memory:
    """The record that `flatten` was given; it was checked when it was written."""
    hint = fields["index_hint"]
    return Memory.stored(
        memory_id=fields["memory_id"],
        record_id=fields["record_id"],
        version=fields["version"],
        is_latest=fields["is_latest"],
        scope=Scope.with_tags({d: fields[f"scope_{d}"] for d in DIMENSIONS}, fields["scope_tags"]),
        content=Content.stored(text=fields["text"], data=fields["data"], schema=fields["content_schema"]),
        metadata=fields["metadata"],
        type=fields["type"],
        sources=tuple(_source(source) for source in fields["sources"]),
        index_hint=IndexHint.stored(**{key: tuple(paths) for key, paths in hint.items()}) if hint else NO_HINT,
        created_time=fields["created_time"],
        event_time=fields["event_time"],
        valid_time_from=fields["valid_time_from"],
        valid_time_to=fields["valid_time_to"],
    )


def stored(fields: Mapping[str, Any]) -> StoredRecord:
    """The record, and when it ended."""
    return StoredRecord(unflatten(fields), fields["superseded_time"])


def taken(records: Sequence[StoredRecord]) -> str:
    """What to say where ids are taken."""
    ids = sorted({record.memory.memory_id for record in records})
    return f"a memory or record of these ids is already there: {', '.join(ids[:5])}{' …' if len(ids) > 5 else ''}"


def _source(value: Mapping[str, Any]) -> SourceReference:
    span = value["span"]
    return SourceReference.stored(**{**value, "span": None if span is None else tuple(span)})
