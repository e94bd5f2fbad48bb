"""The sample history: two friends, half a year, English and Chinese, and facts that change."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import resources
from typing import Any

from memground.filters import F
from neuromem._core import NeuroMemory
from neuromem.types import MemoryType, Message, NewMemory, NewMessage

ORIGIN = "demo"


@dataclass(frozen=True)
class SampleQuestion:
    """A question, and an earlier moment at which its answer was another, where there is one."""

    ask: str
    earlier: datetime | None


@dataclass(frozen=True)
class Imported:
    """What the import added: nothing the second time."""

    messages: int
    memories: int


class Sample:
    """The history as read from the package."""

    def __init__(self) -> None:
        text = resources.files("neuromem.demo").joinpath("sample.json").read_text(encoding="utf-8")
        self._data: Mapping[str, Any] = json.loads(text)
        self.user: str = self._data["user"]

    @property
    def questions(self) -> list[SampleQuestion]:
        return [
            SampleQuestion(question["ask"], _time(question["earlier"]) if "earlier" in question else None)
            for question in self._data["questions"]
        ]

    def sessions(self) -> list[tuple[str, list[NewMessage]]]:
        """(session id, messages); a turn follows the one before after half a minute."""
        return [(session["id"], list(map(self._message, *self._turns(session)))) for session in self._data["sessions"]]

    async def load(self, nm: NeuroMemory) -> Imported:
        """Imports the conversations and what an agent would have noted; a second time adds nothing."""
        known = sum(session.message_count for session in await nm.conversations.list_sessions(self.user))
        said: dict[str, Message] = {}
        for session_id, messages in self.sessions():
            for message in await nm.conversations.add_messages_batch(
                self.user, messages, session_id=session_id, origin=ORIGIN
            ):
                said[str(message.external_id)] = message
        noted = await self._note(nm, said)
        await nm.kv.batch_set("profile", self.user, self._data["profile"], origin=ORIGIN)
        await nm.wait_idle()
        return Imported(len(said) - known, noted)

    async def _note(self, nm: NeuroMemory, said: Mapping[str, Message]) -> int:
        """Writes the notes as they would have been written at the time: each known since its turn was said."""
        page = await nm.list_memories(self.user, where=F("origin") == ORIGIN, limit=100)
        there = {memory.metadata.get("key") for memory in page.items}
        notes = [note for note in self._data["memories"] if note["key"] not in there]
        new = [self._new_memory(note, said) for note in notes]
        stored = await nm.add_memories(self.user, new, origin=ORIGIN)
        for note, memory in zip(notes, stored, strict=True):
            if "ended_by" in note:  # the world changed: the fact stays, its validity ends
                learned, end = said[_turn_id(note["ended_by"])].timestamp, _time(note["valid_to"])
                await nm.update_memory(self.user, memory.memory_id, valid_to=end, known_at=learned, origin=ORIGIN)
            if "corrected_by" in note:  # it was never so: a new version replaces it
                learned, right = said[_turn_id(note["corrected_by"])].timestamp, note["correction"]
                await nm.update_memory(self.user, memory.memory_id, content=right, known_at=learned, origin=ORIGIN)
        return len(stored)

    @staticmethod
    def _new_memory(note: Mapping[str, Any], said: Mapping[str, Message]) -> NewMemory:
        source = said[_turn_id(note["from"])]
        return NewMemory(
            content=note["content"],
            memory_type=MemoryType.FACT,
            metadata={"key": note["key"]},
            valid_from=_time(note["valid_from"]) if "valid_from" in note else None,
            known_at=source.timestamp,
            sources=[source.message_id],
        )

    @staticmethod
    def _turns(session: Mapping[str, Any]) -> tuple[list[str], list[datetime], list[list[str]]]:
        begun, turns = _time(session["begun"]), session["turns"]
        ids = [_turn_id((session["id"], number)) for number in range(1, len(turns) + 1)]
        return ids, [begun + timedelta(seconds=30 * place) for place in range(len(turns))], turns

    @staticmethod
    def _message(turn_id: str, said_at: datetime, turn: list[str]) -> NewMessage:
        speaker, text = turn
        return NewMessage("user", text, timestamp=said_at, external_id=turn_id, speaker=speaker)


def _turn_id(place: Any) -> str:
    session, number = place
    return f"{session}/{number}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
