"""The as-of law over long lives, and under many writers at once."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from memground.clock import ManualClock
from neuromem import InvalidInputError, NeuroMemory, NotFoundError
from support import law_digest
from support.embeddings import HashEmbedding
from support.law import (
    START,
    WORDS,
    Life,
    answers,
    check_law,
    check_rollback,
    differences,
    live,
    moments,
    plan,
    random_steps,
    text,
)
from support.sound import check_sound

pytestmark = pytest.mark.torture


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(scope="module")
async def mind(database_url: str, clock: ManualClock) -> AsyncIterator[NeuroMemory]:
    llm = law_digest.model(WORDS)
    async with NeuroMemory(
        database_url, HashEmbedding(32), llm, schema="law_long", clock=clock, auto_extract=False
    ) as mind:
        yield mind


@pytest.mark.parametrize("seed", range(20))
async def test_long_lives(mind: NeuroMemory, clock: ManualClock, seed: int) -> None:
    acts = plan(random_steps(seed, 120))
    whole = await live(mind, clock, acts)
    times = random.Random(seed).sample(moments(acts), 8)
    await check_law(mind, clock, whole, times[:5])
    for moment in times[5:]:
        await check_rollback(mind, clock, whole, moment)
    await check_sound(mind)


@pytest.mark.parametrize("seed", range(6))
async def test_many_short_lives_that_are_undone_a_lot(mind: NeuroMemory, clock: ManualClock, seed: int) -> None:
    for number in range(10):
        steps = random_steps(1_000 * (seed + 1) + number, 40)
        steps = [s for s in steps if s.kind in _RESTLESS or s.word % 3 == 0]
        acts = plan(steps)
        whole = await live(mind, clock, acts)
        times = random.Random(number).choices(moments(acts), k=2)
        await check_law(mind, clock, whole, times[:1])
        await check_rollback(mind, clock, whole, times[1])
    await check_sound(mind)


_RESTLESS = {"import", "again", "delete", "revert", "rollback", "undo writer", "undo since", "undo reversal"}


@pytest.mark.parametrize("seed", range(8))
async def test_the_past_stands_still_under_many_writers(database_url: str, seed: int) -> None:
    """Eight writers change, delete, undo and roll back the same few things; what a moment knew stays what it knew."""
    llm = law_digest.model(WORDS)
    async with NeuroMemory(
        database_url, HashEmbedding(32), llm, schema="law_many", pool_size=12, auto_extract=False
    ) as mind:
        life = Life(mind, ManualClock(START))
        for number in range(4):
            memory = await mind.add_memory(life.user, text(number), origin="first")
            life.ids[f"remember-{number}"] = memory.memory_id
        seen: dict[datetime, dict[str, Any]] = {}
        for round_ in range(5):
            await asyncio.gather(*(_write(life, random.Random(f"{seed}-{round_}-{n}"), 12) for n in range(8)))
            await mind.wait_idle(timeout=60)
            moment = mind._context.clock.now()
            await asyncio.sleep(0.001)
            seen[moment] = await answers(mind.as_of(moment), life, life.memories[:4], moment)
        for moment, then in seen.items():
            found = differences(await answers(mind.as_of(moment), life, life.memories[:4], moment), then)
            assert not found, f"{moment} reads otherwise now (left) than just after it (right)\n{found}"
        await check_sound(mind)


async def _write(life: Life, rng: random.Random, count: int) -> None:
    mind, user = life.mind, life.user
    for number in range(count):
        memory_id, word, origin = life.ids[rng.choice(life.memories)], rng.randrange(343), rng.choice("abc")
        past = mind._context.clock.now() - timedelta(seconds=rng.random())
        act = rng.choice(
            ("update", "update", "delete", "revert", "set", "unset", "say", "say", "rollback", "undo", "add")
        )
        try:
            match act:
                case "update":
                    await mind.update_memory(user, memory_id, content=text(word), origin=origin)
                case "delete":
                    await mind.delete_memory(user, memory_id, origin=origin)
                case "revert":
                    versions = await mind.history(user, memory_id)
                    await mind.revert(user, memory_id, rng.choice(versions).version, origin=origin)
                case "set":
                    await mind.kv.batch_set("notes", user, dict.fromkeys(rng.sample("xyz", 2), word), origin=origin)
                case "unset":
                    await mind.kv.delete("notes", user, rng.choice("xyz"), origin=origin)
                case "say":
                    message = await mind.ingest(
                        user, "user", text(word), session_id="s1", external_id=f"m{rng.randrange(9)}", origin=origin
                    )
                    life.ids.setdefault(f"say-{message.message_id}", message.message_id)
                case "rollback":
                    await mind.rollback(user, past)
                case "undo":
                    await mind.undo(user, origin=rng.choice((origin, None)), recorded_since=past)
                case _:
                    memory = await mind.add_memory(user, text(word), origin=origin)
                    life.ids[f"remember-{memory.memory_id}-{number}"] = memory.memory_id
        except (NotFoundError, InvalidInputError):
            pass  # somebody else was faster
