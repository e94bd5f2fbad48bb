"""What one extraction found, item by item, each with the messages it came from."""

from dataclasses import dataclass
from typing import Any

from neuromem.types import Dropped, Episode, Fact, Triple, Value


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
class Extraction(Value):
    """One reading of some turns of a conversation."""

    facts: tuple[Extracted[Fact], ...] = ()
    episodes: tuple[Extracted[Episode], ...] = ()
    triples: tuple[Extracted[Triple], ...] = ()
    profile_updates: tuple[Extracted[ProfileUpdate], ...] = ()
    dropped: tuple[Dropped, ...] = ()
