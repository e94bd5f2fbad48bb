"""Items of an extraction that somebody else made, checked: values, or dicts with the same fields."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

from memground.errors import InvalidInputError
from memground.text import check_json, check_text, show
from neuromem import checks
from neuromem.extraction.items import Extracted, Extraction, ProfileUpdate
from neuromem.relations import normal_triple
from neuromem.types import Emotion, Episode, Fact, Triple

_MAX_ITEMS = 10_000
_MAX_NAMES = 1_000


def extraction_of(
    facts: Sequence[Fact | Mapping[str, Any]],
    episodes: Sequence[Episode | Mapping[str, Any]],
    triples: Sequence[Triple | Mapping[str, Any]],
    profile_updates: Mapping[str, Any],
    sources: tuple[str, ...],
) -> Extraction:
    """What was given as one extraction, every item from the same sources. Raises InvalidInputError."""
    if not isinstance(profile_updates, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(
            f"profile_updates must be a dict of key to value, got {type(profile_updates).__name__} "
            f"{show(profile_updates)}"
        )
    updates = [
        ProfileUpdate(checks.name(key, "key of profile_updates"), check_json(value, f"profile_updates[{key!r}]"))
        for key, value in profile_updates.items()
    ]
    return Extraction(
        facts=tuple(Extracted(_fact(*item), sources) for item in _items(facts, "facts", Fact)),
        episodes=tuple(Extracted(_episode(*item), sources) for item in _items(episodes, "episodes", Episode)),
        triples=tuple(Extracted(_triple(*item), sources) for item in _items(triples, "triples", Triple)),
        profile_updates=tuple(Extracted(update, sources) for update in updates),
    )


def _items[T](given: object, what: str, kind: type[T]) -> list[tuple[T, str]]:
    """The items as values of `kind`, each with its place for messages."""
    items = checks.items(given, what, f"{kind.__name__} values or dicts")
    if len(items) > _MAX_ITEMS:
        raise InvalidInputError(f"{what} has {len(items):,} items; at most {_MAX_ITEMS:,} are accepted at once")
    return [(_value(item, f"{what}[{place}]", kind), f"{what}[{place}]") for place, item in enumerate(items)]


def _value[T](given: object, place: str, kind: type[T]) -> T:
    if isinstance(given, kind):
        return given
    names = [field.name for field in fields(cast(Any, kind))]
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            f"{place} must be a {kind.__name__} or a dict of its fields, got {type(given).__name__} {show(given)}"
        )
    values = cast(Mapping[Any, Any], given)
    if unknown := [key for key in values if key not in names]:
        raise InvalidInputError(f"{place} has the field {show(unknown[0])}; accepted: {', '.join(names)}")
    try:
        return kind(**values)
    except TypeError:
        missing = [name for name in names if name not in values]
        raise InvalidInputError(f"{place} lacks a field; of {', '.join(missing)} those without a default") from None


def _fact(fact: Fact, place: str) -> Fact:
    valid_from, valid_to = checks.validity(fact.valid_from, fact.valid_to)
    return Fact(**_common(fact, place), valid_from=valid_from, valid_to=valid_to)


def _episode(episode: Episode, place: str) -> Episode:
    return Episode(**_common(episode, place), happened_at=checks.moment(episode.happened_at, f"{place}.happened_at"))


def _triple(triple: Triple, place: str) -> Triple:
    try:
        return normal_triple(triple)
    except InvalidInputError as error:
        raise InvalidInputError(f"{place}: {error}") from None


def _common(item: Fact | Episode, place: str) -> dict[str, Any]:
    entities = checks.items(item.entities, f"{place}.entities", "names")
    if len(entities) > _MAX_NAMES:
        raise InvalidInputError(f"{place}.entities has {len(entities):,} names; at most {_MAX_NAMES:,} are accepted")
    return {
        "content": check_text(item.content, f"{place}.content"),
        "category": checks.name(item.category, f"{place}.category"),
        "confidence": _number(item.confidence, f"{place}.confidence", 0, 1),
        "importance": None if item.importance is None else checks.importance(item.importance),
        "emotion": _emotion(item.emotion, f"{place}.emotion"),
        "entities": tuple(checks.name(name, f"{place}.entities") for name in entities),
    }


def _emotion(given: object, place: str) -> Emotion | None:
    if given is None:
        return None
    emotion = _value(given, place, Emotion)
    return Emotion(
        valence=_number(emotion.valence, f"{place}.valence", -1, 1),
        arousal=_number(emotion.arousal, f"{place}.arousal", 0, 1),
        label=checks.optional_name(emotion.label, f"{place}.label"),
    )


def _number(value: object, place: str, lowest: float, highest: float) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not known or not lowest <= cast(float, value) <= highest:
        raise InvalidInputError(f"{place}={show(value)} is not accepted; pass a number from {lowest} to {highest}")
    return float(cast(float, value))
