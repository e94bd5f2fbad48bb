"""Which fields a `where=` filter may name. A field the other table has is missing there, so it matches nothing."""

from sqlalchemy import DateTime, Integer, String, null, type_coerce

from memground.postgres.filter_sql import FilterColumn
from neuromem.models import Tables

_NO_TEXT = FilterColumn.text(type_coerce(null(), String))
_NO_NUMBER = FilterColumn.number(type_coerce(null(), Integer))
_NO_TIME = FilterColumn.datetime(type_coerce(null(), DateTime(timezone=True)))


def memory_columns(tables: Tables) -> dict[str, FilterColumn]:
    c = tables.embeddings.table.c
    return {
        "metadata": FilterColumn.json(c.metadata_),
        "content": FilterColumn.text(c.content),
        "origin": FilterColumn.text(c.origin),
        "event_at": FilterColumn.datetime(c.event_at),
        "known_from": FilterColumn.datetime(c.known_from),
        "created_at": FilterColumn.datetime(c.created_at),
        "memory_type": FilterColumn.text(c.memory_type),
        "importance": FilterColumn.number(c.importance),
        "valid_from": FilterColumn.datetime(c.valid_from),
        "valid_to": FilterColumn.datetime(c.valid_to),
        "session_id": _NO_TEXT,
        "role": _NO_TEXT,
        "speaker": _NO_TEXT,
        "external_id": _NO_TEXT,
    }


def message_columns(tables: Tables) -> dict[str, FilterColumn]:
    c = tables.conversations.table.c
    return {
        "metadata": FilterColumn.json(c.metadata_),
        "content": FilterColumn.text(c.content),
        "origin": FilterColumn.text(c.origin),
        "event_at": FilterColumn.datetime(c.event_at),
        "known_from": FilterColumn.datetime(c.known_from),
        "created_at": FilterColumn.datetime(c.created_at),
        "memory_type": _NO_TEXT,
        "importance": _NO_NUMBER,
        "valid_from": _NO_TIME,
        "valid_to": _NO_TIME,
        "session_id": FilterColumn.text(c.session_id),
        "role": FilterColumn.text(c.role),
        "speaker": FilterColumn.text(c.speaker),
        "external_id": FilterColumn.text(c.external_id),
    }
