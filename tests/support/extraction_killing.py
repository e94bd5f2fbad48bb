"""Kill -9 while a conversation is ingested and extracted, start again, and compare with a life that nobody disturbed.

The model is scripted and served over HTTP by the test; the child process (this file as a script) is what is killed.
"""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from memground.postgres.queue import JobPolicy
from neuromem import ExtractionPolicy, NeuroMemory, NewMessage
from neuromem.providers.llm import OpenAILLM
from support.embeddings import HashEmbedding

SESSIONS = 3
START = datetime(2026, 1, 1, tzinfo=UTC)

type State = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a life is lived, of how many turns, and where its models are."""

    url: str
    schema: str
    user: str
    turns: int
    model_url: str
    key: str

    @asynccontextmanager
    async def mind(self) -> AsyncGenerator[NeuroMemory]:
        jobs = JobPolicy(lease=1, poll=0.05, backoff=0.05, backoff_max=0.2)
        policy = ExtractionPolicy(messages=4, idle=0.1)
        llm = OpenAILLM(self.key, base_url=self.model_url)
        try:
            async with NeuroMemory(
                self.url, HashEmbedding(32), llm, schema=self.schema, background=jobs, extraction=policy
            ) as mind:
                yield mind
        finally:
            await llm.close()


def conversation(turns: int) -> dict[str, list[NewMessage]]:
    """The turns by session, the same every time: facts that return, events, a profile and relations that change."""
    said: dict[str, list[NewMessage]] = {f"s{n}": [] for n in range(SESSIONS)}
    for n in range(turns):
        session, place = n % SESSIONS, n // SESSIONS % 5
        text = (
            f"fact: person{n % 4} likes thing{n % 7}. episode: event{n} took place. city = place{n % 5}\n"
            f"Person{session} -lives_in-> place{place}. Person{session} -likes-> thing{n % 6}. hello"
        )
        message = NewMessage("user", text, START + timedelta(minutes=n), external_id=f"t{n}")
        said[f"s{session}"].append(message)
    return said


async def ingest(mind: NeuroMemory, place: Place, chance: random.Random) -> None:
    """All sessions at the same time, each in order, in parts of any size."""

    async def session(session_id: str, messages: list[NewMessage]) -> None:
        start = 0
        while start < len(messages):
            size = chance.randint(1, 5)
            part = messages[start : start + size]
            await mind.conversations.add_messages_batch(place.user, part, session_id=session_id)
            start += size

    await asyncio.gather(*(session(*item) for item in conversation(place.turns).items()))


async def undisturbed(place: Place) -> State:
    """The state after a life without accidents."""
    async with place.mind() as mind:
        await ingest(mind, place, random.Random(0))
        await mind.wait_idle(timeout=120)
        return await state(mind, place)


async def strike_round(place: Place, seed: int) -> State:
    """Kills the child at a random moment of its life, goes on, and says how it ended."""
    chance = random.Random(seed)
    child = await _begun(place, seed)
    await asyncio.sleep(chance.uniform(0, 1.5))
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    async with place.mind() as mind:
        await ingest(mind, place, chance)
        await mind.wait_idle(timeout=120)
        return await state(mind, place)


async def side_by_side(place: Place, seed: int) -> State:
    """Lives the same life as a child, at the same time, and says how it ended."""
    child = await _begun(place, seed)
    async with place.mind() as mind:
        await ingest(mind, place, random.Random(seed + 1))
        await mind.wait_idle(timeout=120)
        found = await state(mind, place)
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    return found


async def _begun(place: Place, seed: int) -> asyncio.subprocess.Process:
    """A child that ingests and extracts."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        json.dumps({"place": asdict(place), "seed": seed}),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    assert await asyncio.wait_for(child.stdout.readline(), 60) == b"begun\n"
    return child


async def state(mind: NeuroMemory, place: Place) -> State:
    """What is known, now and at some moments, by content; every message is named by its external id."""
    status = await mind.extraction_status(place.user)
    found: State = {"status": (status.extracted, status.pending, status.failed)}
    async with mind._db.read() as session:
        messages = session.tables.conversations.table
        asked = select(messages.c.message_id, messages.c.external_id).where(messages.c.user_id == place.user)
        names = {str(key): name for key, name in await session.execute(asked)}
        edges = session.tables.graph_edges.table
        columns = ("source_id", "edge_type", "target_id", "known_from", "known_to", "valid_to")
        told = await session.execute(select(*(edges.c[name] for name in columns)).where(edges.c.user_id == place.user))
        found["edges"] = sorted(map(repr, told))
        links = session.tables.memory_sources.table
        asked = select(links.c.derived_kind, links.c.source_id).where(links.c.user_id == place.user)
        found["sources"] = sorted((kind, names[str(key)]) for kind, key in await session.execute(asked))
    for moment in [None, *(START + timedelta(minutes=place.turns * part / 4) for part in (1, 2, 3))]:
        reader = mind if moment is None else mind.as_of(moment)
        memories = (await reader.list_memories(place.user, limit=1_000)).items
        found[f"memories {moment}"] = sorted(
            (m.content, m.memory_type, repr(m.metadata), m.event_at, sorted(names[source.id] for source in m.sources))
            for m in memories
        )
        found[f"profile {moment}"] = [
            (e.key, e.value, e.known_from) for e in await reader.kv.list("profile", place.user)
        ]
    found["profile history"] = [
        (entry.value, entry.known_from) for entry in await mind.kv.history("profile", place.user, "city")
    ]
    return found


def differing(found: State, expected: State) -> list[str]:
    return [f"{name}: {found[name]} / {expected[name]}"[:2_000] for name in expected if found[name] != expected[name]]


async def _live(place: Place, seed: int) -> None:
    """What the child does until somebody kills it."""
    async with place.mind() as mind:
        os.write(1, b"begun\n")
        await ingest(mind, place, random.Random(seed))
        while True:
            await mind.wait_idle()
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    asyncio.run(_live(Place(**given["place"]), given["seed"]))
