"""kill -9 while a user is erased: all of it or nothing, and no stored file is left without its rows."""

import asyncio
import os
import random
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert

from conftest import OpenMind
from memground.postgres.versioned import new_row
from neuromem import NeuroMemory, NewMemory, NewMessage
from support import erase_killing
from support.embeddings import HashEmbedding
from support.erase_killing import POLICY
from support.storages import FolderStorage

ROUNDS, FILES = 5, 10


async def live(mind: NeuroMemory, storage: FolderStorage, user: str) -> None:
    await mind.add_memories(user, [NewMemory(f"memory {n} of {user}") for n in range(300)])
    said = [NewMessage("user", f"turn {n}", datetime(2024, 1, 1, tzinfo=UTC)) for n in range(300)]
    await mind.conversations.add_messages_batch(user, said)
    keys = [await storage.upload(f"{user}/{n}", "a.txt", user.encode(), "text/plain") for n in range(FILES)]
    async with mind._db.session() as session:
        await session.hold(user)
        stamp = session.stamp("agent")
        for key in keys:
            values = {
                "document_id": uuid.uuid4(), "user_id": user, "filename": "a.txt", "object_key": key, "metadata_": {},
            }  # fmt: skip
            await session.execute(insert(session.tables.documents.table).values(new_row(stamp, values)))


async def killed_after(seconds: float, *arguments: str) -> bool:
    """Whether the program had said that it was done."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        erase_killing.__file__,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert program.stdin is not None
    assert program.stdout is not None
    assert await program.stdout.readline() == b"ready\n"
    program.stdin.write(b"\n")
    await program.stdin.drain()
    await asyncio.sleep(seconds)
    if program.returncode is None:
        program.kill()
    said = await program.stdout.read()
    await program.wait()
    return b"complete" in said


async def test_a_killed_erasure_erased_all_or_nothing(
    open_mind: OpenMind, database_url: str, schema: str, tmp_path: Path
) -> None:
    rng = random.Random(7)
    storage = FolderStorage(tmp_path / "objects")
    await storage.init()
    mind = await open_mind(embedding=HashEmbedding(), background=False)
    whole: dict[str, int] = {}
    done: set[str] = set()
    for number in range(ROUNDS):
        user = f"user{number}"
        await live(mind, storage, user)
        whole[user] = (await mind.preview_erasure(user)).total
        seconds = 3.0 if number == 0 else rng.uniform(0.0, 0.5)
        if await killed_after(seconds, database_url, schema, str(storage.folder), user):
            done.add(user)
    assert "user0" in done

    again = await open_mind(embedding=HashEmbedding(), storage=storage, background=POLICY)
    await again.wait_idle(60)  # what a killed program had claimed waits for its lease to end
    left = {user: (await mind.preview_erasure(user)).total for user in whole}
    for user, total in whole.items():
        assert left[user] in (0, total), user
        objects = sum(key.startswith(f"{user}/") for key in storage.keys)
        assert objects == (FILES if left[user] else 0), user
    assert all(left[user] == 0 for user in done)
    print(f"{ROUNDS} kills: {len(done)} done, {sum(not total for total in left.values())} erased")
