"""The command `omnimem`: what people and scripts see of it."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from omnimem import OmniMemClient, Settings
from omnimem.cli import main
from support.command import Outcome, command
from support.embeddings import HashEmbedding

type Run = Callable[..., Outcome]


@pytest.fixture
def run(records_url: str, schema: str) -> Run:
    environment = {"OMNIMEM_DATABASE_URL": records_url, "OMNIMEM_SCHEMA": schema}

    def run(*arguments: str, stdin: bytes = b"") -> Outcome:
        return command(*arguments, stdin=stdin, environment=environment, program=("omnimem", main))

    return run


def done(outcome: Outcome) -> Any:
    assert outcome.code == 0, outcome.err
    return outcome.json if outcome.out.startswith(("{", "[")) else outcome.out


def test_a_memory_lives_on_the_command_line(run: Run) -> None:
    scope = ("--tenant", "acme", "--namespace", "project=p1")
    memory = done(
        run(
            "create", "the ferry leaves at nine", "--data", '{"n": 3, "summary": "sea travel"}', "--metadata",
            '{"k": "v"}', "--type", "fact", "--vector-field", "data.summary", "--fulltext-field", "data.summary",
            *scope, "--json",
        )
    )  # fmt: skip
    key, first = memory["memory_id"], memory["record_id"]
    assert memory["scope"] == {"tenant_id": "acme", "namespace": {"project": "p1"}}
    assert done(run("get", key, *scope)) == memory
    assert "now mem_" in done(run("update", key, "the ferry leaves at ten", "--expected-version",
                                  str(memory["version"])))  # fmt: skip
    stale = run("update", key, "x", "--expected-version", str(memory["version"]))
    assert (stale.code, stale.err.count("\n")) == (1, 1)
    history = done(run("history", key))
    assert history.count("rec_") == 2
    assert history.splitlines()[0].endswith("the ferry leaves at ten  (latest)")
    assert done(run("at", key, memory["created_time"]))["record_id"] == first
    found = done(run("search", "ferry", "--explain", "--filter", '{"metadata.k": "v"}', *scope))
    assert "the ferry leaves at ten" in found
    assert "semantic: rank 1 by text" in found
    then = done(run("search", "nine ferry", "--as-of", memory["created_time"], "--json"))
    assert then["hits"][0]["memory"]["record_id"] == first
    assert done(run("revert", key, first, "--json"))["content"] == memory["content"]
    assert done(run("count", *scope)) == "1\n"
    assert done(run("count", "--tenant", "other", "--json")) == {"count": 0}
    listed = done(run("list", "--limit", "1"))
    assert listed.startswith(key)
    assert run("get", key, "--tenant", "other").code == 1
    assert run("delete", key, "--json").code == 2
    assert done(run("delete", key, "--yes")) == "removed, 3 records\n"
    assert run("get", key).code == 1


def test_pages_go_on_by_cursor(run: Run) -> None:
    for n in range(3):
        done(run("create", f"memory {n}"))
    page = done(run("list", "--limit", "2", "--json"))
    rest = done(run("list", "--limit", "2", "--cursor", page["cursor"], "--json"))
    assert [m["content"]["text"] for m in page["items"] + rest["items"]] == ["memory 2", "memory 1", "memory 0"]
    assert "more: --cursor" in done(run("list", "--limit", "2"))


def test_memories_move_as_json_lines(run: Run, records_url: str, schema: str, tmp_path: Path) -> None:
    memory = done(run("create", "moved", "--json"))
    done(run("update", memory["memory_id"], "moved again"))
    file = tmp_path / "memories.ndjson"
    assert done(run("export", str(file))) == "2 records written\n"
    lines = done_lines(run("export"))
    assert lines == [json.loads(line) for line in file.read_text().splitlines()]
    elsewhere = ("--schema", f"{schema}_2")
    assert done(run("import", str(file), *elsewhere)) == "2 records stored\n"
    assert done_lines(run("export", *elsewhere)) == lines
    again = run("import", str(file), *elsewhere)
    assert again.code == 1
    assert "id is taken" in again.err
    assert done(run("import", "-", "--skip-existing", *elsewhere, stdin=file.read_bytes())) == "0 records stored\n"
    broken = run("import", "-", stdin=b'{"memory_id": 1}\n')
    assert broken.code == 2
    assert "record 1" in broken.err
    assert run("import", str(tmp_path / "none")).code == 2


def done_lines(outcome: Outcome) -> list[Any]:
    assert outcome.code == 0, outcome.err
    return [json.loads(line) for line in outcome.out.splitlines()]


def test_asynchronous_changes_wait_for_a_worker(run: Run) -> None:
    done(run("create", "found later", "--sync", "async"))
    assert done(run("search", "found", "--mode", "keyword")) == "nothing found\n"
    differing = run("verify")
    assert differing.code == 1
    assert "has no words of the record" in differing.out
    assert "1 changes still waiting" in differing.out
    assert done(run("worker", "--once", "--json")) == {"applied": 1}
    assert "0 differences" in done(run("verify"))
    assert "0 memories indexed anew" in done(run("repair"))
    assert "found later" in done(run("search", "found", "--mode", "keyword"))


async def given_up(url: str, schema: str, error: str) -> None:
    """Makes what waits fail for good, as a worker does after the last try."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"update {schema}.jobs set failed_at = now(), attempts = 6, last_error = $1", error)
    finally:
        await connection.close()


