"""Everything that is known about one thing."""

from dataclasses import dataclass
from datetime import datetime

from neuromem.types.conversations import Message
from neuromem.types.graph import GraphFact, GraphNode
from neuromem.types.memories import Memory
from neuromem.types.values import Value


@dataclass(frozen=True, slots=True)
class EntityProfile(Value):
    """What is known about whatever goes by a name.

    `names`: all names it goes by, in normal form. `nodes`: it in the graph, once for each type. `relations`: what the
    graph says of it, in words; what has ended comes last. `memories`, `messages`: those that name it by any of its
    names, the latest first. The counts are of all there are, not only of those shown; `complete` is False where more
    were there than were counted. `first_mentioned`, `last_mentioned`: the times the first and the last of these
    memories and messages are of.
    """

    entity: str
    user_id: str
    names: tuple[str, ...]
    nodes: tuple[GraphNode, ...]
    relations: tuple[GraphFact, ...]
    memories: tuple[Memory, ...]
    messages: tuple[Message, ...]
    relation_count: int
    memory_count: int
    message_count: int
    first_mentioned: datetime | None
    last_mentioned: datetime | None
    complete: bool = True

    def __bool__(self) -> bool:
        """Whether anything is known at all."""
        return bool(self.nodes or self.relations or self.memories or self.messages)
