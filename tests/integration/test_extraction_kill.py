"""kill -9 in the middle of ingesting and extracting: what is known in the end is what would have been anyway."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from memground.postgres.embedded import EmbeddedPostgres
from support.extraction_killing import Place, State, differing, side_by_side, strike_round, undisturbed
from support.openai_server import CHAT, OpenAIServer, slow
from support.scripted_model import answer, turns_of

TURNS = 30
ROUNDS = 10


@pytest.fixture(scope="module")
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(chat=answer) as models:
        yield models


@pytest.fixture(scope="module")
async def place(server: EmbeddedPostgres, models: OpenAIServer) -> Place:
    await server.ensure_database("kills")
    return Place(server.url("kills"), "extracted", "undisturbed", TURNS, models.base_url, models.key)


@pytest.fixture(scope="module")
async def expected(place: Place) -> State:
    return await undisturbed(place)


def test_the_undisturbed_life_is_as_planned(expected: State) -> None:
    assert expected["status"] == (TURNS, 0, 0)
    assert len(expected["memories None"]) == 28 + TURNS  # 4 persons, 7 things, and the events
    assert [value for value, _ in reversed(expected["profile history"])] == [f"place{n % 5}" for n in range(TURNS)]


async def test_killed_programs(place: Place, models: OpenAIServer, expected: State) -> None:
    for seed in range(ROUNDS):
        models.fail_next(*[slow(0.05)] * 20)  # so that a kill often falls into a call
        found = await strike_round(replace(place, user=f"killed-{seed}"), seed)
        assert differing(found, expected) == [], seed


async def test_two_programs_in_two_processes(place: Place, models: OpenAIServer, expected: State) -> None:
    """Both are told the same conversation and extract it, at the same time: each turn once."""
    for seed in (100, 101):
        before = models.count(CHAT)
        found = await side_by_side(replace(place, user=f"shared-{seed}"), seed)
        assert differing(found, expected) == [], seed
        assert sum(len(turns_of(call.body)) for call in models.calls[before:] if call.path == CHAT) < 2 * TURNS
