"""Kill -9 at a random moment, start again, and compare with a life that nobody disturbed.

One round: a child process (this file as a script) ingests a conversation and prints each external id when it is
acknowledged. It, or the PostgreSQL under it, is killed. Then a new mind looks at what is there, ingests the whole
conversation again under the same external ids, waits for the background work, and looks again.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from memground.embedding import check_texts
from memground.errors import UnavailableError
from memground.postgres.queue import JobPolicy
from neuromem import NeuroMemory, NewMessage
from support.embeddings import HashEmbedding

SESSIONS = 3
SAMPLE = 5
"""Turns whose words are looked up after a round: the keyword index must have survived, too."""

type State = dict[str, list[tuple[Any, ...]]]
type Strike = Callable[[int], None]


class SlowEmbedding(HashEmbedding):
    """Takes its time, so that a kill often falls between claiming jobs and storing their results."""

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        check_texts(texts)
        await asyncio.sleep(0.03)
        return await super().embed_batch(texts)


@dataclass(frozen=True)
class Place:
    """Where a life is lived, and of how many turns."""

    url: str
    schema: str
    user: str
    turns: int

    @asynccontextmanager
    async def mind(self) -> AsyncGenerator[NeuroMemory]:
        policy = JobPolicy(lease=2, poll=0.1, batch=200)
        async with NeuroMemory(
            self.url, SlowEmbedding(8), schema=self.schema, background=policy, pool_size=SESSIONS + 2
        ) as mind:
            yield mind


@dataclass(frozen=True)
class Outcome:
    """What a round found.

    `stored` is counted before anything was ingested again. `differing`: what is not as in an undisturbed life.
    """

    seed: int
    acknowledged: int
    stored: int
    operations: int
    lost: int
    duplicated: int
    differing: list[str]
    seconds: float


def conversation(turns: int) -> dict[str, list[NewMessage]]:
    """The turns by session, the same every time."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    said: dict[str, list[NewMessage]] = {f"s{n}": [] for n in range(SESSIONS)}
    for n in range(turns):
        said[f"s{n % SESSIONS}"].append(
            NewMessage(
                role=("user", "assistant")[n // SESSIONS % 2],
                content=f"turn{n} about topic{n % 17} and place{n % 23}",
                timestamp=start + timedelta(minutes=n),
                external_id=f"t{n}",
                speaker=("Anna", None, "Bob")[n % 3],
                metadata={"n": n},
            )
        )
    return said


def parts(messages: list[NewMessage], chance: random.Random, largest: int) -> Iterable[list[NewMessage]]:
    """The messages in order, one by one and in batches, mixed."""
    start = 0
    while start < len(messages):
        size = 1 if chance.random() < 0.5 else chance.randint(2, largest)
        yield messages[start : start + size]
        start += size


async def ingest(
    mind: NeuroMemory, place: Place, chance: random.Random, largest: int, acknowledge: Callable[[list[str]], None]
) -> None:
    """Ingests all sessions at the same time, each in order."""

    async def session(session_id: str, messages: list[NewMessage]) -> None:
        for part in parts(messages, chance, largest):
            if len(part) == 1:
                m = part[0]
                stored = [
                    await mind.ingest(
                        place.user,
                        m.role,
                        m.content,
                        session_id=session_id,
                        timestamp=m.timestamp,
                        external_id=m.external_id,
                        speaker=m.speaker,
                        metadata=m.metadata,
                    )
                ]
            else:
                stored = await mind.conversations.add_messages_batch(place.user, part, session_id=session_id)
            acknowledge([str(message.external_id) for message in stored])

    await asyncio.gather(*(session(*item) for item in conversation(place.turns).items()))


# ---------------------------------------------------------------- the child


async def live(place: Place, seed: int) -> None:
    """What the child does until somebody kills it: acknowledged ids and, at the end, a line that says so."""

    def acknowledge(ids: list[str]) -> None:
        os.write(1, (" ".join(ids) + "\n").encode())

    try:
        async with place.mind() as mind:
            await ingest(mind, place, random.Random(seed), 60, acknowledge)
            os.write(1, b"done\n")
            while True:  # until it is killed, or the server is
                await mind.wait_idle()
                await asyncio.sleep(0.02)
    except UnavailableError:
        os.write(1, b"unavailable\n")


# ---------------------------------------------------------------- the round


async def strike_round(
    place: Place, seed: int, expected: State, *, strike: Strike | None = None, embedding: float = 0.25
) -> Outcome:
    """One round; `strike` (default: kill -9) is given the child's process id. `embedding` is the share of rounds that
    strike when all is ingested and the vectors are being made."""
    started = time.monotonic()
    chance = random.Random(seed)
    acknowledged, operations = await _disturbed(place, seed, chance, strike, late=chance.random() < embedding)
    async with place.mind() as mind:
        before = await state(mind, place)
        again: list[str] = []
        await ingest(mind, place, chance, 300, again.extend)
        await mind.wait_idle(timeout=60)
        after = await state(mind, place)
        unfound = [f"turn{n}" for n in chance.sample(range(place.turns), SAMPLE) if not await _found(mind, place, n)]
    stored = [turn[1] for turns in before.values() for turn in turns]
    holes = [
        f"{session} has a hole"
        for session, turns in before.items()
        if [turn[:2] for turn in turns] != [turn[:2] for turn in expected[session][: len(turns)]]
    ]
    wrong = [f"{session} differs" for session in expected if after.get(session) != expected[session]]
    return Outcome(
        seed=seed,
        acknowledged=len(acknowledged),
        stored=len(stored),
        operations=operations,
        lost=len(acknowledged - set(stored)),
        duplicated=len(stored) - len(set(stored)) + len(again) - len(set(again)),
        differing=[*holes, *wrong, *unfound],
        seconds=round(time.monotonic() - started, 2),
    )


async def undisturbed(place: Place) -> State:
    """The state after a life without accidents."""
    async with place.mind() as mind:
        await ingest(mind, place, random.Random(0), 300, lambda ids: None)
        await mind.wait_idle(timeout=60)
        return await state(mind, place)


async def _disturbed(
    place: Place, seed: int, chance: random.Random, strike: Strike | None, *, late: bool
) -> tuple[set[str], int]:
    """Starts the child, strikes, and returns the ids it had acknowledged and in how many calls."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        json.dumps({"place": asdict(place), "seed": seed}),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    moment = place.turns if late else chance.randrange(place.turns)
    acknowledged: set[str] = set()
    operations = 0
    while len(acknowledged) < moment:
        acknowledged.update((await _line(child.stdout)).split())
        operations += 1
    await asyncio.sleep(chance.uniform(0, 1.0 if late else 0.05))
    (strike or _kill)(child.pid)
    complaint = b""
    if strike is not None:
        complaint = await asyncio.wait_for(child.stderr.read(), 60)
    rest = (await child.stdout.read()).decode().splitlines(keepends=True)
    status = await child.wait()
    if strike is not None:
        assert status == 0, complaint.decode()
        assert rest[-1] == "unavailable\n", rest
    for line in rest:
        if line.endswith("\n") and line not in ("done\n", "unavailable\n"):
            acknowledged.update(line.split())
            operations += 1
    return acknowledged, operations


async def _line(stream: asyncio.StreamReader) -> str:
    line = (await asyncio.wait_for(stream.readline(), 60)).decode()
    assert line.endswith("\n"), "the child ended by itself"
    return line


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def _found(mind: NeuroMemory, place: Place, n: int) -> bool:
    found = await mind.recall(place.user, f"turn{n}", limit=8)  # of 8, the best by words is one
    return {"n": n} in [hit.metadata for hit in found.merged]


async def state(mind: NeuroMemory, place: Place) -> State:
    """Every session's turns in order, each with its place, its content and all vectors stored for it; and what waits.

    The turns come from the public interface, the rest from the tables.
    """
    query = f"""
        select c.external_id, array_agg(e.embedding::text) from {place.schema}.conversations c
        join {place.schema}.conversation_embeddings e using (message_id) where c.user_id = $1 group by c.external_id"""
    counts = f"select session_id, message_count from {place.schema}.conversation_sessions where user_id = $1"
    connection = await asyncpg.connect(mind._db._url_in_use)
    try:
        vectors = dict(await connection.fetch(query, place.user))
        counted = dict(await connection.fetch(counts, place.user))
    finally:
        await connection.close()
    waiting = (await mind.background_status(place.user)).waiting
    found: State = {}
    for session_id in sorted(counted):
        messages = await mind.conversations.get_session_messages(place.user, session_id)
        found[session_id] = [
            (m.seq, m.external_id, m.role, m.speaker, m.content, m.timestamp, vectors.get(m.external_id))
            for m in messages
        ]
        assert counted[session_id] == len(messages)
    if waiting == 0:
        found["nothing waits"] = []
    return found


def kill_postmaster(folder: Path) -> Strike:
    """Kills the embedded server of a data folder; the child is left to find out."""

    def strike(_: int) -> None:
        os.kill(int((folder / "pgdata/postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    return strike


async def clear(place: Place) -> None:
    """Empties the tables a round fills, so that the last of many rounds is as quick as the first."""
    connection = await asyncpg.connect(place.url)
    tables = ("conversations", "conversation_embeddings", "conversation_sessions", "jobs")
    await connection.execute("truncate " + ", ".join(f"{place.schema}.{table}" for table in tables))
    await connection.close()


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    asyncio.run(live(Place(**asked["place"]), asked["seed"]))
