"""A program that loads memories without end, or until it makes an index, and is killed meanwhile."""

import asyncio
import itertools
import os
import sys

from omnimem import OmniMemClient, Settings
from support.embeddings import HashEmbedding


async def main(url: str, schema: str, most: int) -> None:
    """Loads at most so many (0: without end); prints each step it is told of."""
    numbers = itertools.count() if most == 0 else range(most)
    async with OmniMemClient.connect(Settings(url, schema=schema), embedding=HashEmbedding(8)) as client:
        await client.load(
            (f"loaded w{n % 97} n{n}" for n in numbers),
            progress=lambda step, done, _: os.write(1, f"{step} {done}\n".encode()),
        )
    await asyncio.sleep(60)  # until it is killed


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
