"""Settings: when conversations are extracted, and what is done with what was found."""

import math
from dataclasses import dataclass
from typing import Any, cast

from memground.errors import InvalidInputError
from memground.names import term
from memground.text import show
from neuromem.relations import SINGLE_VALUED


@dataclass(frozen=True, kw_only=True)
class ExtractionPolicy:
    """When the turns of a conversation are given to the language model, and how.

    A session is extracted when `messages` turns wait, when nothing was said for `idle` seconds, and, with `on_close`,
    when it is closed. What still waits when the program ends is extracted after the next start; with `on_shutdown`,
    `close()` extracts it first.

    `context`: so many turns before the new ones are shown too, so that "she" and "there" can be understood.
    `turn_characters`: of a longer turn the model is shown the beginning and the end. `max_tokens`: how long its answer
    may be. `temperature`: how much chance there is in it.
    """

    messages: int = 10
    idle: float = 60.0
    on_close: bool = True
    on_shutdown: bool = False
    context: int = 4
    turn_characters: int = 8_000
    max_tokens: int = 4_096
    temperature: float = 0.0

    def __post_init__(self) -> None:
        _whole(self, "messages", 1, 200)
        _number(self, "idle", 0, 86_400 * 365)
        _flag(self, "on_close")
        _flag(self, "on_shutdown")
        _whole(self, "context", 0, 100)
        _whole(self, "turn_characters", 100, 1_000_000)
        _whole(self, "max_tokens", 64, 1_000_000)
        _number(self, "temperature", 0, 2)

    @classmethod
    def per_message(cls) -> "ExtractionPolicy":
        """One call for every message, at once: learns soonest, costs most."""
        return cls(messages=1, idle=0.0)


@dataclass(frozen=True, kw_only=True)
class DigestPolicy:
    """When memories are reflected on by themselves, in the background.

    A user's are digested when `memories` new ones have come, or some have and none more for `idle` seconds. At most the
    newest `limit` of the news are read.
    """

    memories: int = 50
    idle: float = 3_600.0
    limit: int = 50

    def __post_init__(self) -> None:
        _whole(self, "memories", 1, 10_000)
        _number(self, "idle", 0, 86_400 * 365)
        _whole(self, "limit", 1, 1_000)


@dataclass(frozen=True, kw_only=True)
class HygieneRules:
    """What is done with extracted items before they are stored.

    `near_duplicate`: a memory whose vector is as similar as this (cosine) to a current one of the same type says
    the same thing. `min_confidence`: what the model is less sure of is dropped.
    `max_items`: of each kind one extraction may bring so many; the rest is dropped. `single_valued`: relations of which
    a subject has one at a time, so that a new object ends the old edge; all others keep every object.
    """

    near_duplicate: float = 0.95
    min_confidence: float = 0.3
    max_items: int = 200
    single_valued: frozenset[str] = SINGLE_VALUED

    def __post_init__(self) -> None:
        _number(self, "near_duplicate", 0, 1)
        _number(self, "min_confidence", 0, 1)
        _whole(self, "max_items", 1, 10_000)
        given: Any = self.single_valued
        if not _are_names(given):
            raise InvalidInputError(f"single_valued={show(given)} is not accepted; pass a set of names of relations")
        object.__setattr__(self, "single_valued", frozenset(term(name, "single_valued") for name in given))


def _are_names(value: Any) -> bool:
    return isinstance(value, set | frozenset) and all(
        isinstance(name, str) and name for name in cast("set[Any]", value)
    )


def _whole(settings: object, name: str, lowest: int, highest: int) -> None:
    value = getattr(settings, name)
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise InvalidInputError(
            f"{name}={show(value)} is not accepted; pass a whole number from {lowest:,} to {highest:,}"
        )


def _number(settings: object, name: str, lowest: float, highest: float) -> None:
    value = getattr(settings, name)
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not known or not lowest <= value <= highest:
        raise InvalidInputError(f"{name}={show(value)} is not accepted; pass a number from {lowest:,} to {highest:,}")


def _flag(settings: object, name: str) -> None:
    value = getattr(settings, name)
    if not isinstance(value, bool):
        raise InvalidInputError(f"{name}={show(value)} is not accepted; pass True or False")