def test_a_keyword_index_in_postgresql_is_not_made_anew_beside(run: Run) -> None:
    refused = run("reindex")
    assert refused.code != 0
    assert refused.err.count("\n") == 1
    assert "omnimem repair" in refused.err
    assert done(run("reindex", "--abandon")) == "there was nothing to give up\n"
    assert done(run("reindex", "--abandon", "--json")) == {"abandoned": False}


def test_dead_letters_are_listed_and_replayed(run: Run, records_url: str, schema: str) -> None:
    assert done(run("dead-letters")) == "0 changes failed for good\n"
    memory = done(run("create", "found later", "--sync", "async", "--json"))
    asyncio.run(given_up(records_url, schema, "ProviderError: no\nluck"))
    shown = done(run("dead-letters"))
    assert f"{memory['memory_id']}  record {memory['record_id']}, tried 6 times, last 20" in shown
    assert "ProviderError: no luck\n1 changes failed for good; --replay tries them again\n" in shown
    listed = done(run("dead-letters", "--json"))
    assert listed["failed"] == 1
    assert listed["items"][0] | {"time": None} == {
        "kind": "put", "memory_id": memory["memory_id"], "record_id": memory["record_id"],
        "attempts": 6, "time": None, "error": "ProviderError: no\nluck",
    }  # fmt: skip
    ill = run("doctor", "--json")
    changes = next(check for check in ill.json["checks"] if check["check"] == "changes")
    assert (ill.code, changes["ok"], changes["waiting"], changes["failed"]) == (1, False, 0, 1)
    assert done(run("dead-letters", "--replay", "--json")) == {"replayed": 1}
    assert done(run("dead-letters", "--json")) == {"failed": 0, "items": []}
    waiting = done(run("doctor"))
    assert re.search(r"changes: 1 waiting since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, 0 failed", waiting)
    assert done(run("worker", "--once", "--json")) == {"applied": 1}
    assert run("dead-letters", "--limit", "0").code == 2


def test_the_doctor_says_what_is_there_and_what_is_missing(run: Run) -> None:
    healthy = done(run("doctor", "--json"))
    assert healthy["ok"]
    assert {check["check"] for check in healthy["checks"]} >= {"PostgreSQL", "pgvector", "memories", "changes"}
    ill = run("doctor", "--database-url", "postgresql://127.0.0.1:1/none")
    assert ill.code == 1
    assert "PROBLEM  connection" in ill.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create"], "content is empty"),
        (["create", "x", "--data", "["], "--data"),
        (["search", "x", "--mode", "fuzzy"], "hybrid, semantic, keyword"),
        (["search", "x", "--filter", '{"data.x": {"like": 1}}'], "unknown operator"),
        (["search", "x", "--as-of", "soon"], "--as-of"),
        (["list", "--namespace", "p1"], "KEY=VALUE"),
        (["count", "--embedding", "magic"], "names no model"),
        (["count", "--sync", "never"], "inline, async"),
        (["nonsense"], "No such command"),
    ],
)
def test_mistakes_are_one_clear_line(run: Run, arguments: list[str], said: str) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.startswith("omnimem: ")
    assert outcome.err.count("\n") == 1


def test_another_model_by_command(run: Run, records_url: str, schema: str) -> None:
    async def fill() -> None:
        settings = Settings(records_url, schema=schema)
        async with OmniMemClient.connect(settings, embedding=HashEmbedding(8)) as client:
            await client.create_many(["the ferry leaves at nine", "bees make honey"])

    asyncio.run(fill())
    refused = run("search", "boat")
    assert refused.code == 1
    assert "holds vectors of hash-8 (8 dimensions), but all-MiniLM-L6-v2" in refused.err
    assert "omnimem reembed" in refused.err
    given_up = done(run("reembed", "--abandon", "--json"))
    assert (given_up["abandoned"], given_up["model"]) == (True, "hash-8")
    changed = done(run("reembed", "--json"))
    assert (changed["model_before"], changed["memories"], changed["dims"]) == ("hash-8", 2, 384)
    assert "has vectors of all-MiniLM-L6-v2 (384 dimensions) already" in done(run("reembed"))
    assert "ferry" in done(run("search", "boat", "--mode", "semantic")).splitlines()[0]
    assert run("verify").code == 0


def test_very_many_are_imported_in_bulk_and_stay_in_the_scope(run: Run, tmp_path: Path, schema: str) -> None:
    for n in range(3):
        done(run("create", f"ferry {n}", "--tenant", "acme"))
    file, elsewhere = tmp_path / "memories.ndjson", ("--schema", f"{schema}_2")
    done(run("export", str(file)))
    outside = run("import", str(file), "--bulk", "--tenant", "other", *elsewhere)
    assert (outside.code, done(run("count", *elsewhere))) == (2, "0\n")
    assert done(run("import", str(file), "--bulk", "--tenant", "acme", "--sync", "async", *elsewhere)) == (
        "3 records stored\n"
    )
    assert done(run("search", "ferry", "--mode", "keyword", *elsewhere)).count("ferry") == 3
    assert "0 differences" in done(run("verify", *elsewhere))
    again = run("import", str(file), "--bulk", "--skip-existing", "--json", *elsewhere)
    assert done(again) == {"records": 0}
