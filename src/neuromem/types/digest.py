"""What reflecting on memories gave."""

from dataclasses import dataclass
from datetime import datetime

from neuromem.types.emotion import EmotionProfile
from neuromem.types.extraction import Dropped
from neuromem.types.memories import Memory
from neuromem.types.values import Value


@dataclass(frozen=True, slots=True)
class DigestResult(Value):
    """What one digest did. Pass `origin` to `undo` to take it back; None where there was no news, and nothing written.

    `insights` are new memories of type "insight", `restated` such as were known and were found again; each names the
    memories it rests on. `read`: how many memories were news and read; `unread`: news beyond the limit, which count as
    read from now on. `emotion`: the profile after it, None where no memory tells of an emotion. `dropped`: how many
    items of a kind were not kept, and why.
    """

    origin: str | None
    at: datetime
    insights: tuple[Memory, ...] = ()
    restated: tuple[Memory, ...] = ()
    emotion: EmotionProfile | None = None
    read: int = 0
    unread: int = 0
    llm_calls: int = 0
    dropped: tuple[Dropped, ...] = ()
