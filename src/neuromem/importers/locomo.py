"""Reads a LoCoMo file (Maharana et al., ACL 2024): long dialogues of two people, with questions about them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from neuromem.errors import InvalidInputError
from neuromem.importers.items import Draft, Item, conversation
from neuromem.importers.reading import Reading, records
from neuromem.types import NewMessage

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}

_TURN_ID = re.compile(r"D\d+:\d+")


@dataclass(frozen=True)
class Question:
    """A question, its category's name, the answer, and the ids of the turns that show it."""

    text: str
    category: str
    answer: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Dialogue:
    """`sessions`: (session id, messages) in order; a message's external id is the turn's."""

    name: str
    speakers: tuple[str, str]
    sessions: list[tuple[str, list[NewMessage]]]
    questions: list[Question]

    def __len__(self) -> int:
        return sum(len(messages) for _, messages in self.sessions)


def read(path: Path) -> list[Dialogue]:
    """The dialogues of a file with their questions; raises InvalidInputError when it is no LoCoMo file."""
    try:
        entries: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read as JSON: {error}") from None
    return [_checked(entry, str(path)) for entry in (entries if isinstance(entries, list) else [entries])]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def items(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """The turns of every dialogue, without the questions. A session is named dialogue/session_N."""
    for entry in records(stream, reading):
        dialogue = _checked(entry, reading.name)
        for session_id, messages in dialogue.sessions:
            drafts = (
                Draft(
                    place=f"{reading.name}: {dialogue.name} {message.external_id}",
                    role=message.role,
                    content=message.content,
                    timestamp=message.timestamp,
                    external_id=message.external_id,
                    speaker=message.speaker,
                )
                for message in messages
            )
            yield from conversation(f"{dialogue.name}/{session_id}", drafts, owner=dialogue.name)


def _checked(entry: Any, name: str) -> Dialogue:
    try:
        return _dialogue(entry)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInputError(
            f"{name} is no LoCoMo file ({type(error).__name__}: {error}); "
            "expected a list of entries with `conversation` (`session_N`, `session_N_date_time`) and `qa`"
        ) from None


def _dialogue(entry: Mapping[str, Any]) -> Dialogue:
    conversation = entry["conversation"]
    sessions = list(_sessions(conversation))
    known = {message.external_id for _, messages in sessions for message in messages}
    questions = [question for raw in entry.get("qa", ()) if (question := _question(raw, known)).evidence]
    speakers = (conversation["speaker_a"], conversation["speaker_b"])
    return Dialogue(str(entry.get("sample_id", "dialogue")), speakers, sessions, questions)


def _sessions(conversation: Mapping[str, Any]) -> Iterator[tuple[str, list[NewMessage]]]:
    numbers = sorted(int(key.removeprefix("session_")) for key in conversation if re.fullmatch(r"session_\d+", key))
    for number in numbers:
        begun = _date(conversation[f"session_{number}_date_time"])
        yield (
            f"session_{number}",
            [
                _message(turn, begun + timedelta(seconds=place), conversation["speaker_a"])
                for place, turn in enumerate(conversation[f"session_{number}"])
            ],
        )


def _message(turn: Mapping[str, Any], said_at: datetime, first_speaker: str) -> NewMessage:
    caption = turn.get("blip_caption")
    text = str(turn.get("text") or "") + (f" [image: {caption}]" if caption else "")
    return NewMessage(
        role="user" if turn["speaker"] == first_speaker else "assistant",
        content=text.strip() or "[no text]",
        timestamp=said_at,
        external_id=turn["dia_id"],
        speaker=turn["speaker"],
    )


def _question(raw: Mapping[str, Any], known: set[str | None]) -> Question:
    named: list[str] = [found for part in raw.get("evidence") or () for found in _TURN_ID.findall(str(part))]
    evidence = tuple(dict.fromkeys(turn for turn in named if turn in known))
    answer = str(raw.get("answer", raw.get("adversarial_answer", "")))
    return Question(str(raw["question"]), CATEGORIES.get(raw.get("category", 0), "other"), answer, evidence)


def _date(text: str) -> datetime:
    """Such as "1:56 pm on 8 May, 2023"."""
    return datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
