"""How much is known, and how much was done."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from memground.postgres.queue import QueueStatus
from neuromem.types.values import Value

BackgroundStatus = QueueStatus


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
    has failed; None as of a moment in the past. `documents`: uploaded files. `insights`: the memories of that type,
    `emotions`: those of any type that carry an emotion. `without_vector`: memories and messages that are found by their
    words only, until background work has made their vectors.
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
    documents: int = 0
    insights: int = 0
    emotions: int = 0
    without_vector: int = 0


@dataclass(frozen=True, slots=True)
class Reembedded(Value):
    """What changing a schema's embedding model did: how many vectors of memories (all versions) and messages it made
    in this run, none when the model was the one asked for already."""

    model_before: str
    model: str
    dims: int
    memories: int
    messages: int
