"""Hundreds of kills of a program that extracts; see README.md.

Writes `benchmarks/results/<date>-extraction-kill.json`. LOCOMO in the environment names a LoCoMo file: then some of the
programs are told how its first dialogue begins.
"""

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memground.postgres.embedded import EmbeddedPostgres
from support.dialogues import dialogue
from support.embedded import short_tmp_dir
from support.extraction_killing import Nursery, Place, differing, undisturbed
from support.openai_server import CHAT, OpenAIServer, slow
from support.torture_results import save

ROUNDS, AT_ONCE = {"locomo": 50, "demo": 150}, 3


@pytest.mark.torture
async def test_hundreds_of_kills() -> None:
    started = time.monotonic()
    files = ({"locomo": os.environ["LOCOMO"]} if "LOCOMO" in os.environ else {}) | {"demo": None}
    found: dict[str, dict[str, Any]] = {}
    with short_tmp_dir() as folder:
        server = await EmbeddedPostgres.open(Path(folder) / "pg")
        await server.ensure_database("kills")
        async with Nursery.open() as nursery:
            for name, file in files.items():
                rounds = ROUNDS[name] if len(files) > 1 else sum(ROUNDS.values())
                found[name] = await kills(name, server.url("kills"), nursery, file, rounds)
        await server.close()
    save("extraction-kill", {"dialogues": found, "seconds": round(time.monotonic() - started)})
    assert [figures["seeds_that_differ"] for figures in found.values()] == [{}] * len(found)


async def kills(name: str, url: str, nursery: Nursery, file: str | None, rounds: int) -> dict[str, Any]:
    """Kills so many programs that are told a dialogue, each at a moment of its own, and says how they ended."""
    wrong: dict[int, list[str]] = {}

    async def some(first: int) -> None:
        """In a schema of their own: nobody else takes up the work of the dead."""
        for seed in range(first, rounds, AT_ONCE):
            here = replace(place, schema=f"{name}_{first}", user=f"killed-{seed}")
            found = await nursery.strike_round(here, seed, expected.seconds)
            if different := differing(found, expected.state):
                wrong[seed] = different
            print(f"{name}: program {seed} of {rounds} killed: {different or 'nothing'} differs", flush=True)

    with OpenAIServer(chat=dialogue(file).answer) as models:
        models.fail_next(*[slow(0.05)] * 100_000)  # so that a kill often falls into a call
        place = Place(url, f"{name}_0", "undisturbed", models.base_url, models.key, file, in_turn=file is not None)
        expected = await undisturbed(place)
        needed = models.count(CHAT)
        async with asyncio.TaskGroup() as group:
            for first in range(AT_ONCE):
                group.create_task(some(first))
        asked = models.count(CHAT) - needed
    return {
        "turns_a_round": len(place.dialogue.turns),
        "memories": len(expected.state["memories None"]),
        "rounds": rounds,
        "seconds_undisturbed": round(expected.seconds, 2),
        "model_calls": asked,
        "model_calls_undisturbed": needed,
        "seeds_that_differ": wrong,
    }
