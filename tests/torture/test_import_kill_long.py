"""Many imports killed at random moments; see README.md."""

from pathlib import Path

import pytest

from memground.postgres.embedded import EmbeddedPostgres
from support.importing import Bench, kill_round, write_talk
from support.openai_server import OpenAIServer

TURNS = 2_000
ROUNDS = 60


@pytest.mark.torture
async def test_many_killed_imports(server: EmbeddedPostgres, tmp_path: Path) -> None:
    await server.ensure_database("killed_imports")
    file = write_talk(tmp_path / "talk.jsonl", TURNS)
    with OpenAIServer(dims=8) as embeddings:
        bench = Bench(server.url("killed_imports"), "imports", embeddings)
        async with bench.mind():
            pass
        code, _, complaint = await bench.run("import", file, "--user", "undisturbed")
        assert code == 0, complaint
        expected = await bench.state("undisturbed")
        wrong: dict[int, list[str]] = {}
        for seed in range(1_000, 1_000 + ROUNDS):
            if found := await kill_round(bench, file, TURNS, seed, expected):
                wrong[seed] = found
            print(f"import killed {seed - 999}/{ROUNDS}: {found or 'nothing differs'}", flush=True)
    assert wrong == {}
