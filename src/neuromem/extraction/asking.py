"""What the language model is asked: instructions, and turns of a conversation that cannot be mistaken for any."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from neuromem.extraction.policy import ExtractionPolicy
from neuromem.types import Value

type Language = Literal["en", "zh"]

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class Turn(Value):
    """A message as the model sees it. `at`: when it was said, an aware datetime."""

    id: str
    role: str
    content: str
    at: datetime
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What one call of the model is about.

    `turns` are read, `earlier` ones (right before them) only explain them. `timezone`: the user's, in which the turns'
    times are shown and the answer's are meant. `known`: what is remembered already, so that it is not said again.
    Nothing here depends on when the call is made, so that a late answer is the same as an early one.
    """

    turns: tuple[Turn, ...]
    earlier: tuple[Turn, ...] = ()
    timezone: tzinfo = UTC
    known: tuple[str, ...] = ()

    @property
    def numbered(self) -> tuple[Turn, ...]:
        """All turns shown; the first has the number 1."""
        return self.earlier + self.turns

    @property
    def first_half(self) -> "Asked":
        """The same about fewer turns, at least one."""
        return replace(self, turns=self.turns[: max(1, len(self.turns) // 2)])


def extraction_messages(asked: Asked, policy: ExtractionPolicy | None = None) -> list[dict[str, Any]]:
    """The messages of one extraction: instructions in the language of the turns (the same every time, so that
    providers can cache them), then the turns, one JSON object a line."""
    policy = policy or ExtractionPolicy()
    lines = [
        json_line(
            {
                "turn": number,
                "time": local_time(turn.at, asked.timezone),
                "role": turn.role,
                **({"speaker": turn.speaker} if turn.speaker else {}),
                "text": shortened(turn.content, policy.turn_characters),
            }
        )
        for number, turn in enumerate(asked.numbered, 1)
    ]
    first = len(asked.earlier)
    parts = [block("earlier", lines[:first]), block("conversation", lines[first:])]
    if asked.known:
        parts.insert(0, block("known", (json_line(shortened(fact, policy.turn_characters)) for fact in asked.known)))
    language = language_of(turn.content for turn in asked.turns)
    return [
        {"role": "system", "content": instructions("extract", language)},
        {"role": "user", "content": "\n".join(part for part in parts if part)},
    ]


@cache
def instructions(name: str, language: Language) -> str:
    """The text of `neuromem/prompts/NAME.LANGUAGE.txt`."""
    return files("neuromem.prompts").joinpath(f"{name}.{language}.txt").read_text(encoding="utf-8").strip()


def language_of(texts: Iterable[str]) -> Language:
    """Which instructions fit: "zh" where at least a fifth of the letters are Chinese (and few are Japanese)."""
    chinese = japanese = letters = 0
    for text in texts:
        for character in text:
            letters += character.isalpha()
            chinese += "\u4e00" <= character <= "\u9fff" or "\u3400" <= character <= "\u4dbf"
            japanese += "\u3041" <= character <= "\u30ff"
    return "zh" if chinese * 5 >= letters > 0 and japanese * 10 <= chinese else "en"


def block(name: str, lines: Iterable[str]) -> str:
    """Lines between <name> and </name>; nothing where there are none."""
    inside = "\n".join(lines)
    return f"<{name}>\n{inside}\n</{name}>" if inside else ""


def json_line(value: Any) -> str:
    """A value as JSON on one line without `<` or `>`: no text in it can end its line, its quotes or its block."""
    line = json.dumps(value, ensure_ascii=False)
    for character in "<>\u2028\u2029\x85":
        line = line.replace(character, f"\\u{ord(character):04x}")
    return line


def local_time(moment: datetime, timezone: tzinfo) -> str:
    try:
        local = moment.astimezone(timezone)
    except OverflowError:  # at the ends of the calendar
        local = moment
    return f"{local:%Y-%m-%d %H:%M} {_DAYS[local.weekday()]}"


def shortened(text: str, limit: int) -> str:
    """The beginning and the end of a long text."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} […] {text[-half:]}"


def users_words(turns: Sequence[Turn]) -> tuple[str, ...]:
    """What the user said, as opposed to the assistant."""
    return tuple(turn.content for turn in turns if turn.role == "user")
