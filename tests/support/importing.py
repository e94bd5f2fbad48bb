"""`neuromem import` as a process of its own, killed and started again."""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from memground.embedding import OpenAIEmbedding
from neuromem import NeuroMemory
from support.killing import Place, State, state
from support.openai_server import OpenAIServer
from support.sound import check_sound

NEUROMEM = Path(sys.executable).with_name("neuromem")
MODEL, DIMS = "test-embedding", 8
SESSIONS = 40


@dataclass(frozen=True)
class Bench:
    """Where imports of one schema happen; vectors come from a server on loopback."""

    url: str
    schema: str
    embeddings: OpenAIServer

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "NEUROMEM_DATABASE_URL": self.url,
            "NEUROMEM_SCHEMA": self.schema,
            "NEUROMEM_EMBEDDING": f"openai:{MODEL}@{DIMS}",
            "OPENAI_API_KEY": self.embeddings.key,
            "OPENAI_BASE_URL": self.embeddings.base_url,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }

    @asynccontextmanager
    async def mind(self) -> AsyncGenerator[NeuroMemory]:
        model = OpenAIEmbedding(self.embeddings.key, model=MODEL, dims=DIMS, base_url=self.embeddings.base_url)
        async with NeuroMemory(self.url, model, schema=self.schema, background=False) as mind:
            yield mind

    async def start(self, *arguments: object) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            NEUROMEM,
            *map(str, arguments),
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: object) -> tuple[int | None, str, str]:
        """Exit code, stdout, stderr."""
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), 120)
        return process.returncode, out.decode(), err.decode()

    async def state(self, user: str) -> State:
        """All that is known of a user: see `killing.state`."""
        async with self.mind() as mind:
            await check_sound(mind)
            return await state(mind, Place(self.url, self.schema, user, 0))


def write_talk(path: Path, turns: int) -> Path:
    """JSON lines of many sessions, interleaved, with and without ids."""
    said = datetime(2023, 1, 1, tzinfo=UTC)
    with path.open("w", encoding="utf-8") as file:
        for n in range(turns):
            line = {
                "role": ("user", "assistant")[n % 2],
                "content": f"turn{n} about topic{n % 17} and place{n % 23}",
                "session": f"s{n * 7 % SESSIONS}",
                "timestamp": (said + timedelta(minutes=n)).isoformat(),
            }
            file.write(json.dumps(line | ({"external_id": f"t{n}"} if n % 3 else {})) + "\n")
    return path


async def kill_round(bench: Bench, file: Path, turns: int, seed: int, expected: State) -> list[str]:
    """Imports, is killed at a random moment, imports again; returns what differs from an undisturbed import."""
    chance, user = random.Random(seed), f"killed-{seed}"
    process = await bench.start("import", file, "--user", user)
    table = chance.choice(["conversations", "conversations", "conversation_embeddings"])
    reached = asyncio.create_task(_reach(bench, table, user, chance.randrange(turns)))
    ended = asyncio.create_task(process.wait())
    await asyncio.wait({reached, ended}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    await asyncio.sleep(chance.uniform(0, 0.1))
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    for task in (reached, ended):
        task.cancel()
    await asyncio.gather(reached, ended, return_exceptions=True)
    await process.communicate()
    code, _, complaint = await bench.run("import", file, "--user", user, "--json")
    after = await bench.state(user)
    wrong = [f"{name} differs" for name in expected if after.get(name) != expected[name]]
    return [*wrong, *([] if code == 0 else [f"exit {code}: {complaint}"])]


async def _reach(bench: Bench, table: str, user: str, count: int) -> None:
    """Waits until a table has so many rows of the user."""
    connection = await asyncpg.connect(bench.url)
    try:
        query = f"select count(*) from {bench.schema}.{table} where user_id = $1"
        while await connection.fetchval(query, user) < count:
            await asyncio.sleep(0.002)
    finally:
        await connection.close()
