"""Kill -9 at random moments of a program that changes the embedding model, then let it come to its end."""

import asyncio
import json
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from omnimem import OmniMemClient, Settings
from support.embeddings import HashEmbedding


class SlowEmbedding(HashEmbedding):
    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        await asyncio.sleep(0.1)
        return await super().embed_batch(texts)


@dataclass(frozen=True)
class Rounds:
    """How many programs were killed before one came to its end."""

    killed: int


async def change(url: str, schema: str) -> None:
    """What the child does."""
    client = OmniMemClient.connect(Settings(url, schema=schema), embedding=SlowEmbedding(24, "new"))

    def progress(done: int, total: int) -> None:
        os.write(1, f"{done} {total}\n".encode())

    await client.reembed(progress=progress)
    os.write(1, b"switched\n")


async def strike(url: str, schema: str, *, rounds: int, seed: int) -> Rounds:
    """Kills up to `rounds` children, each after a random number of its reports; the last one is left alone."""
    chance = random.Random(seed)
    killed = 0
    for number in range(rounds + 1):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            json.dumps([url, schema]),
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        left = chance.randrange(1, 4)
        async with asyncio.timeout(90):
            while line := (await child.stdout.readline()).decode():
                if line == "switched\n":
                    await child.wait()
                    return Rounds(killed)
                left -= 1
                if number < rounds and left <= 0:
                    await asyncio.sleep(chance.random() * 0.2)
                    child.kill()
                    killed += 1
                    break
            await child.wait()
            if number == rounds:
                raise AssertionError(f"the last child ended with {child.returncode}")
    raise AssertionError("unreachable")


if __name__ == "__main__":
    asyncio.run(change(*json.loads(sys.argv[1])))
