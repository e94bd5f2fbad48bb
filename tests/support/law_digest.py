"""The digest's part of the as-of law: a model that reflects by a script, the act, and reads of what was felt."""

import json
from collections.abc import Awaitable
from datetime import datetime
from typing import Any

from neuromem.providers.llm import CallbackLLM, LLMProvider
from support.reflecting_model import blocks_of, feelings_of

KINDS = ("digest", "digest", "digest")
_LIMIT = 1_000
"""All there are: of equally late ones, which have no order, none must be left out."""


def model(words: tuple[str, ...]) -> LLMProvider:
    """Sees in memories what words two or more of them share; of emotions it says the words for them."""

    async def reflect(messages: list[dict[str, Any]]) -> str:
        blocks = blocks_of({"messages": messages})
        if "emotions" in blocks:
            return json.dumps(feelings_of(blocks["emotions"]))
        found = {word: [m["memory"] for m in blocks["memories"] if word in m["text"].split()] for word in words}
        shared = {word: numbers for word, numbers in found.items() if len(numbers) > 1}
        insights = [{"content": f"speaks of {word}", "sources": numbers} for word, numbers in shared.items()]
        return json.dumps({"insights": insights})

    return CallbackLLM(reflect, model="scripted")


async def digest(life: Any, act: Any) -> Any:
    done = await life.mind.digest(life.user, limit=_LIMIT)
    life.learned |= {memory.memory_id: memory.content for memory in (*done.insights, *done.restated)}
    if done.origin is None:
        return None
    life.ids[act.name] = done.origin
    return act


ACTS = {"digest": digest}


def reads(on: Any, user: str, moment: datetime) -> dict[str, Awaitable[Any]]:
    """What was felt, as results that are still to be awaited."""
    return {
        "emotions": on.emotion_profile(user),
        "emotions before": on.emotion_profile(user, as_of=moment),
        "emotions by day": on.emotion_timeline(user, granularity="day", timezone="Asia/Shanghai"),
        "emotions by month": on.emotion_timeline(user, granularity="month", end=moment),
    }
