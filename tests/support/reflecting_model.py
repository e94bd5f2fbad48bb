"""A language model that reflects by a script: its answer depends on which memories it is shown, not on their order.

A memory may hold words such as "#tea": each that two or more memories share becomes an insight that rests on these. Of
emotions it says the words for them.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from support import scripted_model
from support.openai_server import Json

_BLOCK = re.compile(r"<(\w+)>\n(.*?)\n</\1>", re.DOTALL)


def blocks_of(body: Json) -> dict[str, list[dict[str, Any]]]:
    """The blocks of a request by name, each as its lines."""
    found = _BLOCK.findall(body["messages"][-1]["content"])
    return {name: [json.loads(line) for line in lines.splitlines()] for name, lines in found}


def purpose(body: Json) -> str:
    """What is asked for: "extraction", "digest" or "emotion"."""
    blocks = blocks_of(body)
    return "digest" if "memories" in blocks else "emotion" if "emotions" in blocks else "extraction"


def insights_of(memories: list[dict[str, Any]]) -> list[Json]:
    by_word: dict[str, list[int]] = {}
    for memory in memories:
        for word in dict.fromkeys(re.findall(r"#(\w+)", memory["text"])):
            by_word.setdefault(word, []).append(memory["memory"])
    return [
        {
            "category": "pattern",
            "content": f"Often speaks of {word}",
            "confidence": 0.9,
            "importance": 7,
            "sources": numbers,
        }
        for word, numbers in sorted(by_word.items())
        if len(numbers) > 1
    ]


def feelings_of(memories: list[dict[str, Any]]) -> Json:
    recent = sorted({memory.get("label", "something") for memory in memories if memory["recent"]})
    words = sorted({memory.get("label", "something") for memory in memories})
    return {
        "latest_state": f"Lately felt {', '.join(recent)}" if recent else None,
        "emotion_triggers": [{"trigger": f"what brings {word}", "emotion": word} for word in words],
    }


def answer(body: Json) -> str:
    """What the script makes of a request; extraction goes by its own script."""
    blocks = blocks_of(body)
    match purpose(body):
        case "digest":
            return json.dumps({"insights": insights_of(blocks["memories"])}, ensure_ascii=False)
        case "emotion":
            return json.dumps(feelings_of(blocks["emotions"]), ensure_ascii=False)
        case _:
            return scripted_model.answer(body)


def answering(**instead: str | Mapping[str, Any]) -> Callable[[Json], str]:
    """The script, but for requests of a purpose: `answering(digest="no JSON", emotion={"latest_state": "…"})`."""

    def chat(body: Json) -> str:
        given = instead.get(purpose(body))
        if given is None:
            return answer(body)
        return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)

    return chat
