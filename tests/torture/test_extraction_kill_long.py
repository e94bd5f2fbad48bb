"""Hundreds of kills of a program that extracts; see README.md.

Writes `benchmarks/results/<date>-extraction-kill.json`. LOCOMO in the environment names a LoCoMo file: then half of the
programs are told its first dialogue.
"""

import os
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memground.postgres.embedded import EmbeddedPostgres
from support.dialogues import dialogue
from support.embedded import short_tmp_dir
from support.extraction_killing import Nursery, Place, differing, undisturbed
from support.openai_server import CHAT, OpenAIServer, slow

ROUNDS = 200


@pytest.mark.torture
async def test_hundreds_of_kills() -> None:
    started = time.monotonic()
    files = {"demo": None} | ({"locomo": os.environ["LOCOMO"]} if "LOCOMO" in os.environ else {})
    found: dict[str, dict[str, Any]] = {}
    with short_tmp_dir() as folder:
        server = await EmbeddedPostgres.open(Path(folder) / "pg")
        await server.ensure_database("kills")
        async with Nursery.open() as nursery:
            for name, file in files.items():
                found[name] = await kills(name, server.url("kills"), nursery, file, ROUNDS // len(files))
        await server.close()
    save({"dialogues": found, "rounds": ROUNDS, "seconds": round(time.monotonic() - started)})
    assert [figures["seeds_that_differ"] for figures in found.values()] == [{}] * len(found)


async def kills(name: str, url: str, nursery: Nursery, file: str | None, rounds: int) -> dict[str, Any]:
    """Kills so many programs that are told a dialogue, each at a moment of its own, and says how they ended."""
    with OpenAIServer(chat=dialogue(file).answer) as models:
        place = Place(url, name, "undisturbed", models.base_url, models.key, file)
        models.fail_next(*[slow(0.05)] * 60)
        expected = await undisturbed(place)
        needed = models.count(CHAT)
        wrong: dict[int, list[str]] = {}
        for seed in range(rounds):
            models.fail_next(*[slow(0.05)] * 60)
            found = await nursery.strike_round(replace(place, user=f"killed-{seed}"), seed, expected.seconds)
            if different := differing(found, expected.state):
                wrong[seed] = different
            print(f"{name}: program killed {seed + 1}/{rounds}: {different or 'nothing'} differs", flush=True)
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


def save(figures: dict[str, Any]) -> None:
    from benchmarks.results_file import FOLDER
    from benchmarks.results_file import save as save_results  # only on the path when started from the repository

    save_results("extraction-kill", figures, Namespace(no_save=False, results=FOLDER))
