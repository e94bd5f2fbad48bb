"""What neuromem takes and gives: frozen values, each with `.to_dict()` for JSON."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, cast

from memground.postgres.queue import QueueStatus

type Metadata = Mapping[str, Any]
type MemoryRef = str | uuid.UUID
type Kind = Literal["memory", "message", "kv", "graph_node", "graph_edge"]

DEFAULT_ORIGIN = "agent"
DEFAULT_SESSION = "default"
DEFAULT_IMPORTANCE = 5
PROFILE_NAMESPACE = "profile"


class MemoryType(StrEnum):
    """The memory types neuromem itself knows; any other name may be used too."""

    GENERAL = "general"
    FACT = "fact"
    EPISODIC = "episodic"
    INSIGHT = "insight"
    DOCUMENT = "document"


class Value:
    """A frozen result that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values; times as ISO 8601, ids as strings."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(cast(Any, self))}


def _plain(value: Any) -> Any:
    match value:
        case Value():
            return value.to_dict()
        case datetime():
            return value.isoformat()
        case uuid.UUID():
            return str(value)
        case Mapping():
            return {str(k): _plain(v) for k, v in cast(Mapping[Any, Any], value).items()}
        case str():
            return value
        case Sequence():
            return [_plain(v) for v in value]  # pyright: ignore[reportUnknownVariableType]
        case _ if is_dataclass(value):
            return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Source(Value):
    """What a memory came from: a message or a file, and where in it."""

    kind: Literal["message", "document"]
    id: str
    span: Metadata | None = None


@dataclass(frozen=True, slots=True)
class NewMemory(Value):
    """A memory to be added; the fields mean what `add_memory` says of them.

    `external_id`: your id for it; adding a known one returns what is stored.
    """

    content: str
    memory_type: str = MemoryType.GENERAL
    metadata: Metadata | None = None
    importance: int | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    known_at: datetime | None = None
    sources: Sequence[Source | MemoryRef] = ()
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Memory(Value):
    """One thing remembered, in one of its versions.

    `memory_id` names the thing, `record_id` this version of it. `event_at` is the time it is about (valid_from where
    given, else when it became known): ages count from it. `known_to` is None while this version is current.
    """

    memory_id: str
    record_id: str
    user_id: str
    content: str
    memory_type: str
    metadata: Metadata
    importance: int
    valid_from: datetime | None
    valid_to: datetime | None
    event_at: datetime
    version: int
    known_from: datetime
    known_to: datetime | None
    recorded_at: datetime
    origin: str
    created_at: datetime
    updated_at: datetime
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Emotion(Value):
    """What was felt: `valence` from −1 (bad) to 1 (good), `arousal` from 0 (calm) to 1, a word for it."""

    valence: float
    arousal: float
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Fact(Value):
    """Something true of the user or their world, as an extraction found it.

    `category`: a free word ("work", "family", …). `confidence`: 0 to 1. `importance`: 1 to 10. True in the world during
    [valid_from, valid_to). `entities`: the names it speaks of.
    """

    content: str
    category: str = "general"
    confidence: float = 1.0
    importance: int | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    emotion: Emotion | None = None
    entities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Episode(Value):
    """Something that happened, at `happened_at` where that is known; the rest as in `Fact`."""

    content: str
    category: str = "general"
    confidence: float = 1.0
    importance: int | None = None
    happened_at: datetime | None = None
    emotion: Emotion | None = None
    entities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Triple(Value):
    """How two entities relate: Anna (person) lives_in Porto (place), during [valid_from, valid_to)."""

    subject: str
    relation: str
    object: str
    subject_type: str = "entity"
    object_type: str = "entity"
    confidence: float = 1.0
    valid_from: datetime | None = None
    valid_to: datetime | None = None


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


