"""kill -9 in the middle of ingesting and extracting: what is known in the end is what would have been anyway."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from memground.postgres.embedded import EmbeddedPostgres
from neuromem.demo.learning import learned_turns
from support.dialogues import dialogue
from support.extraction_killing import Life, Nursery, Place, differing, undisturbed
from support.openai_server import CHAT, OpenAIServer, slow
from support.scripted_model import turns_of

ROUNDS, AT_ONCE = 10, 2
SESSIONS = ("2025-01-18", "2025-03-20", "2025-04-12", "2025-05-25")
"""Of the demo's dialogue: one of the two moves, one changes what she drinks, both change their work."""


@pytest.fixture(scope="module")
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(chat=dialogue().answer) as models:
        models.fail_next(*[slow(0.05)] * 1_000)  # so that a kill often falls into a call
        yield models


@pytest.fixture(scope="module")
async def nursery() -> AsyncIterator[Nursery]:
    async with Nursery.open() as nursery:
        yield nursery


@pytest.fixture(scope="module")
async def place(server: EmbeddedPostgres, models: OpenAIServer) -> Place:
    await server.ensure_database("kills")
    return Place(server.url("kills"), "extracted_0", "undisturbed", models.base_url, models.key, only=SESSIONS)


@pytest.fixture(scope="module")
async def expected(place: Place) -> Life:
    return await undisturbed(place)


def test_the_undisturbed_life_is_as_planned(place: Place, expected: Life) -> None:
    learned = [items for turn, items in learned_turns().items() if turn.partition("/")[0] in SESSIONS]
    contents = {item["content"] for items in learned for kind in ("facts", "episodes") for item in items.get(kind, ())}
    assert expected.state["status"] == (len(place.dialogue.turns), 0, 0)
    assert [memory[0] for memory in expected.state["memories None"]] == sorted(contents)
    drinks = [value for key, value, _ in expected.state["profile history"] if key == "mara_drink"]
    assert drinks == ["绿茶", "黑咖啡"]
    assert len(expected.state["edges"]) > sum(len(items.get("triples", ())) for items in learned)  # some have ended


async def test_killed_programs(place: Place, nursery: Nursery, expected: Life) -> None:
    async def rounds(first: int) -> None:
        """Some of them, in a schema of their own: nobody else takes up the work of the dead."""
        for seed in range(first, ROUNDS, AT_ONCE):
            here = replace(place, schema=f"extracted_{first}", user=f"killed-{seed}")
            found = await nursery.strike_round(here, seed, expected.seconds)
            assert differing(found, expected.state) == [], seed

    async with asyncio.TaskGroup() as group:
        for first in range(AT_ONCE):
            group.create_task(rounds(first))


async def test_two_programs_in_two_processes(
    place: Place, models: OpenAIServer, nursery: Nursery, expected: Life
) -> None:
    """Both are told the same conversation and extract it, at the same time: each turn once."""
    before = len(models.calls)
    found = await nursery.side_by_side(replace(place, user="shared"), 100)
    assert differing(found, expected.state) == []
    asked = sum(len(turns_of(call.body)) for call in models.calls[before:] if call.path == CHAT)
    assert asked < 2 * len(place.dialogue.turns)
