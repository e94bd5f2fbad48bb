"""Kill -9 of a program that uploads: this file as a script is the program. `after` looks at what it left.

python files_killing.py '{"url": …, "schema": …, "folder": …, "seed": …}'
"""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import select

from memground.errors import NotFoundError
from memground.postgres.queue import JobPolicy
from neuromem import NeuroMemory
from support.embeddings import HashEmbedding
from support.storages import FolderStorage

LANES = 4


class SlowStorage(FolderStorage):
    """Takes its time before and after the bytes are there, so that kills fall between."""

    async def upload(self, prefix: str, filename: str, data: bytes, content_type: str) -> str:
        await asyncio.sleep(0.02)
        return await super().upload(prefix, filename, data, content_type)


@dataclass(frozen=True)
class Place:
    url: str
    schema: str
    folder: str
    seed: int

    @property
    def user(self) -> str:
        return f"killed-{self.seed}"

    @property
    def storage(self) -> SlowStorage:
        storage = SlowStorage(Path(self.folder))
        storage.slow = 0.02
        return storage

    @asynccontextmanager
    async def mind(self) -> AsyncGenerator[NeuroMemory]:
        policy = JobPolicy(lease=3, poll=0.05, backoff=0.05)
        async with NeuroMemory(
            self.url, HashEmbedding(8), storage=self.storage, schema=self.schema, background=policy
        ) as mind:
            yield mind


def content(number: int) -> bytes:
    return f"# File {number}\n\n{f'word{number} and more of it. ' * 200}".encode()


async def live(place: Place) -> None:
    """Uploads and deletes until killed, four at a time, and says what was acknowledged."""
    rng = random.Random(place.seed)

    async def lane() -> None:
        while True:
            number = rng.randrange(40)
            stored = await mind.files.upload(place.user, f"{number}.md", content(number))
            sys.stdout.write(f"+ {stored.document_id}\n")
            sys.stdout.flush()
            if rng.random() < 0.3:
                sys.stdout.write(f"? {stored.document_id}\n")
                sys.stdout.flush()
                with suppress(NotFoundError):
                    await mind.files.delete(place.user, stored.document_id)

    async with place.mind() as mind:
        await asyncio.gather(*(lane() for _ in range(LANES)))


@dataclass(frozen=True)
class Left:
    """What is there after a kill, and after the work of those who came later: what is not as it should be."""

    acknowledged: int
    documents: int
    removed: int
    wrong: list[str]


async def strike_round(place: Place) -> Left:
    """Starts a program, kills it, and looks."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        json.dumps(asdict(place)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
    )
    assert child.stdout is not None
    lines = [await child.stdout.readline()]
    reading = asyncio.create_task(child.stdout.read())
    await asyncio.sleep(random.Random(place.seed).uniform(0.0, 0.8))
    child.send_signal(signal.SIGKILL)
    lines += (await reading).splitlines()
    await child.wait()
    said = [line.decode().split() for line in lines if line.strip()]
    async with place.mind() as mind:
        before = len(place.storage.keys)
        await mind.wait_idle(timeout=30)
        wrong = await out_of_step(mind, place)
        listed = (await mind.files.list(place.user, limit=1_000)).items
        there = {document.document_id for document in listed}
        doubtful = {key for sign, key in said if sign == "?"}
        stored = {key for sign, key in said if sign == "+"}
        wrong += [f"{key} was acknowledged and is lost" for key in stored - doubtful - there]
        return Left(len(stored), len(listed), before - len(place.storage.keys), wrong)


async def out_of_step(mind: NeuroMemory, place: Place) -> list[str]:
    """Where rows, passages and objects disagree."""
    async with mind._db.read() as session:
        keys = set((await session.execute(select(session.tables.documents.table.c.object_key))).scalars())
    wrong = [f"object {key} has no row" for key in place.storage.keys - keys]
    wrong += [f"row names {key}, which is not stored" for key in keys - place.storage.keys]
    documents = (await mind.files.list(place.user, limit=1_000)).items
    memories = (await mind.list_memories(place.user, limit=1_000)).items
    passages = Counter(memory.metadata["document_id"] for memory in memories)
    wrong += [
        f"{d.filename} has {passages[d.document_id]} of {d.chunks} passages"
        for d in documents
        if passages[d.document_id] != d.chunks
    ]
    known = {document.document_id for document in documents}
    wrong += [f"passages of {key}, which is not there" for key in passages if key not in known]
    wrong += [f"memory {m.memory_id} has {len(m.sources)} sources" for m in memories if len(m.sources) != 1]
    return wrong


if __name__ == "__main__":
    asyncio.run(live(Place(**json.loads(sys.argv[1]))))