@dataclass(frozen=True, slots=True)
class NewMessage(Value):
    """A message to be ingested; the fields mean what `ingest` says of them."""

    role: str
    content: str
    timestamp: datetime | None = None
    external_id: str | None = None
    speaker: str | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Message(Value):
    """One turn of a conversation. `timestamp` is when it was said, `seq` its place in the session, from 1."""

    message_id: str
    user_id: str
    session_id: str
    seq: int
    role: str
    speaker: str | None
    content: str
    metadata: Metadata
    external_id: str | None
    timestamp: datetime
    extracted: bool
    known_from: datetime
    known_to: datetime | None
    recorded_at: datetime
    origin: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Session(Value):
    """A conversation as a view sees it: how many messages, first and last time."""

    session_id: str
    user_id: str
    message_count: int
    first_message_at: datetime
    last_message_at: datetime
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyValue(Value):
    """A value under a key. In `list` and `history`."""

    namespace: str
    scope_id: str
    key: str
    value: Any
    version: int
    known_from: datetime
    known_to: datetime | None
    origin: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Explanation(Value):
    """Why a hit stands where it stands.

    `vector_score` is the cosine similarity, `keyword_score` the keyword engine's; ranks count from 1; None: the arm did
    not find it. `parts` are the terms of the score by name, `notes` say in words what raised or lowered it.
    """

    vector_rank: int | None = None
    vector_score: float | None = None
    keyword_rank: int | None = None
    keyword_score: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict[str, float])
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit(Value):
    """A memory found, its score (comparable within one answer) and, when asked, why."""

    memory: Memory
    score: float
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class MessageHit(Value):
    """A message found, its score (comparable within one answer) and, when asked, why."""

    message: Message
    score: float
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class MergedHit(Value):
    """One entry of recall's single ranking.

    `source` is what gave the content its score, `sources` all that hold the same content. `id` is the memory's or the
    message's. `at` is the time it is about.
    """

    content: str
    score: float
    source: Literal["vector", "graph", "conversation"]
    sources: tuple[str, ...]
    id: str
    metadata: Metadata
    at: datetime
    known_from: datetime
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    speaker: str | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class RecallResult(Value):
    """All that is remembered about a query. `merged` is the ranking to use; the rest is where it came from."""

    merged: tuple[MergedHit, ...]
    vector_results: tuple[Hit, ...]
    conversation_results: tuple[MessageHit, ...]
    graph_results: tuple[Any, ...]
    graph_context: str
    user_profile: Metadata


@dataclass(frozen=True, slots=True)
class Page[T](Value):
    """Part of a listing; pass `cursor` to get the next part, None at the end."""

    items: tuple[T, ...]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Change(Value):
    """One thing that differs between two moments.

    `before` is None for what was learned, `after` for what was forgotten.
    """

    kind: Kind
    id: str
    before: Memory | Message | KeyValue | GraphNode | GraphEdge | None
    after: Memory | Message | KeyValue | GraphNode | GraphEdge | None


@dataclass(frozen=True, slots=True)
class Diff(Value):
    """What changed in what is known about a user between two moments."""

    learned: tuple[Change, ...]
    changed: tuple[Change, ...]
    forgotten: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Reversal(Value):
    """What `rollback` or `undo` did. Pass `origin` to `undo` to take it back.

    `restored` and `ended` count logical rows per kind: those that got an earlier state again, and those that are no
    longer known.
    """

    origin: str
    at: datetime
    restored: Mapping[str, int]
    ended: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Period(Value):
    """A day, week, month or year of a timeline, [start, end) in UTC, and how many memories are of it."""

    start: datetime
    end: datetime
    count: int
    by_type: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Stats(Value):
    """How much is known about a user.

    `memories`: by type. `memory_versions`: the states they have had, forgotten ones included. `first_known` and
    `last_known`: when the first and the last of memories and messages became known. `background`: work that waits or
    has failed; None as of a moment in the past.
    """

    user_id: str
    memories: Mapping[str, int]
    memory_versions: int
    messages: int
    sessions: int
    key_values: int
    first_known: datetime | None
    last_known: datetime | None
    background: QueueStatus | None
    graph_nodes: int = 0
    graph_edges: int = 0


@dataclass(frozen=True, slots=True)
class Reembedded(Value):
    """What changing a schema's embedding model did: how many vectors of memories (all versions) and messages it made
    in this run, none when the model was the one asked for already."""

    model_before: str
    model: str
    dims: int
    memories: int
    messages: int


BackgroundStatus = QueueStatus
