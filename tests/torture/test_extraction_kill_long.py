"""Hundreds of kills of a program that extracts; see README.md."""

from dataclasses import replace

import pytest

from memground.postgres.embedded import EmbeddedPostgres
from support.embedded import short_tmp_dir
from support.extraction_killing import Place, differing, strike_round, undisturbed
from support.openai_server import OpenAIServer, slow
from support.scripted_model import answer

ROUNDS = 200


@pytest.mark.torture
async def test_hundreds_of_kills() -> None:
    with short_tmp_dir() as folder, OpenAIServer(chat=answer) as models:
        server = await EmbeddedPostgres.open(folder / "pg")
        await server.ensure_database("kills")
        place = Place(server.url("kills"), "extracted", "undisturbed", 90, models.base_url, models.key)
        expected = await undisturbed(place)
        wrong: dict[int, list[str]] = {}
        for seed in range(ROUNDS):
            models.fail_next(*[slow(0.05)] * 20)
            found = await strike_round(replace(place, user=f"killed-{seed}"), seed)
            if different := differing(found, expected):
                wrong[seed] = different
            print(f"program killed {seed + 1}/{ROUNDS}: {different or 'nothing'} differs", flush=True)
        await server.close()
    assert wrong == {}
