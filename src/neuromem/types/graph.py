"""What the graph holds and answers: things, the relations between them, ways from one to another."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from neuromem.types.values import Metadata, Source, Value


@dataclass(frozen=True, slots=True)
class GraphNode(Value):
    """Something the graph knows, in one of its versions.

    `node_id` is its name in normal form (`node_type` tells apart what is called the same), `name` as it was written,
    `aliases` its other names, `properties` all that was noted of it.
    """

    node_type: str
    node_id: str
    name: str
    aliases: tuple[str, ...]
    user_id: str
    properties: Metadata
    record_id: str
    version: int
    known_from: datetime
    known_to: datetime | None
    recorded_at: datetime
    origin: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class GraphEdge(Value):
    """How one thing relates to another, in one of its versions; true in the world during [valid_from, valid_to)."""

    edge_id: str
    source_type: str
    source_id: str
    edge_type: str
    target_type: str
    target_id: str
    user_id: str
    properties: Metadata
    valid_from: datetime | None
    valid_to: datetime | None
    record_id: str
    version: int
    known_from: datetime
    known_to: datetime | None
    recorded_at: datetime
    origin: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class GraphNeighbor(Value):
    """What an edge leads to: out of the thing asked about, or in to it."""

    node_type: str
    node_id: str
    name: str
    direction: Literal["out", "in"]
    edge: GraphEdge


@dataclass(frozen=True, slots=True)
class GraphPath(Value):
    """A shortest way between two things; false where none was found.

    `nodes`: (type, id) from the first to the last; `edges`: those between them, each in its own direction. `complete`:
    False when so many things lie within reach that some were left out, so that there may be a (shorter) way.
    """

    nodes: tuple[tuple[str, str], ...]
    edges: tuple[GraphEdge, ...]
    complete: bool = True

    def __bool__(self) -> bool:
        return bool(self.nodes)


@dataclass(frozen=True, slots=True)
class GraphFact(Value):
    """An edge as a statement about what a text names.

    `content` says it in words. `subject` and `object` are the names as written, `subject_id` and `object_id` their
    normal forms. `named`: how many of the two the text names. `ended`: whether it is no longer true.
    """

    edge_id: str
    content: str
    subject: str
    subject_id: str
    subject_type: str
    relation: str
    object: str
    object_id: str
    object_type: str
    confidence: float
    named: int
    ended: bool
    valid_from: datetime | None
    valid_to: datetime | None
    known_from: datetime
    created_at: datetime
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredTriples(Value):
    """What storing triples did: edges that are new, that ended, that changed otherwise, and that were known."""

    stored: tuple[GraphEdge, ...]
    ended: tuple[GraphEdge, ...]
    changed: tuple[GraphEdge, ...]
    unchanged: tuple[GraphEdge, ...]
