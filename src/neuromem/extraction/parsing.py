"""From a model's answer to items that can be stored. One bad field costs itself, one bad item itself, no more."""

from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from typing import Any, cast

from memground.errors import InvalidInputError, ProviderError
from neuromem.extraction import fields
from neuromem.extraction.asking import Asked, users_words
from neuromem.extraction.items import Extracted, Extraction, ProfileUpdate
from neuromem.extraction.policy import HygieneRules
from neuromem.extraction.privacy import without_inferences
from neuromem.extraction.reading import listed, lower_keys, read_json
from neuromem.relations import normal_triple
from neuromem.types import Dropped, Episode, Fact, ItemKind, Triple

type _Object = Mapping[str, Any]

_SECTIONS = ("facts", "episodes", "triples", "profile_updates")


def parse_extraction(
    answer: str, asked: Asked, rules: HygieneRules | None = None, *, model: str = "the model"
) -> Extraction:
    """What a model's answer to `extraction_messages(asked)` says, without what must not be inferred of a person.

    An item's sources are the turns it names; where none of them is new, all new ones are added, because one of them
    made the model say it. At most `rules.max_items` of each kind are kept.

    Raises ProviderError when the answer is no JSON, or nothing of what was asked for. Whatever else is wrong drops
    the field or the item it is in.
    """
    sections = _sections(read_json(answer, model), model)
    limit = (rules or HygieneRules()).max_items
    reader = _Reader(asked, limit)
    zone = asked.timezone
    found = Extraction(
        facts=reader.read("fact", listed(sections.get("facts"), "content"), lambda given: _fact(given, zone)),
        episodes=reader.read(
            "episode", listed(sections.get("episodes"), "content"), lambda given: _episode(given, zone)
        ),
        triples=reader.read("triple", listed(sections.get("triples"), "subject"), lambda given: _triple(given, zone)),
        profile_updates=reader.read("profile", _updates(sections.get("profile_updates")), _update),
        dropped=tuple(reader.dropped),
    )
    return without_inferences(found, users_words(asked.numbered))


def _sections(found: dict[str, Any] | list[Any], model: str) -> _Object:
    """The four lists by name. Some models wrap them in one more object, or send several objects."""
    sections: dict[str, Any] = {}
    for item in found if isinstance(found, list) else [found]:
        named = lower_keys(cast("dict[Any, Any]", item)) if isinstance(item, dict) else {}
        inner = next(iter(named.values()), None)
        if len(named) == 1 and isinstance(inner, dict) and not named.keys() & set(_SECTIONS):
            named = lower_keys(cast("dict[Any, Any]", inner))
        for name in _SECTIONS:
            if name in named:
                sections.setdefault(name, named[name])
    if not sections and found:
        raise ProviderError(f"{model} answered with JSON that has none of {', '.join(_SECTIONS)}")
    return sections


def _updates(section: object) -> list[object]:
    """Profile updates as a list; they may also come as one object from keys to values."""
    if not isinstance(section, dict):
        return listed(section, "key")
    given = cast("dict[Any, Any]", section)
    if given.keys() >= {"key", "value"}:
        return [given]
    return [
        {"key": key, **value} if isinstance(value, dict) and "value" in value else {"key": key, "value": value}
        for key, value in given.items()
    ]


class _Reader:
    """Reads the items of one answer, and counts what it cannot."""

    def __init__(self, asked: Asked, limit: int) -> None:
        self._ids = tuple(turn.id for turn in asked.numbered)
        self._first_new = len(asked.earlier) + 1
        self._limit = limit
        self.dropped: list[Dropped] = []

    def read[T](
        self, kind: ItemKind, given: Sequence[object], build: Callable[[_Object], T | None]
    ) -> tuple[Extracted[T], ...]:
        found: dict[str, Extracted[T]] = {}
        unusable = 0
        for item in given[: self._limit]:
            named = _named(item, kind)
            built = build(named)
            if built is None:
                unusable += 1
            else:
                found.setdefault(repr(built), Extracted(built, self._sources(named.get("sources"))))
        if unusable:
            self.dropped.append(Dropped(kind, "unusable", unusable))
        if len(given) > self._limit:
            self.dropped.append(Dropped(kind, "too many", len(given) - self._limit))
        return tuple(found.values())

    def _sources(self, given: object) -> tuple[str, ...]:
        named = fields.numbers(given, len(self._ids))
        if not any(number >= self._first_new for number in named):
            named += tuple(range(self._first_new, len(self._ids) + 1))
        return tuple(dict.fromkeys(self._ids[number - 1] for number in named))


def _named(item: object, kind: ItemKind) -> _Object:
    """An item as an object: a bare text is what it says, three in a list are a relation."""
    match item:
        case dict() if kind == "profile" and len(cast("dict[Any, Any]", item)) == 1:
            [(key, value)] = cast("dict[Any, Any]", item).items()
            return {"key": key, "value": value}
        case dict():
            return lower_keys(cast("dict[Any, Any]", item))
        case str() if kind in ("fact", "episode"):
            return {"content": item}
        case list() if kind == "triple":
            return dict(zip(("subject", "relation", "object"), cast("list[Any]", item), strict=False))
        case _:
            return {}


def _said(given: _Object) -> dict[str, Any] | None:
    """What facts and episodes share, or None without a content."""
    content = fields.text(given.get("content"), fields.MAX_CONTENT)
    if content is None:
        return None
    confidence = fields.confidence(given.get("confidence"))
    return {
        "content": content,
        "category": (fields.name(given.get("category"), 50) or "general").lower(),
        "confidence": 1.0 if confidence is None else confidence,
        "importance": fields.importance(given.get("importance")),
        "emotion": fields.emotion(given.get("emotion")),
        "entities": fields.names(given.get("entities")),
    }


def _fact(given: _Object, timezone: tzinfo) -> Fact | None:
    said = _said(given)
    if said is None:
        return None
    start, end = fields.period(given.get("valid_from"), given.get("valid_to"), timezone)
    return Fact(**said, valid_from=start, valid_to=end)


def _episode(given: _Object, timezone: tzinfo) -> Episode | None:
    said = _said(given)
    if said is None:
        return None
    happened = fields.first(given, ("happened_at", "timestamp", "valid_from"))
    return Episode(**said, happened_at=fields.moment(happened, timezone))


def _triple(given: _Object, timezone: tzinfo) -> Triple | None:
    names = [fields.whole_name(given.get(field)) for field in ("subject", "relation", "object")]
    subject, relation, target = names
    if not (subject and relation and target):
        return None
    start, end = fields.period(given.get("valid_from"), given.get("valid_to"), timezone)
    confidence = fields.confidence(given.get("confidence"))
    triple = Triple(
        subject=subject,
        relation=relation,
        object=target,
        subject_type=fields.kind(given.get("subject_type")) or "entity",
        object_type=fields.kind(given.get("object_type")) or "entity",
        confidence=1.0 if confidence is None else confidence,
        valid_from=start,
        valid_to=end,
    )
    try:
        return normal_triple(triple)
    except InvalidInputError:  # no letter, nothing to see, too long once written out: the graph would refuse all of it
        return None


def _update(given: _Object) -> ProfileUpdate | None:
    key, value = fields.key(given.get("key")), fields.profile_value(given.get("value"))
    return None if key is None or value is None else ProfileUpdate(key, value)
