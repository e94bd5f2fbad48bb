"""A language model that follows a script: it reads each new turn by itself, so that it does not matter how turns are
batched, and answers the JSON that extraction asks for.

A turn may say, each in a sentence of its own: "fact: …", "episode: …", "key = value" and "a -relation-> b". All else
says nothing.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from support.openai_server import Json

_TURN = re.compile(r"<conversation>\n(.*?)\n</conversation>", re.DOTALL)
_TRIPLE = re.compile(r"(.+) -(\w+)-> (.+)")


def turns_of(body: Json) -> list[dict[str, Any]]:
    """The new turns of a request, as the model sees them."""
    found = _TURN.search(body["messages"][-1]["content"])
    assert found is not None, body
    return [json.loads(line) for line in found[1].splitlines()]


def answer(body: Json) -> str:
    """What the script makes of a request."""
    facts: list[Json] = []
    episodes: list[Json] = []
    triples: list[Json] = []
    profile: list[Json] = []
    for turn in turns_of(body):
        sources = [turn["turn"]]
        for sentence in re.split(r"[.\n]", turn["text"]):
            said = sentence.strip()
            if said.startswith("fact:"):
                facts.append(_item(said, sources))
            elif said.startswith("episode:"):
                episodes.append(_item(said, sources))
            elif found := _TRIPLE.fullmatch(said):
                triples.append({"subject": found[1], "relation": found[2], "object": found[3], "sources": sources})
            elif " = " in said:
                key, value = said.split(" = ", 1)
                profile.append({"key": key, "value": value, "sources": sources})
    found_all = {"facts": facts, "episodes": episodes, "triples": triples, "profile_updates": profile}
    return json.dumps(found_all, ensure_ascii=False)


def _item(said: str, sources: list[int]) -> Json:
    return {"content": said.partition(":")[2].strip(), "confidence": 0.9, "importance": 5, "sources": sources}


def poisoned(word: str, instead: Callable[[Json], str]) -> Callable[[Json], str]:
    """The script, but for requests with a turn that says `word`."""

    def chat(body: Json) -> str:
        return instead(body) if any(word in turn["text"] for turn in turns_of(body)) else answer(body)

    return chat
