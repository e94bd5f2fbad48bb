"""Conversations as people have them, each with a language model that follows a script about it.

The model reads each new turn by itself, so that it does not matter how turns are batched.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import scripted

from neuromem import NewMessage
from neuromem.demo.learning import learned_turns
from neuromem.demo.sample import Sample
from neuromem.importers import locomo
from support.openai_server import Json
from support.scripted_model import turns_of

type Items = Mapping[str, Sequence[Mapping[str, Any]]]

_SECTIONS = ("facts", "episodes", "triples", "profile_updates")
_LOCOMO_SESSIONS = 5


@dataclass(frozen=True)
class Dialogue:
    """`sessions`: messages by session id, in order. `learned`: what a turn, as the model sees it, says of the world."""

    sessions: Mapping[str, Sequence[NewMessage]]
    learned: Callable[[Json], Items]

    @property
    def turns(self) -> list[NewMessage]:
        """All messages, in the order in which they were said."""
        return sorted((turn for turns in self.sessions.values() for turn in turns), key=lambda turn: turn.timestamp)

    def answer(self, body: Json) -> str:
        """What the model makes of a request."""
        found: dict[str, list[Json]] = {section: [] for section in _SECTIONS}
        for turn in turns_of(body):
            for section, items in self.learned(turn).items():
                found[section] += [{**item, "sources": [turn["turn"]]} for item in items]
        return json.dumps(found, ensure_ascii=False)


def dialogue(file: str | None = None, only: Collection[str] = ()) -> Dialogue:
    """The demo's: two friends, half a year, in two languages, with facts that change. Of a LoCoMo file: how the first
    dialogue begins. `only`: some of its sessions."""
    whole = _of_the_demo() if file is None else _of_locomo(Path(file))
    some = {name: turns for name, turns in whole.sessions.items() if name in only}
    return replace(whole, sessions=some) if only else whole


def _of_the_demo() -> Dialogue:
    sessions, learned = dict(Sample().sessions()), learned_turns()
    by_text = {turn.content: learned.get(str(turn.external_id), {}) for turns in sessions.values() for turn in turns}
    return Dialogue(sessions, lambda turn: by_text[turn["text"]])


def _of_locomo(file: Path) -> Dialogue:
    first = locomo.read(file)[0]

    def learned(turn: Json) -> Items:
        said: Any = NewMessage(turn["role"], turn["text"], speaker=turn["speaker"])
        other = next(name for name in first.speakers if name != turn["speaker"])
        facts = [{"content": fact.content, "confidence": 0.9} for fact in scripted.facts(said, other)]
        return {"facts": facts, "triples": [asdict(triple) for triple in scripted.triples(said)]}

    return Dialogue(dict(first.sessions[:_LOCOMO_SESSIONS]), learned)
