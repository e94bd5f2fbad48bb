"""What stores are given and give back: values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from memground.filters import Filter
from omnimem.models import EVERYTHING, Memory, Scope


@dataclass(frozen=True)
class Selection:
    """Which memories are meant: of a scope, passing a filter, as they were known at a moment (None: now)."""

    scope: Scope = EVERYTHING
    filter: Filter | None = None
    as_of: datetime | None = None


@dataclass(frozen=True)
class StoredRecord:
    """A record and when the next one took its place (None: it is the latest)."""

    memory: Memory
    superseded_time: datetime | None


@dataclass(frozen=True)
class Indexed:
    """A record an index takes in, and when the next one took its place (None: it was the latest when it was read)."""

    memory: Memory
    superseded_time: datetime | None
    first: bool = False
    """It is the memory's first record, so that nothing has to be looked for."""

    @classmethod
    def of(cls, record: StoredRecord, *, first: bool = False) -> "Indexed":
        return cls(record.memory, record.superseded_time, first)

    @property
    def memory_id(self) -> str:
        return self.memory.memory_id

    @property
    def record_id(self) -> str:
        return self.memory.record_id

    @property
    def version(self) -> int:
        return self.memory.version

    @property
    def scope(self) -> Scope:
        return self.memory.scope

    @property
    def created_time(self) -> datetime:
        return self.memory.created_time


@dataclass(frozen=True)
class Vector:
    """A vector, and the hash of the text it was made of."""

    content_hash: str
    numbers: Sequence[float]


@dataclass(frozen=True)
class VectorEntry:
    """The vectors of a record by the name of their field."""

    record: Indexed
    vectors: Mapping[str, Vector]


@dataclass(frozen=True)
class KeywordEntry:
    """The text of a record whose words are found, and its hash."""

    record: Indexed
    text: str
    content_hash: str


@dataclass(frozen=True)
class Candidate:
    """A memory an index found: by which record, how well, and by which field. `decided`: whether the index could tell
    that it passes the filter; what it could not tell is finished on truth."""

    memory_id: str
    record_id: str
    score: float
    field: str | None = None
    decided: bool = True


@dataclass(frozen=True)
class VectorContent:
    """What a vector index holds of a record."""

    memory_id: str
    superseded_time: datetime | None
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class KeywordContent:
    """What a keyword index holds of a record."""

    memory_id: str
    superseded_time: datetime | None
    content_hash: str


@dataclass(frozen=True)
class Change:
    """Something that happened to the truth and that the indexes have to follow."""

    kind: Literal["put", "delete"]
    memory_id: str
    record_id: str | None = None

    @classmethod
    def put(cls, memory: Memory) -> "Change":
        return cls("put", memory.memory_id, memory.record_id)


@dataclass(frozen=True)
class Claim:
    """Changes that one worker works on; `token` is the queue's own."""

    changes: Sequence[Change]
    token: object


@dataclass(frozen=True)
class FailedChange:
    """A change that was tried as often as the policy says, when it failed for good (None: not known), and why."""

    change: Change
    attempts: int
    error: str
    time: datetime | None
