"""The real command, in processes of its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import neuromem
from memground.embedding.install import MODEL_NAME
from support.embedded import short_tmp_dir

NEUROMEM = Path(sys.executable).with_name("neuromem")


def run(*arguments: str, environment: Mapping[str, str] = {}) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [NEUROMEM, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version_and_help() -> None:
    assert run("--version").stdout == f"neuromem {neuromem.__version__}\n"
    bare = run()
    assert bare.returncode == 0
    assert "model" in bare.stdout
    assert "worker" in bare.stdout


def test_model_status() -> None:
    there = run("model", "status", "--json")
    assert there.returncode == 0
    assert json.loads(there.stdout)["installed"] is True
    with short_tmp_dir() as home:
        absent = run("model", "status", "--json", environment={"HOME": str(home)})
        in_words = run("model", "status", environment={"HOME": str(home)})
    folder = str(home / ".neuromem" / "models" / MODEL_NAME)
    assert json.loads(absent.stdout) == {"model": MODEL_NAME, "installed": False, "path": folder, "bytes": None}
    assert (absent.returncode, in_words.returncode) == (1, 1)
    assert "neuromem model install" in in_words.stdout


def test_an_installed_model_is_not_installed_again() -> None:
    again = run("model", "install")
    assert again.returncode == 0
    assert "already installed" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["bogus"], 2, "bogus"),
        (["model"], 2, "command"),
        (["worker", "--scheme", "x"], 2, "--scheme"),
        (["model", "install", "--from", "/no/such/place"], 1, "/no/such/place"),
        (["worker", "--database-url", "mysql://anna:hunter2@db/app"], 1, "postgresql://"),
        (["worker", "--database-url", "postgresql://anna:hunter2@127.0.0.1:1/app"], 1, "cannot be reached"),
        (["worker", "--schema", ""], 2, "schema"),
    ],
)
def test_wrong_input_is_one_line_and_a_code(arguments: list[str], code: int, says: str) -> None:
    with short_tmp_dir() as home:
        # An installed model would hide a wrong --from, and a missing one the wrong address of a worker.
        done = run(*arguments, environment={"HOME": str(home)} if "--from" in arguments else {})
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("neuromem: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert "hunter2" not in done.stderr


@asynccontextmanager
async def working(database_url: str, schema: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "NEUROMEM_DATABASE_URL": database_url}
    process = await asyncio.create_subprocess_exec(
        NEUROMEM, "worker", "--schema", schema, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_does_what_programs_leave_to_it_and_stops_when_told(
    database_url: str, schema: str, number: signal.Signals
) -> None:
    async with neuromem.NeuroMemory(database_url, schema=schema, background=False) as nm:
        await nm.ingest("anna", "user", "My sister keeps bees.")
        assert (await nm.background_status()).waiting == 1
        async with working(database_url, schema) as process:
            assert process.stdout is not None
            first = await asyncio.wait_for(process.stdout.readline(), 30)
            assert first == f"working for schema {schema!r} of {database_url}; jobs waiting: 1, failed: 0\n".encode()
            await nm.wait_idle(timeout=30)
            process.send_signal(number)
            rest, log = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0
        assert rest == b"stopped\n"
        assert b"jobs worked off: 1" in log
        assert b"Traceback" not in log
        found = await nm.recall("anna", "insects", explain=True)
        assert found.merged[0].explanation is not None
        assert found.merged[0].explanation.vector_rank == 1
