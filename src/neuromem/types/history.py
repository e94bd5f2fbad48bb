"""What differs between two moments, and what going back did."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from neuromem.types.conversations import Message
from neuromem.types.files import Document
from neuromem.types.graph import GraphEdge, GraphNode
from neuromem.types.kv import KeyValue
from neuromem.types.memories import Memory
from neuromem.types.values import Value

type Kind = Literal["memory", "message", "kv", "document", "graph_node", "graph_edge"]


@dataclass(frozen=True, slots=True)
class Change(Value):
    """One thing that differs between two moments.

    `before` is None for what was learned, `after` for what was forgotten.
    """

    kind: Kind
    id: str
    before: Memory | Message | KeyValue | Document | GraphNode | GraphEdge | None
    after: Memory | Message | KeyValue | Document | GraphNode | GraphEdge | None


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
