"""Memories, and what they are added as."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from neuromem.types.values import MemoryRef, Metadata, Source, Value

DEFAULT_IMPORTANCE = 5


class MemoryType(StrEnum):
    """The memory types neuromem itself knows; any other name may be used too."""

    GENERAL = "general"
    FACT = "fact"
    EPISODIC = "episodic"
    INSIGHT = "insight"
    DOCUMENT = "document"


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
