"""Every public call of a mind, with arguments that work, and what the calls leave in the database.

Tests that say "whatever the call" walk `READS` and `WRITES`; `test_bad_input` holds them against the classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import text

from neuromem import Document, Episode, Fact, NeuroMemory, NewMessage, Source, Triple
from support.moving import small_export

type Arguments = dict[str, Any]

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class World:
    """What `settle` put there for a user: enough for every call to find something."""

    user: str
    message_id: str
    memory_id: str
    first_version: int
    edge_id: str
    document_id: str
    between: datetime
    """A moment after the first version of everything and before the second."""


async def settle(mind: NeuroMemory, user: str) -> World:
    """Gives a user two messages; a memory with its source and emotion, a profile value, a graph, a document; these in
    two versions."""
    said = [NewMessage("user", "I moved to Porto", external_id="x1"), NewMessage("user", "and my sister to Oslo")]
    first, _ = await mind.conversations.add_messages_batch(user, said, session_id="s1")
    source = Source("message", first.message_id)
    metadata = {"topic": "home", "emotion": {"valence": 0.5, "arousal": 0.25, "label": "joy"}}
    memory = await mind.add_memory(user, "lives in Porto", metadata=metadata, sources=[source])
    await mind.kv.set("profile", user, "city", "Porto")
    await mind.graph.create_node(user, "person", "Anna", {"aliases": ["Annie"]})
    await mind.graph.create_node(user, "place", "Porto")
    edge = await mind.graph.create_edge(user, "person", "Anna", "lives_in", "place", "Porto")
    document = await _file(mind, user, "Trip to Porto.txt", "The hotel in Porto lies near the river.")
    between = datetime.now(UTC)
    await mind.files.update(user, document.document_id, category="travel")
    await mind.update_memory(user, memory.memory_id, content="lives in Porto, near the river")
    await mind.kv.set("profile", user, "city", "Porto, Portugal")
    await mind.graph.update_node(user, "place", "Porto", {"country": "Portugal"})
    await mind.graph.update_edge(user, edge.edge_id, {"confidence": 0.9})
    return World(user, first.message_id, memory.memory_id, memory.version, edge.edge_id, document.document_id, between)


async def _file(mind: NeuroMemory, user: str, name: str, text: str) -> Document:
    """A file, or, of a mind that has nowhere to keep one, a document made from text."""
    if mind._context.storage is None:
        return await mind.files.create_from_text(user, name, text, tags=["a"])
    return await mind.files.upload(user, name, text.encode(), tags=["a"])


READS: Mapping[str, Callable[[World], Arguments]] = {
    "recall": lambda w: {"user_id": w.user, "query": "Porto", "where": {"content": {"exists": True}}},
    "search": lambda w: {"user_id": w.user, "query": "Porto", "as_of": w.between, "explain": True},
    "get_memory": lambda w: {"user_id": w.user, "memory_id": w.memory_id},
    "find_memory_id": lambda w: {"user_id": w.user, "prefix": w.memory_id[:13]},
    "list_memories": lambda w: {"user_id": w.user},
    "get_memories_by_time_range": lambda w: {"user_id": w.user, "start": LONG_AGO, "end": datetime.now(UTC)},
    "get_recent_memories": lambda w: {"user_id": w.user, "memory_types": ["general"]},
    "memory_timeline": lambda w: {
        "user_id": w.user,
        "granularity": "day",
        "start": LONG_AGO,
        "timezone": "Asia/Shanghai",
    },
    "emotion_profile": lambda w: {"user_id": w.user, "as_of": w.between},
    "emotion_timeline": lambda w: {
        "user_id": w.user,
        "granularity": "day",
        "start": LONG_AGO,
        "as_of": w.between,
        "timezone": "Asia/Shanghai",
    },
    "history": lambda w: {"user_id": w.user, "memory_id": w.memory_id},
    "diff": lambda w: {"user_id": w.user, "t1": LONG_AGO, "t2": datetime.now(UTC)},
    "stats": lambda w: {"user_id": w.user},
    "entity_profile": lambda w: {"user_id": w.user, "entity": "porto", "valid_at": w.between},
    "kv.get": lambda w: {"namespace": "profile", "scope_id": w.user, "key": "city"},
    "kv.list": lambda w: {"namespace": "profile", "scope_id": w.user, "prefix": "ci"},
    "kv.history": lambda w: {"namespace": "profile", "scope_id": w.user, "key": "city"},
    "conversations.get_session_messages": lambda w: {"user_id": w.user, "session_id": "s1"},
    "conversations.list_sessions": lambda w: {"user_id": w.user},
    "conversations.get_unextracted_messages": lambda w: {"user_id": w.user},
    "graph.get_node": lambda w: {"user_id": w.user, "node_type": "place", "node_id": "porto"},
    "graph.find_nodes": lambda w: {"user_id": w.user, "name": "PORTO"},
    "graph.list_nodes": lambda w: {"user_id": w.user, "node_type": "place", "prefix": "po"},
    "graph.get_neighbors": lambda w: {
        "user_id": w.user,
        "node_type": "person",
        "node_id": "annie",
        "edge_types": ["lives_in"],
        "direction": "out",
    },
    "graph.find_path": lambda w: {
        "user_id": w.user,
        "source_type": "person",
        "source_id": "Annie",
        "target_type": None,
        "target_id": "Porto",
    },
    "graph.find_entity_facts": lambda w: {"user_id": w.user, "query": "Where does Annie live?"},
    "graph.node_history": lambda w: {"user_id": w.user, "node_type": "place", "node_id": "Porto"},
    "graph.edge_history": lambda w: {"user_id": w.user, "edge_id": w.edge_id},
    "files.get": lambda w: {"user_id": w.user, "document_id": w.document_id},
    "files.list": lambda w: {"user_id": w.user, "tags": ["a"], "where": {"file_type": "text"}},
    "files.search": lambda w: {"user_id": w.user, "query": "Porto", "tags": ["a"], "document_id": w.document_id},
    "files.get_text": lambda w: {"user_id": w.user, "document_id": w.document_id, "page": 1},
    "files.download": lambda w: {"user_id": w.user, "document_id": w.document_id},
    "files.download_url": lambda w: {"user_id": w.user, "document_id": w.document_id},
    "files.history": lambda w: {"user_id": w.user, "document_id": w.document_id},
    "preview_erasure": lambda w: {"user_id": w.user},
    "background_status": lambda w: {"user_id": w.user},
    "extraction_status": lambda w: {"user_id": w.user},
}

PRESENT_ONLY = frozenset(
    {"preview_erasure", "conversations.get_unextracted_messages", "background_status", "extraction_status"}
)
"""Reads that have no past: a view of one does not offer them."""

WRITES: Mapping[str, Callable[[World], Arguments]] = {
    "ingest": lambda w: {"user_id": w.user, "role": "user", "content": "hello", "session_id": "s1"},
    "add_memory": lambda w: {"user_id": w.user, "content": "likes tea", "sources": [w.message_id]},
    "add_memories": lambda w: {"user_id": w.user, "memories": ["likes tea", "likes rain"]},
    "apply_extraction": lambda w: {
        "user_id": w.user,
        "facts": [Fact("likes tea"), {"content": "likes rain"}],
        "episodes": [Episode("saw a boat")],
        "triples": [Triple("Anna", "likes", "tea")],
        "profile_updates": {"pet": "Rex", "city": None},
        "sources": [w.message_id],
    },
    "update_memory": lambda w: {"user_id": w.user, "memory_id": w.memory_id, "content": "lives by the sea"},
    "delete_memory": lambda w: {"user_id": w.user, "memory_id": w.memory_id},
    "revert": lambda w: {"user_id": w.user, "memory_id": w.memory_id, "version": w.first_version},
    "rollback": lambda w: {"user_id": w.user, "to_time": w.between},
    "undo": lambda w: {"user_id": w.user, "recorded_since": w.between},
    "kv.set": lambda w: {"namespace": "profile", "scope_id": w.user, "key": "pet", "value": {"name": "Rex"}},
    "kv.batch_set": lambda w: {"namespace": "profile", "scope_id": w.user, "values": {"a": 1, "b": 2}},
    "kv.delete": lambda w: {"namespace": "profile", "scope_id": w.user, "key": "city"},
    "conversations.ingest": lambda w: {"user_id": w.user, "role": "user", "content": "hello"},
    "conversations.add_messages_batch": lambda w: {
        "user_id": w.user,
        "messages": [NewMessage("user", "hi"), NewMessage("user", "again", external_id="x1")],
        "session_id": "s1",
    },
    "conversations.add_conversations": lambda w: {
        "user_id": w.user,
        "conversations": {"s2": [NewMessage("user", "hi")], "s1": [NewMessage("user", "again", external_id="x1")]},
    },
    "conversations.close_session": lambda w: {"user_id": w.user, "session_id": "s1"},
    "graph.create_node": lambda w: {
        "user_id": w.user,
        "node_type": "person",
        "node_id": "Ben",
        "properties": {"age": 3},
    },
    "graph.update_node": lambda w: {
        "user_id": w.user,
        "node_type": "person",
        "node_id": "Annie",
        "properties": {"age": 30},
    },
    "graph.delete_node": lambda w: {"user_id": w.user, "node_type": "person", "node_id": "anna"},
    "graph.create_edge": lambda w: {
        "user_id": w.user,
        "source_type": "person",
        "source_id": "Annie",
        "edge_type": "owns",
        "target_type": "boat",
        "target_id": "Sea-Gull",
        "properties": {"since": "May"},
    },
    "graph.update_edge": lambda w: {"user_id": w.user, "edge_id": w.edge_id, "valid_to": datetime.now(UTC)},
    "graph.delete_edge": lambda w: {
        "user_id": w.user,
        "source_type": "person",
        "source_id": "Anna",
        "edge_type": "lives_in",
        "target_type": "place",
        "target_id": "Porto",
    },
    "digest": lambda w: {"user_id": w.user, "limit": 10},
    "files.upload": lambda w: {"user_id": w.user, "filename": "a.md", "data": b"# Tea\n\nis served at five"},
    "files.create_from_text": lambda w: {"user_id": w.user, "title": "Note", "text": "tea at five"},
    "files.update": lambda w: {"user_id": w.user, "document_id": w.document_id, "tags": ["b"]},
    "files.delete": lambda w: {"user_id": w.user, "document_id": w.document_id},
    "delete_user_data": lambda w: {"user_id": w.user},
    "erase_memory": lambda w: {"user_id": w.user, "memory_id": w.memory_id},
    "erase_message": lambda w: {"user_id": w.user, "message_id": w.message_id},
    "erase_document": lambda w: {"user_id": w.user, "document_id": w.document_id},
    "purge_history": lambda w: {"user_id": w.user, "before": w.between},
    "retry_failed": lambda w: {"user_id": w.user},
    "extract": lambda w: {"user_id": w.user, "session_id": "s1"},
    "retry_failed_extractions": lambda w: {"user_id": w.user},
    "import_user_data": lambda w: {"user_id": f"{w.user}-moved", "records": small_export()},
}


async def call(on: Any, name: str, arguments: Arguments) -> Any:
    """`call(mind, "kv.set", {...})`."""
    return await attrgetter(name)(on)(**arguments)


async def state(mind: NeuroMemory) -> dict[str, tuple[int, int]]:
    """Per table of the mind's schema: how many rows, and a sum that changes whenever one of them is written anew."""
    schema = mind._db.schema.replace('"', '""')
    counts = " UNION ALL ".join(
        f"SELECT '{table.name}', count(*), coalesce(sum(xmin::text::bigint), 0) FROM \"{schema}\".{table.name}"
        for table in mind._db.tables.metadata.sorted_tables
    )
    async with mind._db.read() as session:
        return {name: (rows, int(sum_)) for name, rows, sum_ in await session.execute(text(counts))}
