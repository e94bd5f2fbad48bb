"""Hundreds of kills of a program that extracts; see README.md.

Writes `benchmarks/results/<date>-extraction-kill.json`.
"""

import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from memground.postgres.embedded import EmbeddedPostgres
from support.embedded import short_tmp_dir
from support.extraction_killing import Place, differing, strike_round, undisturbed
from support.openai_server import CHAT, OpenAIServer, slow
from support.scripted_model import answer

TURNS = 90
ROUNDS = 200


@pytest.mark.torture
async def test_hundreds_of_kills() -> None:
    figures = await kills(ROUNDS)
    save(figures)
    assert figures["seeds_that_differ"] == {}


async def kills(rounds: int) -> dict[str, object]:
    """Kills so many programs, each at a moment of its own, and says how they ended."""
    started = time.monotonic()
    with short_tmp_dir() as folder, OpenAIServer(chat=answer) as models:
        server = await EmbeddedPostgres.open(Path(folder) / "pg")
        await server.ensure_database("kills")
        place = Place(server.url("kills"), "extracted", "undisturbed", TURNS, models.base_url, models.key)
        expected = await undisturbed(place)
        needed = models.count(CHAT)
        wrong: dict[int, list[str]] = {}
        for seed in range(rounds):
            models.fail_next(*[slow(0.05)] * 20)
            found = await strike_round(replace(place, user=f"killed-{seed}"), seed)
            if different := differing(found, expected):
                wrong[seed] = different
            print(f"program killed {seed + 1}/{rounds}: {different or 'nothing'} differs", flush=True)
        await server.close()
    return {
        "turns_a_round": TURNS,
        "rounds": rounds,
        "model_calls": models.count(CHAT) - needed,
        "model_calls_undisturbed": needed,
        "seeds_that_differ": wrong,
        "seconds": round(time.monotonic() - started),
    }


def save(figures: dict[str, object]) -> None:
    from benchmarks.results_file import FOLDER
    from benchmarks.results_file import save as save_results  # only on the path when started from the repository

    save_results("extraction-kill", figures, Namespace(no_save=False, results=FOLDER))
