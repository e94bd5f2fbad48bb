"""What the language model is asked about many memories at once, and what can be read in its answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, cast

from memground.errors import ProviderError
from memground.text import fold
from neuromem.extraction import fields
from neuromem.extraction.asking import block, instructions, json_line, language_of, local_time, shortened
from neuromem.extraction.policy import HygieneRules
from neuromem.extraction.privacy import inferred_in_text
from neuromem.extraction.reading import listed, lower_keys, read_json
from neuromem.extraction.schema import listing, of_object
from neuromem.types import Dropped, Emotion, EmotionTrigger, ItemKind, Reason, Value

type Category = Literal["pattern", "summary"]

MAX_ANSWER_TOKENS = 4_096
MAX_CHARACTERS = 1_000
"""Of a longer memory the model is shown the beginning and the end."""

MAX_TRIGGERS = 20

_TEXT = {"type": "string"}
_INSIGHT = of_object(
    category={"type": "string", "enum": ["pattern", "summary"]},
    content=_TEXT,
    confidence={"type": "number"},
    importance={"type": "integer"},
    sources=listing({"type": "integer"}),
)
_TRIGGER = of_object(trigger=_TEXT, emotion=_TEXT)
DIGEST_SCHEMA: dict[str, Any] = {"title": "digest", **of_object(insights=listing(_INSIGHT))}
EMOTION_SCHEMA: dict[str, Any] = {
    "title": "emotion",
    **of_object(latest_state={"type": ["string", "null"]}, emotion_triggers=listing(_TRIGGER)),
}


@dataclass(frozen=True, slots=True)
class Remembered(Value):
    """A memory as the model sees it. `record_id` names the version that was read; `at`: the time it is about."""

    memory_id: str
    record_id: str
    memory_type: str
    content: str
    at: datetime
    emotion: Emotion | None = None


@dataclass(frozen=True, slots=True)
class Insight(Value):
    """What several memories show together, and the ids of those it rests on: never empty."""

    content: str
    category: Category
    confidence: float
    importance: int | None
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Insights(Value):
    """What one call found, and how much of it was not kept."""

    found: tuple[Insight, ...] = ()
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True, slots=True)
class Feelings(Value):
    """How the user has felt lately, and what stirs them, in words; how much was not kept."""

    latest_state: str | None
    triggers: tuple[EmotionTrigger, ...] = ()
    dropped: tuple[Dropped, ...] = ()


def digest_messages(
    memories: Sequence[Remembered], known: Sequence[str] = (), timezone: tzinfo = UTC
) -> list[dict[str, Any]]:
    """The messages that ask for insights: the memories numbered from 1, and the insights there are already."""
    lines = [
        json_line(
            {
                "memory": number,
                "time": local_time(memory.at, timezone),
                "type": memory.memory_type,
                "text": shortened(memory.content, MAX_CHARACTERS),
                **({"emotion": _emotion(memory.emotion)} if memory.emotion else {}),
            }
        )
        for number, memory in enumerate(memories, 1)
    ]
    there = [json_line({"text": shortened(text, MAX_CHARACTERS)}) for text in known]
    return _asking("digest", memories, [block("insights", there), block("memories", lines)])


def emotion_messages(memories: Sequence[Remembered], since: datetime, timezone: tzinfo = UTC) -> list[dict[str, Any]]:
    """The messages that ask how the user feels: memories with emotions; those from `since` on are recent."""
    lines = [
        json_line(
            {
                "time": local_time(memory.at, timezone),
                "recent": memory.at > since,
                "text": shortened(memory.content, MAX_CHARACTERS),
                **_emotion(memory.emotion),
            }
        )
        for memory in memories
        if memory.emotion is not None
    ]
    return _asking("emotion", memories, [block("emotions", lines)])


def parse_insights(
    answer: str, memories: Sequence[Remembered], rules: HygieneRules | None = None, *, model: str = "the model"
) -> Insights:
    """What an answer to `digest_messages(memories)` says, without what must not be inferred of a person.

    One that names none of the memories rests on all of them. Raises ProviderError when the answer is no JSON, or
    nothing of what was asked for; whatever else is wrong drops the field or the insight it is in.
    """
    rules = rules or HygieneRules()
    counted = _Counted("insight")
    given = _section(read_json(answer, model), "insights", "content", model)
    counted.add("too many", len(given) - rules.max_items)
    found: dict[str, Insight] = {}
    for item in given[: rules.max_items]:
        insight = _insight(item, memories)
        if insight is None:
            counted.add("unusable")
        elif inferred := inferred_in_text(insight.content):
            counted.add(inferred)
        elif insight.confidence < rules.min_confidence:
            counted.add("unsure")
        else:
            found.setdefault(fold(insight.content), insight)
    return Insights(tuple(found.values()), counted.dropped)


def parse_feelings(answer: str, *, model: str = "the model") -> Feelings:
    """What an answer to `emotion_messages` says; the rest as in `parse_insights`."""
    counted = _Counted("emotion")
    read = read_json(answer, model)
    named = lower_keys(_only(read))
    if not named.keys() & {"latest_state", "emotion_triggers"}:
        raise ProviderError(f"{model} answered with JSON that has none of latest_state, emotion_triggers")
    state = fields.text(named.get("latest_state"), fields.MAX_CONTENT)
    if state is not None and state.lower() in _NOTHING:
        state = None
    if state is not None and (inferred := inferred_in_text(state)):
        counted.add(inferred)
        state = None
    triggers: dict[str, EmotionTrigger] = {}
    for item in listed(named.get("emotion_triggers"), "trigger"):
        trigger = _trigger(item)
        if trigger is None:
            counted.add("unusable")
        elif inferred := inferred_in_text(trigger.trigger) or inferred_in_text(trigger.emotion or ""):
            counted.add(inferred)
        else:
            triggers.setdefault(fold(trigger.trigger), trigger)
    counted.add("too many", len(triggers) - MAX_TRIGGERS)
    return Feelings(state, tuple(triggers.values())[:MAX_TRIGGERS], counted.dropped)


_NOTHING = frozenset({"null", "none", "n/a", "unknown", "无", "未知"})


class _Counted:
    """How many items of a kind were not kept, and why."""

    def __init__(self, kind: ItemKind) -> None:
        self._kind: ItemKind = kind
        self._counts: dict[Reason, int] = {}

    def add(self, reason: Reason, count: int = 1) -> None:
        if count > 0:
            self._counts[reason] = self._counts.get(reason, 0) + count

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        return tuple(Dropped(self._kind, reason, count) for reason, count in self._counts.items())


def _asking(name: str, memories: Sequence[Remembered], parts: Sequence[str]) -> list[dict[str, Any]]:
    language = language_of(memory.content for memory in memories)
    return [
        {"role": "system", "content": instructions(name, language)},
        {"role": "user", "content": "\n".join(part for part in parts if part)},
    ]


def _emotion(emotion: Emotion | None) -> dict[str, Any]:
    if emotion is None:
        return {}
    felt: dict[str, Any] = {"valence": round(emotion.valence, 2), "arousal": round(emotion.arousal, 2)}
    return felt if emotion.label is None else felt | {"label": emotion.label}


def _section(found: dict[str, Any] | list[Any], name: str, essential: str, model: str) -> list[object]:
    """The list of that name; a list may stand for it, and one more object may be wrapped around."""
    if isinstance(found, list):
        inner: list[Any] = [item[name] for item in found if isinstance(item, dict) and name in item]
        return listed(inner[0], essential) if inner else cast("list[object]", found)
    named = lower_keys(found)
    if name not in named and len(named) == 1 and isinstance(only := next(iter(named.values())), dict):
        named = lower_keys(cast("dict[Any, Any]", only))
    if name not in named and essential in named:
        return [named]
    if name not in named and named:
        raise ProviderError(f"{model} answered with JSON that has no {name}")
    return listed(named.get(name), essential)


def _only(found: dict[str, Any] | list[Any]) -> Mapping[Any, Any]:
    """The object that was asked for: alone in a list, or inside one more object."""
    named: dict[Any, Any] = {}
    for item in found if isinstance(found, list) else [found]:
        if isinstance(item, dict):
            named = cast("dict[Any, Any]", item)
            break
    only = next(iter(named.values()), None)
    return cast("dict[Any, Any]", only) if len(named) == 1 and isinstance(only, dict) else named


def _insight(item: object, memories: Sequence[Remembered]) -> Insight | None:
    given = _named(item, "content")
    content = fields.text(given.get("content"), fields.MAX_CONTENT)
    if content is None:
        return None
    confidence = fields.confidence(given.get("confidence"))
    numbers = fields.numbers(fields.first(given, ("sources", "memories")), len(memories))
    named = [memories[number - 1] for number in numbers] or memories
    category = (fields.name(given.get("category"), 50) or "").lower()
    return Insight(
        content=content,
        category="summary" if category == "summary" else "pattern",
        confidence=1.0 if confidence is None else confidence,
        importance=fields.importance(given.get("importance")),
        sources=tuple(dict.fromkeys(memory.memory_id for memory in named)),
    )


def _trigger(item: object) -> EmotionTrigger | None:
    given = _named(item, "trigger")
    trigger = fields.name(given.get("trigger"))
    return None if trigger is None else EmotionTrigger(trigger, fields.name(given.get("emotion"), 50))


def _named(item: object, essential: str) -> dict[str, Any]:
    """An item as an object: a bare text is what it says."""
    if isinstance(item, dict):
        return lower_keys(cast("dict[Any, Any]", item))
    return {essential: item} if isinstance(item, str) else {}
