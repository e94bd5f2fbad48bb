"""kill -9: what was acknowledged is there, nothing is there twice, and the work goes on where it stopped."""

import asyncio
import os
import signal
from collections.abc import Iterable

import asyncpg
import pytest

from memground.errors import UnavailableError
from memground.postgres.embedded import EmbeddedPostgres
from neuromem import NeuroMemory, NewMessage
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
        for seed in range(number, 8, LANES):
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


async def test_a_crashed_backend() -> None:
    """PostgreSQL restarts itself when one of its processes dies; the same mind goes on and finds every word."""
    with short_tmp_dir() as folder:
        async with NeuroMemory(f"embedded://{folder}/pg", HashEmbedding(8)) as mind:
            for n in range(30):
                await mind.ingest("anna", "user", f"turn{n}")
            await mind.wait_idle(timeout=30)
            victim = await asyncpg.connect(mind._db._url_in_use)
            os.kill(await victim.fetchval("select pg_backend_pid()"), signal.SIGKILL)
            async with asyncio.timeout(30):
                while True:
                    try:
                        assert await found_by_word(mind, range(30)) == [f"turn{n}" for n in range(30)]
                        break
                    except UnavailableError:
                        await asyncio.sleep(0.05)
            await mind.ingest("anna", "user", "and on we go")
            await mind.wait_idle(timeout=30)


async def test_words_survive_a_killed_server() -> None:
    """Their index is in the write-ahead log: what was acknowledged right before a kill -9 is found right after it."""
    with short_tmp_dir() as folder:
        url = f"embedded://{folder}/pg"
        async with NeuroMemory(url, HashEmbedding(8), background=False) as mind:
            for start in range(0, 300, 30):
                turns = [NewMessage("user", f"turn{n}") for n in range(start, start + 30)]
                await mind.conversations.add_messages_batch("anna", turns)
            note = await mind.add_memory("anna", "the order is TP-1364")
            kill_postmaster(folder / "pg")(0)
        async with NeuroMemory(url, HashEmbedding(8), background=False) as mind:
            assert await found_by_word(mind, range(0, 300, 10)) == [f"turn{n}" for n in range(0, 300, 10)]
            hits = await mind.search("anna", "TP1364", explain=True)
            assert [hit.memory.memory_id for hit in hits] == [note.memory_id]
            assert hits[0].explanation is not None
            assert hits[0].explanation.keyword_rank == 1


async def found_by_word(mind: NeuroMemory, turns: Iterable[int]) -> list[str]:
    """What is the best by words for each turn's own word."""
    found = [await mind.recall("anna", f"turn{n}", limit=8, explain=True) for n in turns]
    hits = [hit for result in found for hit in result.conversation_results if hit.explanation]
    return [hit.message.content for hit in hits if hit.explanation and hit.explanation.keyword_rank == 1]
