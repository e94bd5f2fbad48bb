"""What one extraction found, item by item, each with the messages it came from."""

from dataclasses import dataclass
from typing import Any, Literal

from neuromem.types import Episode, Fact, Triple, Value

type ItemKind = Literal["fact", "episode", "triple", "profile"]
type Reason = Literal["unusable", "personality", "values", "too many"]


@dataclass(frozen=True, slots=True)
class ProfileUpdate(Value):
    """A new value of the user's profile: `key` in snake case, `value` as JSON holds it."""

    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class Extracted[T](Value):
    """An item and the ids of the messages it came from: never empty, in the order of the conversation."""

    item: T
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dropped(Value):
    """How many items of a kind were not kept, and why. What they said is not repeated."""

    kind: ItemKind
    reason: Reason
    count: int


@dataclass(frozen=True, slots=True)
class Extraction(Value):
    """One reading of some turns of a conversation."""

    facts: tuple[Extracted[Fact], ...] = ()
    episodes: tuple[Extracted[Episode], ...] = ()
    triples: tuple[Extracted[Triple], ...] = ()
    profile_updates: tuple[Extracted[ProfileUpdate], ...] = ()
    dropped: tuple[Dropped, ...] = ()
