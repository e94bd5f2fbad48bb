"""From table rows to the values users get, as a view sees them."""

import uuid
from collections.abc import Sequence
from typing import Any

from memground.postgres.engine import Row
from memground.view import View
from neuromem.types import Document, GraphEdge, GraphNode, KeyValue, Memory, Message, Source


def _version(row: Row, view: View) -> dict[str, Any]:
    """What every version of anything tells of itself."""
    return {
        "user_id": row["user_id"],
        "record_id": str(row["id"]),
        "version": row["version"],
        "known_from": row["known_from"],
        "known_to": view.mask(row["known_to"]),
        "recorded_at": row["recorded_at"],
        "origin": row["origin"],
        "created_at": row["created_at"],
        "updated_at": row["recorded_at"],
    }


def memory(row: Row, view: View, sources: Sequence[Source] = ()) -> Memory:
    return Memory(
        memory_id=str(row["memory_id"]),
        content=row["content"],
        memory_type=row["memory_type"],
        metadata=row["metadata_"],
        importance=row["importance"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        event_at=row["event_at"],
        sources=tuple(sources),
        **_version(row, view),
    )


def message(row: Row, view: View) -> Message:
    return Message(
        message_id=str(row["message_id"]),
        user_id=row["user_id"],
        session_id=row["session_id"],
        seq=row["seq"],
        role=row["role"],
        speaker=row["speaker"],
        content=row["content"],
        metadata=row["metadata_"],
        external_id=row["external_id"],
        timestamp=row["event_at"],
        extracted=row["extracted"],
        known_from=row["known_from"],
        known_to=view.mask(row["known_to"]),
        recorded_at=row["recorded_at"],
        origin=row["origin"],
        created_at=row["created_at"],
    )


def key_value(row: Row, view: View) -> KeyValue:
    return KeyValue(
        namespace=row["namespace"],
        scope_id=row["scope_id"],
        key=row["key"],
        value=row["value"],
        version=row["version"],
        known_from=row["known_from"],
        known_to=view.mask(row["known_to"]),
        origin=row["origin"],
        created_at=row["created_at"],
        updated_at=row["recorded_at"],
    )


def document(row: Row, view: View) -> Document:
    return Document(
        document_id=str(row["document_id"]),
        filename=row["filename"],
        title=row["title"],
        file_type=row["file_type"],
        mime_type=row["mime_type"],
        file_size=row["file_size"],
        category=row["category"],
        tags=tuple(row["tags"] or ()),
        metadata=row["metadata_"],
        pages=row["page_count"] or 0,
        chunks=row["chunk_count"] or 0,
        source_type=row["source_type"],
        content_hash=row["content_hash"],
        object_key=row["object_key"],
        warnings=tuple(row["warnings"] or ()),
        **_version(row, view),
    )


def graph_node(row: Row, view: View) -> GraphNode:
    properties = row["properties"]
    return GraphNode(
        node_type=row["node_type"],
        node_id=row["node_id"],
        name=properties.get("name", row["node_id"]),
        aliases=tuple(properties.get("aliases", ())),
        properties=properties,
        **_version(row, view),
    )


def graph_edge(row: Row, view: View) -> GraphEdge:
    return GraphEdge(
        edge_id=str(row["edge_id"]),
        source_type=row["source_type"],
        source_id=row["source_id"],
        edge_type=row["edge_type"],
        target_type=row["target_type"],
        target_id=row["target_id"],
        properties=row["properties"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        **_version(row, view),
    )


def source(row: Any) -> tuple[uuid.UUID, Source]:
    return row.derived_id, Source(row.source_kind, str(row.source_id), row.span)
