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
_TURNS = re.compile(r"<conversation>\n(.*?)\n</conversation>", re.DOTALL)
_SECTIONS = ("facts", "episodes", "triples", "profile_updates")


def learned_turns() -> Mapping[str, _Items]:
    """What is learned from which turn of the sample, by section, in the JSON a language model answers."""
    return json.loads(resources.files("neuromem.demo").joinpath("learned.json").read_text(encoding="utf-8"))


def scripted_model(history: Sample) -> CallbackLLM:
    """Answers for each turn of the sample what `learned.json` says, as a careful model would, and costs nothing."""
    learned = learned_turns()
    by_text = {
        message.content: learned.get(str(message.external_id), {})
        for _, messages in history.sessions()
        for message in messages
    }

    async def answer(messages: list[dict[str, Any]]) -> str:
        found: dict[str, list[Mapping[str, Any]]] = {section: [] for section in _SECTIONS}
        for turn in _new_turns(messages[-1]["content"]):
            for section, items in by_text.get(turn["text"], {}).items():
                found[section] += [{**item, "sources": [turn["turn"]]} for item in items]
        return json.dumps(found, ensure_ascii=False)

    return CallbackLLM(answer, model=SCRIPT)


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


def _new_turns(asked: str) -> list[dict[str, Any]]:
    found = _TURNS.search(asked)
    return [] if found is None else [json.loads(line) for line in found[1].splitlines()]
