"""`neuromem erase`, through the entry point and on a real database."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import OpenMind
from neuromem import NeuroMemory
from neuromem.providers.local_storage import LocalStorage
from support.calls import World, settle
from support.command import Outcome, command


@pytest.fixture
async def world(nm: NeuroMemory, user: str) -> World:
    return await settle(nm, user)


async def run(url: str, *arguments: str, typed: str | None = None, code: int = 0) -> Outcome:
    environment = {"NEUROMEM_DATABASE_URL": url}
    stdin = b"" if typed is None else f"{typed}\n".encode()
    done = await asyncio.to_thread(
        command, "erase", *arguments, stdin=stdin, environment=environment, terminal=typed is not None
    )
    assert done.code == code, done
    return done


async def test_a_user_is_erased_after_the_name_was_typed(
    nm: NeuroMemory, database_url: str, world: World, tmp_path: Path
) -> None:
    user, out = world.user, tmp_path / "receipt.json"
    done = await run(database_url, user, typed="yes", code=1)
    lines = done.out.splitlines()
    assert lines[0] == f"to be erased: everything of {user}"
    assert {tuple(line.split()) for line in lines[1:]} >= {("embeddings", "3"), ("conversations", "2")}
    assert lines[-1].strip() == "nothing was erased"
    assert f"type the user's id ({user})" in done.err
    assert await nm.get_memory(user, world.memory_id) is not None

    done = await run(database_url, user, "--out", str(out), typed=user)
    assert f"erased: everything of {user}" in done.out
    assert ": nothing is left\n" in done.out
    assert "VACUUM" in done.out
    receipt = json.loads(out.read_text(encoding="utf-8"))
    assert receipt["user_id"] == user
    assert receipt["rows"]["embeddings"] == 3
    assert not any(receipt["left"].values())
    assert await nm.get_memory(user, world.memory_id) is None


async def test_one_thing_is_erased_as_json(nm: NeuroMemory, database_url: str, world: World) -> None:
    user = world.user
    done = await run(database_url, user, "--memory", world.memory_id[:8], "--yes", "--json")
    assert done.json["what"] == "memory"
    assert done.json["id"] == world.memory_id
    assert done.json["complete"] is True
    assert done.json["rows"] == {"embeddings": 2, "memory_sources": 1}
    assert (await run(database_url, user, "--message", world.message_id, "--yes", "--json")).json["what"] == "message"
    assert (await run(database_url, user, "--document", world.document_id, "--yes", "--json")).json["rows"] == {
        "documents": 2,
        "embeddings": 1,
        "memory_sources": 1,
    }
    done = await run(database_url, user, "--history-before", "now", "--yes", "--json")
    assert done.json["rows"] == {"graph_edges": 1, "graph_nodes": 1, "key_values": 1}
    assert [entry.value for entry in await nm.kv.history("profile", user, "city")] == ["Porto, Portugal"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "no terminal to ask on; pass --yes"),
        (("--memory", "00000000-0000-4000-8000-000000000000", "--yes"), 1, "has no memory 00000000-0000"),
        (("--message", "x", "--yes"), 2, "message_id='x' is no id"),
        (("--memory", "00000000-0000-4000-8000-000000000000", "--history-before", "now", "--yes"), 2, "name one thing"),
        (("--history-before", "2999-01-01", "--yes"), 2, "lies in the future"),
        (("--out", "/nowhere/at/all.json", "--yes"), 2, "name a new file"),
    ],
)
async def test_what_cannot_be_is_said_in_one_line(
    database_url: str, world: World, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = await run(database_url, world.user, *arguments, code=code)
    assert says in done.err
    assert done.err.count("\n") == 1


async def test_stored_files_go_at_once_where_the_storage_is_named(
    open_mind: OpenMind, database_url: str, schema: str, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    mind = await open_mind(embedding=None, storage=LocalStorage(folder), background=False)
    for user in ("anna", "ben"):
        await mind.files.upload(user, "a.txt", f"{user} likes tea".encode())
    where = ("--schema", schema, "--yes", "--json")
    done = await run(database_url, "anna", "--storage", str(folder), *where)
    assert (done.json["complete"], done.json["objects"], done.json["objects_left"]) == (True, 1, 0)
    assert len(files_in(folder)) == 1

    done = await run(database_url, "ben", *where, code=1)
    assert (done.json["complete"], done.json["objects_left"]) == (False, 1)
    assert len(files_in(folder)) == 1
    environment = {**os.environ, "NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_STORAGE": str(folder)}
    worker = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("neuromem"), "worker", "--schema", schema,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert worker.stdout is not None
        assert b"jobs waiting: 1" in await asyncio.wait_for(worker.stdout.readline(), 30)
        await mind.wait_idle(timeout=30)
        worker.terminate()
        rest, _ = await asyncio.wait_for(worker.communicate(), 30)
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    assert (worker.returncode, rest) == (0, b"stopped\n")
    assert files_in(folder) == []


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
