"""kill -9 in the middle of a digest: all of it is there, or nothing; and the next one does what is left."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from memground.postgres.embedded import EmbeddedPostgres
from neuromem import NeuroMemory, NewMemory
from neuromem.queries.digest import DIGEST
from support.digest_killing import Nursery, Place, kill
from support.openai_server import OpenAIServer, slow
from support.reflecting_model import answer
from support.sound import check_sound

ROUNDS = 8
FELT = {"emotion": {"valence": 0.5, "arousal": 0.4, "label": "joy"}}
SAID = ["Drank #tea", "Bought #tea", "Planted a #tree", "Climbed a #tree", "Likes rain"]
NOTHING, ALL = (0, 0, 0, 0), (2, len(SAID), 4 + len(SAID), 1)


@pytest.fixture
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(chat=answer) as models:
        models.fail_next(*[slow(0.1)] * 1_000)  # so that a kill often falls into a call
        yield models


async def stored(mind: NeuroMemory, user: str) -> tuple[int, ...]:
    """How many insights, marks of what was read, other links between memories, and profiles there are, ever."""
    async with mind._db.read() as session:
        tables = session.tables
        memories, links = tables.embeddings.table, tables.memory_sources.table
        profiles = tables.emotion_profiles.table
        counts = (
            select(func.count()).where(memories.c.user_id == user, memories.c.memory_type == "insight"),
            select(func.count()).where(links.c.user_id == user, links.c.derived_kind == DIGEST),
            select(func.count()).where(links.c.user_id == user, links.c.derived_kind != DIGEST),
            select(func.count()).where(profiles.c.user_id == user),
        )
        return tuple([await session.scalar(count) for count in counts])


async def undisturbed(mind: NeuroMemory, nursery: Nursery, place: Place) -> float:
    """How long a child takes whom nobody kills."""
    await mind.add_memories("undisturbed", [NewMemory(said, "fact", FELT) for said in SAID])
    begun = time.monotonic()
    await nursery.begin(place, "undisturbed")
    async with asyncio.timeout(60):
        while await stored(mind, "undisturbed") == NOTHING:
            await asyncio.sleep(0.02)
    return time.monotonic() - begun


async def test_killed_digests_leave_all_or_nothing(server: EmbeddedPostgres, models: OpenAIServer) -> None:
    await server.ensure_database("kills")
    place = Place(server.url("kills"), "digested", models.base_url, models.key)
    found: list[tuple[int, ...]] = []
    async with place.mind() as mind, Nursery.open() as nursery:
        worker, mind._worker = mind._worker, None  # so that nobody takes up the work of the dead before it is looked at
        assert worker is not None
        await worker.stop()
        seconds = await undisturbed(mind, nursery, place)
        for seed in range(ROUNDS):
            user = f"killed-{seed}"
            await mind.add_memories(user, [NewMemory(said, "fact", FELT) for said in SAID])
            child = await nursery.begin(place, user)
            await asyncio.sleep(1.1 * seconds * seed / (ROUNDS - 1))  # the first at once
            await kill(child)
            found.append(await stored(mind, user))
            assert found[-1] in (NOTHING, ALL), seed
            done = await mind.digest(user)
            assert done.read == (0 if found[-1] == ALL else len(SAID))
            assert await stored(mind, user) == ALL, seed
        await check_sound(mind)
    assert NOTHING in found, "the kills came all too late"
