"""Kill -9 at a random moment of a client that writes (and, asynchronously, indexes), then look at what is left.

The child prints a line for each write that was acknowledged. What it was told is there is there, what it deleted stays
deleted, and once the waiting changes are applied the indexes are as the truth.
"""

import asyncio
import json
import os
import random
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omnimem import JobPolicy, OmniMemClient
from support.deployments import Servers
from support.embeddings import HashEmbedding


class SlowEmbedding(HashEmbedding):
    """Takes its time, so that a kill often falls between claiming changes and storing their results."""

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        await asyncio.sleep(0.01)
        return await super().embed_batch(texts)


@dataclass(frozen=True)
class Outcome:
    """What a round found: acknowledged writes that are not there, deleted memories that are, and differences."""

    acknowledged: int
    lost: int
    resurrected: int
    differences: int


def client(servers: Servers, deployment: str, own: str, sync: str) -> OmniMemClient:
    settings = servers.settings(deployment, own, sync=sync, jobs=JobPolicy(lease=1, poll=0.05, batch=16))
    return OmniMemClient.connect(settings, embedding=SlowEmbedding(8))


async def live(servers: dict[str, str], deployment: str, own: str, sync: str, seed: int) -> None:
    """What the child does until it is killed."""
    async with client(Servers(**servers), deployment, own, sync) as record:
        acknowledge("open")

        async def one(number: int) -> None:
            chance = random.Random(seed * 100 + number)
            mine: list[str] = []
            while True:
                match chance.random():
                    case x if x < 0.5 or not mine:
                        memory = await record.create(f"w{chance.randrange(50)} w{chance.randrange(50)}")
                        mine.append(memory.memory_id)
                        acknowledge("put", memory.memory_id, memory.record_id)
                    case x if x < 0.85:
                        memory = await record.update(chance.choice(mine), content=f"w{chance.randrange(50)}")
                        acknowledge("put", memory.memory_id, memory.record_id)
                    case _:
                        key = mine.pop(chance.randrange(len(mine)))
                        acknowledge("deleting", key)
                        await record.delete(key)
                        acknowledge("deleted", key)

        await asyncio.gather(*(one(number) for number in range(3)))


def acknowledge(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


async def strike_round(servers: Servers, deployment: str, own: str, sync: str, seed: int) -> Outcome:
    """One round: a child lives for a random while and is killed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        json.dumps([asdict(servers), deployment, own, sync, seed]),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    lines = [(await asyncio.wait_for(child.stdout.readline(), 60)).decode()]
    assert lines == ["open\n"]
    for _ in range(5):  # it is at work, however slow the machine
        lines.append((await asyncio.wait_for(child.stdout.readline(), 60)).decode())
    await asyncio.sleep(random.Random(seed).uniform(0.05, 1.0))
    os.kill(child.pid, signal.SIGKILL)
    lines += [line for line in (await child.stdout.read()).decode().splitlines(keepends=True) if line.endswith("\n")]
    await child.wait()
    said = [line.split() for line in lines[1:]]
    async with client(servers, deployment, own, sync) as record:
        if sync == "async" or deployment != "postgres":
            await record.wait_idle(60)
        report = await record.verify()
        return await _compared(record, said, report.count)


async def _compared(record: OmniMemClient, said: list[list[str]], differences: int) -> Outcome:
    unsure = {words[1] for words in said if words[0] == "deleting"}
    deleted = {words[1] for words in said if words[0] == "deleted"}
    lost = 0
    puts: dict[str, set[str]] = {}
    for words in said:
        if words[0] == "put":
            puts.setdefault(words[1], set()).add(words[2])
    for key, records in puts.items():
        history: Any = await record.history(key, limit=1_000)
        if key not in unsure:
            lost += len(records - {m.record_id for m in history})
    resurrected = len([key for key in deleted if await record.get(key) is not None])
    return Outcome(len(said), lost, resurrected, differences)


if __name__ == "__main__":
    asyncio.run(live(*json.loads(sys.argv[1])))
