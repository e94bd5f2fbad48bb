"""Kill -9 while a dialogue is ingested and extracted, start again, and compare with a life that nobody disturbed.

The model is scripted and served over HTTP by the test; a child process is what is killed. Children are forked by a
process (this file as a script) that has imported everything, so that a round takes little more than its life.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import select

from memground.postgres.queue import JobPolicy
from neuromem import ExtractionPolicy, NeuroMemory
from neuromem.providers.llm import OpenAILLM
from support.dialogues import Dialogue, dialogue
from support.embeddings import HashEmbedding

type State = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a life is lived, where its model is, and with which dialogue, or which sessions of it (see `dialogue`).

    With `in_turn` a session begins when all that came before it is extracted.
    """

    url: str
    schema: str
    user: str
    model_url: str
    key: str
    file: str | None = None
    only: Sequence[str] = ()
    in_turn: bool = False

    @property
    def dialogue(self) -> Dialogue:
        return dialogue(self.file, self.only)

    @asynccontextmanager
    async def mind(self) -> AsyncGenerator[NeuroMemory]:
        jobs = JobPolicy(lease=1, poll=0.05, backoff=0.05, backoff_max=0.2)
        policy = ExtractionPolicy(messages=6, idle=0.1)
        llm = OpenAILLM(self.key, base_url=self.model_url)
        try:
            async with NeuroMemory(
                self.url, HashEmbedding(256), llm, schema=self.schema, background=jobs, extraction=policy
            ) as mind:
                yield mind
        finally:
            await llm.close()


@dataclass(frozen=True)
class Life:
    """How a life ended, and how many seconds it took."""

    state: State
    seconds: float


async def ingest(mind: NeuroMemory, place: Place, chance: random.Random) -> None:
    """All sessions at the same time (or in turn), each in order, in parts of any size."""

    async def session(session_id: str, messages: Any) -> None:
        start = 0
        while start < len(messages):
            size = chance.randint(1, 5)
            part = messages[start : start + size]
            await mind.conversations.add_messages_batch(place.user, part, session_id=session_id)
            start += size

    sessions = [session(*item) for item in place.dialogue.sessions.items()]
    if not place.in_turn:
        await asyncio.gather(*sessions)
        return
    for one in sessions:
        await one
        await mind.wait_idle(timeout=120)


async def undisturbed(place: Place) -> Life:
    """A life without accidents."""
    async with place.mind() as mind:
        begun = time.monotonic()
        await ingest(mind, place, random.Random(0))
        await mind.wait_idle(timeout=120)
        seconds = time.monotonic() - begun
        return Life(await state(mind, place), seconds)


class Nursery:
    """Begins children that ingest and extract until they are killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asked, self._answers, self._one = process.stdin, process.stdout, asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls) -> "AsyncGenerator[Nursery]":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield cls(process)
        finally:
            await process.communicate()  # it ends with its input

    async def begin(self, place: Place, seed: int) -> int:
        """The process id of a child whose life has just begun."""
        async with self._one:
            self._asked.write(json.dumps({"place": asdict(place), "seed": seed}).encode() + b"\n")
            return int(await asyncio.wait_for(self._answers.readline(), 60))

    async def strike_round(self, place: Place, seed: int, within: float) -> State:
        """Kills a child at a random moment of its first `within` seconds, goes on, and says how it ended."""
        chance = random.Random(seed)
        child = await self.begin(place, seed)
        await asyncio.sleep(chance.uniform(0, within))
        await _kill(child)
        async with place.mind() as mind:
            await ingest(mind, place, chance)
            await mind.wait_idle(timeout=120)
            return await state(mind, place)

    async def side_by_side(self, place: Place, seed: int) -> State:
        """Lives the same life as a child, at the same time, and says how it ended."""
        child = await self.begin(place, seed)
        async with place.mind() as mind:
            await ingest(mind, place, random.Random(seed + 1))
            await mind.wait_idle(timeout=120)
            found = await state(mind, place)
        await _kill(child)
        return found


async def _kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    with suppress(ProcessLookupError):
        async with asyncio.timeout(60):
            while True:  # until it is gone
                os.kill(child, 0)
                await asyncio.sleep(0.001)


async def state(mind: NeuroMemory, place: Place) -> State:
    """What is known, now and at some moments, by content; every message is named by its external id."""
    status = await mind.extraction_status(place.user)
    found: State = {"status": (status.extracted, status.pending, status.failed)}
    async with mind._db.read() as session:
        messages = session.tables.conversations.table
        asked = select(messages.c.message_id, messages.c.external_id).where(messages.c.user_id == place.user)
        names = {str(key): name for key, name in await session.execute(asked)}
        edges = session.tables.graph_edges.table
        columns = ("source_id", "edge_type", "target_id", "valid_from", "valid_to", "known_from", "known_to")
        told = select(*(edges.c[name] for name in columns)).where(edges.c.user_id == place.user)
        versions = [tuple(row) for row in await session.execute(told)]
        links = session.tables.memory_sources.table
        asked = select(links.c.derived_kind, links.c.source_id).where(links.c.user_id == place.user)
        sources = sorted((kind, names[str(key)]) for kind, key in await session.execute(asked))
    found["edges"], found["sources"] = sorted(map(repr, versions)), sources
    turns = place.dialogue.turns
    for moment in [None, *(turns[len(turns) * part // 4].timestamp for part in (1, 2, 3))]:
        reader = mind if moment is None else mind.as_of(moment)
        memories = (await reader.list_memories(place.user, limit=1_000)).items
        found[f"memories {moment}"] = sorted(
            (
                m.content, m.memory_type, repr(sorted(m.metadata.items())), m.importance, m.event_at, repr(m.valid_to),
                sorted(names[source.id] for source in m.sources),
            )
            for m in memories
        )  # fmt: skip
        found[f"profile {moment}"] = [
            (e.key, e.value, e.known_from) for e in await reader.kv.list("profile", place.user)
        ]
    found["profile history"] = [
        (key, entry.value, entry.known_from)
        for key, _, _ in found["profile None"]
        for entry in await mind.kv.history("profile", place.user, key)
    ]
    return found


def differing(found: State, expected: State) -> list[str]:
    """What is there and should not be, or the other way round, by name."""
    different: list[str] = []
    for name in (name for name in expected if found[name] != expected[name]):
        more = [item for item in found[name] if item not in expected[name]]
        less = [item for item in expected[name] if item not in found[name]]
        different.append(f"{name}: {more} instead of {less}"[:2_000])
    return different


# ---------------------------------------------------------------- the nursery


async def _live(place: Place, seed: int) -> None:
    """What a child does until somebody kills it, or all others are gone."""
    nursery = os.getppid()
    async with place.mind() as mind:
        os.write(1, f"{os.getpid()}\n".encode())
        await ingest(mind, place, random.Random(seed))
        while os.getppid() == nursery:
            await mind.wait_idle()
            await asyncio.sleep(0.02)


def _raise_children() -> None:
    for name in ("alembic.command", "openai.resources.chat", "sqlalchemy.dialects.postgresql.asyncpg"):
        import_module(name)  # what a mind imports when it is opened
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    for line in sys.stdin:
        if os.fork() == 0:
            asked = json.loads(line)
            asyncio.run(_live(Place(**asked["place"]), asked["seed"]))
            return


if __name__ == "__main__":
    _raise_children()
