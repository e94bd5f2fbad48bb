"""kill -9: what was acknowledged is there, nothing is there twice, and the work goes on where it stopped."""

import asyncio
import os
import signal

import asyncpg
import pytest

from memground.errors import UnavailableError
from memground.postgres.embedded import EmbeddedPostgres
from neuromem import NeuroMemory
from support.embedded import short_tmp_dir
from support.embeddings import HashEmbedding
from support.killing import Outcome, Place, State, kill_postmaster, strike_round, undisturbed

TURNS = 2_000
LANES = 2


@pytest.fixture(scope="module")
async def kill_url(server: EmbeddedPostgres) -> str:
    await server.ensure_database("kills")
    return server.url("kills")


@pytest.fixture(scope="module")
async def expected(kill_url: str) -> State:
    return await undisturbed(Place(kill_url, "lane0", "undisturbed", TURNS))


def assert_whole(outcome: Outcome) -> None:
    assert (outcome.lost, outcome.duplicated, outcome.differing) == (0, 0, []), outcome
    assert outcome.stored >= outcome.acknowledged, outcome


def test_the_undisturbed_life_is_as_planned(expected: State) -> None:
    assert sorted(expected) == ["nothing waits", "s0", "s1", "s2"]
    turns = [turn for session in expected.values() for turn in session]
    assert len(turns) == TURNS
    assert [turn[0] for turn in expected["s1"]] == list(range(1, len(expected["s1"]) + 1))
    assert [turn[1] for turn in expected["s1"]] == [f"t{n}" for n in range(1, TURNS, 3)]
    assert {len(turn[-1]) for turn in turns} == {1}


async def test_a_killed_program(kill_url: str, expected: State) -> None:
    async def lane(number: int) -> None:
        for seed in range(number, 10, LANES):
            place = Place(kill_url, f"lane{number}", f"killed-{seed}", TURNS)
            assert_whole(await strike_round(place, seed, expected))

    async with asyncio.TaskGroup() as group:
        for number in range(LANES):
            group.create_task(lane(number))


async def test_a_killed_server(expected: State) -> None:
    """The program is told that the server is away; the next one starts it again and finds everything."""
    with short_tmp_dir() as folder:
        for seed, late in ((100, 0.0), (101, 1.0)):
            place = Place(f"embedded://{folder}/pg", "lane0", f"killed-{seed}", TURNS)
            outcome = await strike_round(place, seed, expected, strike=kill_postmaster(folder / "pg"), embedding=late)
            assert_whole(outcome)


async def test_a_crashed_backend(caplog: pytest.LogCaptureFixture) -> None:
    """PostgreSQL restarts itself when one of its processes dies; the same mind goes on and finds every word."""
    with short_tmp_dir() as folder:
        async with NeuroMemory(f"embedded://{folder}/pg", HashEmbedding(8)) as mind:
            for n in range(30):
                await mind.ingest("anna", "user", f"turn{n}")
            await mind.wait_idle(timeout=30)
            victim = await asyncpg.connect(mind._db._url_in_use)
            os.kill(await victim.fetchval("select pg_backend_pid()"), signal.SIGKILL)

            async def words_found() -> list[str]:
                found = [await mind.recall("anna", f"turn{n}", limit=8, explain=True) for n in range(30)]
                hits = [hit for result in found for hit in result.merged if hit.explanation]
                return [hit.content for hit in hits if hit.explanation and hit.explanation.keyword_rank == 1]

            async with asyncio.timeout(30):
                while True:
                    try:
                        assert await words_found() == [f"turn{n}" for n in range(30)]
                        break
                    except UnavailableError:
                        await asyncio.sleep(0.05)
            assert "rebuilt its indexes idx_conv_bm25, idx_emb_bm25" in caplog.text
            await mind.ingest("anna", "user", "and on we go")
            await mind.wait_idle(timeout=30)


async def test_a_login_that_may_not_rebuild(kill_url: str, schema: str, caplog: pytest.LogCaptureFixture) -> None:
    """It can still work, and is told what it misses."""
    async with NeuroMemory(kill_url, HashEmbedding(8), schema=schema):
        owner = await asyncpg.connect(kill_url)
        for statement in (
            f"create role guest_{schema} login",
            f"grant usage on schema {schema} to guest_{schema}",
            f"grant select, insert, update on all tables in schema {schema} to guest_{schema}",
            f"delete from {schema}.crash_witness",  # as a crash does
        ):
            await owner.execute(statement)
        await owner.close()
    guest = kill_url.replace("postgres@", f"guest_{schema}@")
    async with NeuroMemory(guest, HashEmbedding(8), schema=schema) as mind:
        await mind.add_memory("anna", "lives in Porto")
        assert len(await mind.search("anna", "Porto")) == 1
    assert "this login may not rebuild its keyword indexes (permission denied" in caplog.text
