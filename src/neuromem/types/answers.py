"""What search and recall answer, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from neuromem.types.conversations import Message
from neuromem.types.graph import GraphFact
from neuromem.types.memories import Memory, Source
from neuromem.types.values import Metadata, Value


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

    `source` is what gave the content its score, `sources` all that hold the same content. `id` is the memory's, the
    message's, the edge's or the entry's. `at` is the time it is about. `came_from`: the messages and files it is known
    from (a message: itself).
    """

    content: str
    score: float
    source: Literal["vector", "graph", "conversation", "profile"]
    sources: tuple[str, ...]
    id: str
    metadata: Metadata
    at: datetime
    known_from: datetime
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    speaker: str | None = None
    came_from: tuple[Source, ...] = ()
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class RecallResult(Value):
    """All that is remembered about a query. `merged` is the ranking to use; the rest is where it came from.

    `graph_context`: the relations of `graph_results` as lines of text, for a prompt.
    """

    merged: tuple[MergedHit, ...]
    vector_results: tuple[Hit, ...]
    conversation_results: tuple[MessageHit, ...]
    graph_results: tuple[GraphFact, ...]
    graph_context: str
    user_profile: Metadata
