"""kill -9 of a program that uploads: once the worker ran, storage holds what rows name, and nothing else."""

from pathlib import Path

import pytest

from memground.postgres.embedded import EmbeddedPostgres
from support.files_killing import Place, strike_round


@pytest.fixture(scope="module")
async def kill_url(server: EmbeddedPostgres) -> str:
    await server.ensure_database("file_kills")
    return server.url("file_kills")


async def test_a_program_killed_while_it_uploads(kill_url: str, tmp_path: Path) -> None:
    removed = documents = 0
    for seed in range(6):
        left = await strike_round(Place(kill_url, "killed", str(tmp_path), seed))
        assert left.wrong == [], (seed, left)
        removed, documents = removed + left.removed, documents + left.documents
    assert documents
    assert removed, "no kill fell between the bytes and their row"
