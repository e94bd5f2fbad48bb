"""A program that erases a user and may be killed meanwhile: `python erase_killing.py URL SCHEMA FOLDER USER`."""

import asyncio
import sys
from pathlib import Path

from memground.postgres.queue import JobPolicy
from neuromem import NeuroMemory
from support.embeddings import HashEmbedding
from support.storages import FolderStorage

POLICY = JobPolicy(lease=1, poll=0.05, backoff=0.05)


class SlowStorage(FolderStorage):
    """Takes its time, so that a kill may fall between the commit and the removal of the last object."""

    async def delete(self, object_key: str) -> None:
        await asyncio.sleep(0.05)
        await super().delete(object_key)


async def main(url: str, schema: str, folder: str, user: str) -> None:
    storage = SlowStorage(Path(folder))
    async with NeuroMemory(url, HashEmbedding(), storage=storage, schema=schema, background=False) as mind:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        receipt = await mind.delete_user_data(user)
        print("complete" if receipt.complete else "left", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
