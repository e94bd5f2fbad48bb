"""What a language model learns from the sample history: one that follows a script, or the one the environment names."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

from neuromem.demo.sample import Sample
from neuromem.errors import MemoryStoreError
from neuromem.providers.llm import CallbackLLM, LLMProvider, OpenAILLM

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

type _Items = Mapping[str, Sequence[Mapping[str, Any]]]

SCRIPT = "the demo's script"
_BLOCK = re.compile(r"<(conversation|memories|emotions)>\n(.*?)\n</\1>", re.DOTALL)
_SECTIONS = ("facts", "episodes", "triples", "profile_updates")


def learned_turns() -> Mapping[str, _Items]:
    """What is learned from which turn of the sample, by section, in the JSON a language model answers."""
    return _script("learned.json")


def scripted_model(history: Sample) -> CallbackLLM:
    """Answers what the scripts say, as a careful model would, and costs nothing: what is learned from each turn
    (`learned.json`), and what many memories show together (`reflected.json`)."""
    learned, reflected = learned_turns(), _script("reflected.json")
    by_text = {
        message.content: learned.get(str(message.external_id), {})
        for _, messages in history.sessions()
        for message in messages
    }

    async def answer(messages: list[dict[str, Any]]) -> str:
        kind, shown = _shown(messages[-1]["content"])
        match kind:
            case "memories":
                found: Any = {"insights": [_resting(insight, shown) for insight in reflected["insights"]]}
            case "emotions":
                found = reflected["emotion"]
            case _:
                found = dict[str, Any]({section: [] for section in _SECTIONS})
                for turn in shown:
                    for section, items in by_text.get(turn["text"], {}).items():
                        found[section] += [{**item, "sources": [turn["turn"]]} for item in items]
        return json.dumps(found, ensure_ascii=False)

    return CallbackLLM(answer, model=SCRIPT)


def _resting(insight: Mapping[str, Any], memories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An insight of the script with the memories it rests on: those that hold one of its words."""
    sources = [memory["memory"] for memory in memories if any(word in memory["text"] for word in insight["about"])]
    return {**{name: value for name, value in insight.items() if name != "about"}, "sources": sources}


@asynccontextmanager
async def language_model(history: Sample) -> "AsyncGenerator[tuple[LLMProvider, str]]":
    """The model of OPENAI_API_KEY, OPENAI_BASE_URL and NEUROMEM_LLM if they name one that answers, else the script; and
    why it is the script."""
    key, base_url = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    if not (key or base_url):
        note = "set OPENAI_API_KEY or OPENAI_BASE_URL, and NEUROMEM_LLM, to have a real one read it"
        yield scripted_model(history), note
        return
    why = ""
    llm: LLMProvider | None = None
    try:
        model = os.environ.get("NEUROMEM_LLM") or "gpt-4o-mini"
        llm = OpenAILLM(key or "none", model=model, base_url=base_url or None, max_retries=1)
        await llm.chat([{"role": "user", "content": "Are you there? Answer with one word."}])
    except MemoryStoreError as error:
        why = f"the environment's cannot be used: {' '.join(str(error).split())}"
    try:
        yield (scripted_model(history), why) if why or llm is None else (llm, "")
    finally:
        if llm is not None:
            await llm.close()


def _shown(asked: str) -> tuple[str, list[dict[str, Any]]]:
    """What kind of lines a request shows, and the lines."""
    found = _BLOCK.search(asked)
    return ("", []) if found is None else (found[1], [json.loads(line) for line in found[2].splitlines()])


def _script(name: str) -> Any:
    return json.loads(resources.files("neuromem.demo").joinpath(name).read_text(encoding="utf-8"))
