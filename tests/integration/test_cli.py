"""The real command, in processes of its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

import neuromem
from memground.embedding.install import MODEL_NAME
from support.embedded import short_tmp_dir
from support.openai_server import OpenAIServer
from support.scripted_model import answer, turns_of

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
async def working(
    database_url: str, schema: str, *options: str, **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "NEUROMEM_DATABASE_URL": database_url, **more}
    arguments = ("worker", "--schema", schema, *options)
    process = await asyncio.create_subprocess_exec(
        NEUROMEM, *arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
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


async def test_a_worker_extracts_what_programs_without_a_model_leave_to_it(database_url: str, schema: str) -> None:
    """The program that is talked to knows no key; it says when, the worker has the language model."""
    policy = neuromem.ExtractionPolicy.per_message()
    with OpenAIServer(chat=answer) as models:
        options = ("--llm-model", "m", "--llm-base-url", models.base_url, "--timezone", "Asia/Tokyo")
        async with neuromem.NeuroMemory(database_url, schema=schema, background=False, extraction=policy) as nm:
            new_year = datetime(2025, 12, 31, 20, tzinfo=UTC)
            await nm.ingest("anna", "user", "fact: Anna keeps bees. Anna -lives_in-> Porto", timestamp=new_year)
            async with working(database_url, schema, *options, OPENAI_API_KEY=models.key) as process:
                assert process.stdout is not None
                first = await asyncio.wait_for(process.stdout.readline(), 30)
                assert b" with m; jobs waiting: 2, failed: 0" in first
                async with asyncio.timeout(30):
                    while (await nm.extraction_status("anna")).pending:
                        await asyncio.sleep(0.05)
                process.send_signal(signal.SIGTERM)
                rest, log = await asyncio.wait_for(process.communicate(), 30)
            assert (process.returncode, rest) == (0, b"stopped\n")
            assert b"extracted 1 turns" in log
            assert [memory.content for memory in (await nm.list_memories("anna")).items] == ["Anna keeps bees"]
            assert [fact.content for fact in await nm.graph.find_entity_facts("anna", "Anna")] == [
                "Anna lives in Porto"
            ]
        assert [call.body["model"] for call in models.calls] == ["m"]
        assert turns_of(models.calls[0].body)[0]["time"] == "2026-01-01 05:00 Thursday"


def test_a_worker_s_model_needs_a_key_or_an_address(database_url: str) -> None:
    none = {"NEUROMEM_DATABASE_URL": database_url, "OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}
    done = run("worker", "--llm-model", "m", environment=none)
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert "--llm-base-url" in done.stderr
