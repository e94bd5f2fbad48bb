"""Kill -9 while memories are digested: children digest until they are killed.

Children are forked by a process (this file as a script) that has imported everything, so that a round takes little more
than its digest.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from memground.postgres.queue import JobPolicy
from neuromem import NeuroMemory
from neuromem.providers.llm import OpenAILLM
from support.embeddings import HashEmbedding


@dataclass(frozen=True)
class Place:
    """Where the memories are, and the model."""

    url: str
    schema: str
    model_url: str
    key: str

    @asynccontextmanager
    async def mind(self) -> AsyncGenerator[NeuroMemory]:
        llm = OpenAILLM(self.key, base_url=self.model_url)
        jobs = JobPolicy(lease=1, poll=0.05, backoff=0.05)
        try:
            async with NeuroMemory(
                self.url, HashEmbedding(32), llm, schema=self.schema, auto_extract=False, background=jobs
            ) as mind:
                yield mind
        finally:
            await llm.close()


class Nursery:
    """Begins children that digest."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asked, self._answers = process.stdin, process.stdout

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

    async def begin(self, place: Place, user: str) -> int:
        """The process id of a child that has just begun to digest."""
        self._asked.write(json.dumps({"place": asdict(place), "user": user}).encode() + b"\n")
        return int(await asyncio.wait_for(self._answers.readline(), 60))


async def kill(child: int) -> None:
    """Kills it, and waits until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
        async with asyncio.timeout(60):
            while True:
                os.kill(child, 0)
                await asyncio.sleep(0.001)


async def _live(place: Place, user: str) -> None:
    async with place.mind() as mind:
        os.write(1, f"{os.getpid()}\n".encode())
        await mind.digest(user)


def _raise_children() -> None:
    for name in ("alembic.command", "openai.resources.chat", "sqlalchemy.dialects.postgresql.asyncpg"):
        import_module(name)  # what a mind imports when it is opened
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    for line in sys.stdin:
        if os.fork() == 0:
            asked = json.loads(line)
            asyncio.run(_live(Place(**asked["place"]), asked["user"]))
            return


if __name__ == "__main__":
    _raise_children()
