"""kill -9: what was acknowledged is there, nothing is there twice, and the work goes on where it stopped."""

import asyncio
import os
import signal

import pytest

from memground.postgres.embedded import EmbeddedPostgres
from support.embedded import short_tmp_dir
from support.killing import Outcome, Place, State, strike_round, undisturbed

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

        def kill_postmaster(_: int) -> None:
            os.kill(int((folder / "pg/pgdata/postmaster.pid").read_text().split()[0]), signal.SIGKILL)

        for seed, late in ((100, 0.0), (101, 1.0)):
            place = Place(f"embedded://{folder}/pg", "lane0", f"killed-{seed}", TURNS)
            outcome = await strike_round(place, seed, expected, strike=kill_postmaster, embedding=late)
            assert_whole(outcome)
