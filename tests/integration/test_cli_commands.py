"""What the commands do, say and refuse, through the entry point and on a real database."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from neuromem import ExtractionPolicy, NeuroMemory
from neuromem.queries.extraction import EXTRACT
from support.command import Outcome, command
from support.embedded import short_tmp_dir
from support.openai_server import OpenAIServer

NEUROMEM = Path(sys.executable).with_name("neuromem")

type Run = Callable[..., Outcome]


@pytest.fixture
def run(database_url: str, user: str) -> Run:
    """Runs a command for a user of the test's own."""
    environment = {"NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_USER": user}

    def run(*arguments: str, code: int = 0, stdin: bytes = b"", **more: str) -> Outcome:
        done = command(*arguments, stdin=stdin, environment=environment | more)
        assert done.code == code, done
        return done

    return run


def moment() -> str:
    """Now, as a person would write it to --as-of."""
    time.sleep(0.01)
    return datetime.now(UTC).isoformat()


def remember(run: Run, *arguments: str) -> str:
    return run("add", *arguments, "--json").json["memories"][0]["memory_id"]


def test_a_memory_from_add_to_revert(run: Run) -> None:
    first = run("add", "Anna lives in Oslo", "--type", "fact", "--importance", "7", "--metadata", '{"topic": "home"}')
    assert first.out.startswith("remembered ")
    assert first.out.endswith("  Anna lives in Oslo\n")
    then = moment()
    listed = run("list", "--json").json["items"]
    assert [item["content"] for item in listed] == ["Anna lives in Oslo"]
    key, short = listed[0]["memory_id"], listed[0]["memory_id"][:8]

    assert "Anna lives in Porto" in run("update", short, "Anna lives in Porto").out
    shown = run("get", short).out
    assert "Anna lives in Porto" in shown
    assert '{"topic": "home"}' in shown
    assert "Anna lives in Oslo" in run("get", short, "--as-of", then).out
    versions = run("history", short).out.splitlines()
    assert versions[0] == f"memory {key}"
    assert [line.split()[0] for line in versions[1:]] == ["2", "1"]
    assert len(run("history", short, "--as-of", then, "--json").json["versions"]) == 1

    gone = run("delete", short).out
    assert f"neuromem revert {key} 2" in gone
    assert run("get", short, code=1).err.startswith("neuromem: memory ")
    assert run("list").out.startswith("no memories for ")
    assert "Anna lives in Oslo" in run("list", "--as-of", then).out
    assert "Anna lives in Oslo" in run("revert", short, "1").out
    assert run("get", key, "--json").json["content"] == "Anna lives in Oslo"
    exact = run("history", key, "--json").json["versions"][1]["version"]
    assert run("revert", key, str(exact), "--json").json["content"] == "Anna lives in Porto"
    assert "no version" not in run("revert", key, "99", code=1).out


def test_lines_of_stdin_become_memories_and_messages(run: Run) -> None:
    added = run("add", "-", "--json", stdin="likes tea\n\n喜欢茶\n".encode()).json["memories"]
    assert [memory["content"] for memory in added] == ["likes tea", "喜欢茶"]
    said = run("say", "-", "--speaker", "Anna", "--session", "s1", stdin=b"I moved.\r\nTo Porto.\n")
    assert said.out == "stored 2 messages in session s1\n"
    assert run("add", "-", stdin=b"").out == ""
    assert "UTF-8" in run("add", "-", stdin=b"\xff\xfe", code=2).err


def test_questions_are_answered_as_of_any_moment(run: Run) -> None:
    remember(run, "Anna's flight number is TP-1364", "--type", "fact")
    run("say", "I will fly to Lisbon on Friday.", "--speaker", "Anna")
    then = moment()
    remember(run, "Anna's flight number is TP-9999", "--type", "fact")

    now = run("recall", "flight number", "--json").json
    assert {hit["content"] for hit in now["merged"]} >= {"Anna's flight number is TP-9999"}
    assert now["as_of"] is None
    earlier = run("recall", "flight number", "--as-of", then)
    assert earlier.out.startswith("as of 2")
    assert "TP-9999" not in earlier.out
    assert "1  Anna's flight number is TP-1364" in earlier.out
    assert "Anna: I will fly" in earlier.out
    assert "Anna: I will fly" not in run("recall", "flight number", "--no-conversations").out
    assert "I will fly" in run("recall", "flight", "--where", '{"speaker": "Anna"}').out

    why = run("recall", "flight number", "--explain").out
    assert why.splitlines()[0].split() == ["#", "what", "score", "meaning", "words"]
    assert "#1" in why
    assert "━" in why
    assert run("recall", "flight", "--explain", "--json").json["merged"][0]["explanation"]["parts"]

    found = run("search", "flight", "--limit", "1", "--type", "fact", "--json").json["hits"]
    assert len(found) == 1
    assert "score" in run("search", "flight", "--as-of", then).out
    assert run("search", "flight", "--where", '{"memory_type": "none"}').out.startswith("no memory fits")
    assert run("recall", "flight", "--as-of", "2001-01-01").out.splitlines()[1].startswith("nothing is known")


def test_validity_is_a_question_of_its_own(run: Run) -> None:
    remember(run, "Anna works in Oslo", "--valid-from", "2020-01-01", "--valid-to", "2023-01-01")
    remember(run, "Anna works in Porto", "--valid-from", "2023-01-01")
    found = run("search", "where does Anna work", "--valid-at", "2021-06-01", "--json").json["hits"]
    assert [hit["memory"]["content"] for hit in found] == ["Anna works in Oslo"]
    assert "until 2023-01-01" in run("search", "where does Anna work").out or "until 2022-12-31" in run("list").out


def test_words_for_moments_are_understood_and_said(run: Run) -> None:
    remember(run, "Anna has a cat", "--known-at", "3 days ago")
    assert run("search", "cat", "--as-of", "2 days ago", "--json").json["hits"]
    assert run("search", "cat", "--as-of", "4 days ago", "--json").json["hits"] == []
    asked = run("list", "--as-of", "yesterday", "--json").json["as_of"]
    assert abs(datetime.fromisoformat(asked) - (datetime.now(UTC) - timedelta(days=1))) < timedelta(minutes=2)
    assert "(1 day ago)" in run("list", "--as-of", "昨天").out


def test_a_date_is_midnight_where_the_person_lives(run: Run) -> None:
    code = "from neuromem.cli.times import moment; print(moment('2025-03-01', '--as-of'), moment('2025-07-01', 'x'))"
    environment = {**os.environ, "TZ": "Europe/Oslo"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "2025-02-28 23:00:00+00:00 2025-06-30 22:00:00+00:00\n"


def test_conversations(run: Run) -> None:
    run("say", "The first thing.", "--session", "old", "--at", "2024-01-05")
    run("say", "Hello", "--role", "assistant")
    assert [line.split()[0] for line in run("sessions").out.splitlines()] == ["default", "old"]
    assert run("sessions", "--as-of", "2024-02-01", "--json").json["sessions"][0]["message_count"] == 1
    assert "assistant  Hello" in run("messages").out
    assert run("messages", "old", "--json").json["messages"][0]["content"] == "The first thing."
    assert "--after 1" in run("messages", "--limit", "1").out
    assert run("messages", "--after", "1").out.startswith("no messages in session default")


def test_key_values(run: Run) -> None:
    assert run("kv", "set", "city", "Oslo").out == 'city = "Oslo"\n'
    then = moment()
    run("kv", "set", "city", "Porto")
    run("kv", "set", "age", "41")
    assert run("kv", "set", "zip", "0123").out == 'zip = "0123"\n'
    assert run("kv", "set", "code", "42", "--text", "--json").json["value"] == "42"
    run("kv", "set", "pets", '{"cat": "Miso"}', "--namespace", "home")
    assert run("kv", "get", "city").out == "Porto\n"
    assert run("kv", "get", "age", "--json").json["value"] == 41
    assert run("kv", "get", "city", "--as-of", then).out.endswith("\nOslo\n")
    assert run("kv", "get", "pets", "-N", "home").out == '{"cat": "Miso"}\n'
    assert [line.split()[0] for line in run("kv", "list").out.splitlines()] == ["age", "city", "code", "zip"]
    assert len(run("kv", "list", "--prefix", "c", "--as-of", then, "--json").json["entries"]) == 1
    assert len(run("kv", "history", "city").out.splitlines()) == 2
    assert run("kv", "delete", "city").out == "forgotten city\n"
    assert "nothing under 'city'" in run("kv", "get", "city", code=1).err
    run("kv", "delete", "city", code=1)
    run("kv", "history", "nothing", code=1)


def test_what_changed_and_back_again(run: Run) -> None:
    remember(run, "Anna lives in Oslo")
    then = moment()
    key = remember(run, "Anna has a dog", "--origin", "import-7")
    run("kv", "set", "city", "Porto")
    shown = run("diff", "--from", then).out
    assert "2 learned, 0 changed, 0 forgotten" in shown
    assert "Anna has a dog" in shown
    assert len(run("diff", "--from", then, "--json").json["learned"]) == 2
    assert "… and 1 more" in run("diff", "--from", then, "--limit", "1").out
    assert "0 learned" in run("diff", "--from", then, "--as-of", then).out

    assert "1 memory no longer known" in run("undo", "--origin", "import-7", "--dry-run").out
    assert run("get", key).code == 0
    undone = run("undo", "--origin", "import-7", "--yes").out
    assert "take it back: neuromem undo --origin undo-" in undone
    run("get", key, code=1)
    again = undone.split("neuromem ")[1].split()
    run(*again, "--yes")
    assert run("get", key).code == 0

    planned = run("rollback", "--to", then, "--dry-run", "--json").json
    assert planned == {"done": False, "restored": {}, "ended": {"memory": 1, "kv": 1}}
    back = run("rollback", "--to", then, "--yes", "--json").json
    assert (back["done"], back["ended"]) == (True, {"memory": 1, "kv": 1})
    assert run("kv", "list").out.startswith("nothing in namespace")
    run("undo", "--origin", back["origin"], "--yes")
    assert run("kv", "get", "city").out == "Porto\n"
    assert "nothing to take back" in run("undo", "--since", moment(), "--yes").out
    assert "no terminal" in run("rollback", "--to", then, code=2).err


def test_what_takes_back_asks_on_a_terminal(database_url: str, user: str) -> None:
    environment = {**os.environ, "NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_USER": user}
    subprocess.run([NEUROMEM, "kv", "set", "city", "Porto"], env=environment, check=True, capture_output=True)
    for answer, code, left in ((b"n\n", 1, "Porto"), (b"y\n", 0, "")):
        leader, follower = os.openpty()
        with subprocess.Popen(
            [NEUROMEM, "undo", "--origin", "cli"],
            env=environment,
            stdin=follower,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            os.write(leader, answer)
            out, err = process.communicate(timeout=60)
        os.close(leader)
        os.close(follower)
        assert process.returncode == code, err
        assert b"1 key-value no longer known" in out
        assert b"go ahead?" in err
        shown = command("kv", "get", "city", environment=environment)
        assert shown.out.strip() == left


def test_time_in_questions_and_a_timeline(run: Run) -> None:
    run("add", "trip to Oslo", "--valid-from", "2023-05-09T12:00Z", "--type", "episodic")
    run("add", "trip to Rome", "--valid-from", "2024-08-01T00:30Z", "--type", "episodic")
    run("add", "likes trips", "--valid-from", "2024-07-31T12:00Z", "--type", "fact")
    found = run("recall", "trip in May 2023", "--explain", "--timezone", "Europe/Lisbon").out
    assert "of the time asked about: May 2023" in found
    assert (
        run("search", "trip in May 2023", "--json", NEUROMEM_TIMEZONE="Asia/Tokyo").json["hits"][0]["memory"]["content"]
        == "trip to Oslo"
    )
    shown = run("timeline", "--timezone", "UTC").out.splitlines()
    assert [line.split()[0] for line in shown] == ["2023-05", "…", "2024-07", "2024-08"]
    assert shown[0].endswith("1  1 episodic")
    shown = run("timeline", "--by", "day", "--timezone", "America/New_York", "--from", "2024-01-01").out
    assert shown.split()[0] == "2024-07-31"
    assert shown.rstrip().endswith("2  1 episodic, 1 fact")
    told = run("timeline", "--by", "year", "--to", "2024-01-01", "--json").json
    assert [(period["start"][:4], period["count"]) for period in told["periods"]] in ([("2023", 1)], [("2022", 1)])
    assert run("timeline", "--as-of", "2020-01-01").out.splitlines()[1].startswith("no memory is of that time for ")
    assert "Mars" in run("timeline", "--timezone", "Mars", code=2).err
    assert "Mars" in run("recall", "x", NEUROMEM_TIMEZONE="Mars", code=2).err


def test_stats(run: Run, user: str) -> None:
    remember(run, "Anna lives in Oslo", "--type", "fact")
    then = moment()
    run("say", "Hello")
    found = run("stats", "--json").json
    assert found["memories"] == {"fact": 1}
    assert (found["messages"], found["sessions"], found["key_values"]) == (1, 1, 0)
    assert found["background"]["waiting"] == 0
    assert run("stats", "--as-of", then, "--json").json["messages"] == 0
    shown = run("stats").out
    assert user in shown
    assert "1 (1 fact)" in shown
    assert "0 waiting, 0 failed" in shown


def checks_of(done: Outcome) -> dict[str, str]:
    return {check["name"]: check["state"] for check in done.json["checks"]}


def test_the_doctor_finds_all_well(run: Run, schema: str) -> None:
    run("stats", "--schema", schema)
    found = checks_of(run("doctor", "--schema", schema, "--json"))
    assert set(found.values()) == {"ok"}
    assert {"model", "PostgreSQL", "round trip", "pgvector", "schema", "vectors", "background"} <= set(found)
    assert {"language model", "extraction", "graph"} <= set(found)
    shown = run("doctor", "--schema", schema).out
    assert "0 failed, 0 warnings" in shown
    assert "warn  schema" in run("doctor", "--schema", f"{schema}_absent").out


def test_the_doctor_finds_what_is_wrong(run: Run, schema: str) -> None:
    run("stats", "--schema", schema)
    with OpenAIServer() as server:
        other = {"OPENAI_API_KEY": server.key, "OPENAI_BASE_URL": server.base_url, "NEUROMEM_SCHEMA": schema}
        mismatch = run("doctor", "--embedding", "openai:x@8", "--json", code=1, **other)
    assert checks_of(mismatch)["vectors"] == "fail"
    assert "neuromem reembed --embedding openai:x@8" in mismatch.out
    assert checks_of(run("doctor", "--embedding", "openai:x@8", "--json", code=1, OPENAI_API_KEY=""))["model"] == "fail"
    down = run("doctor", "--database-url", "postgresql://anna:hunter2@127.0.0.1:1/x", code=1)
    assert "cannot be reached" in down.out
    assert "hunter2" not in down.out
    with short_tmp_dir() as home:
        bare = run("doctor", "--json", code=1, NEUROMEM_DATABASE_URL="", HOME=str(home))
        assert {"model": "fail", "data folder": "warn"}.items() <= checks_of(bare).items()
        assert list(home.iterdir()) == []  # it changes nothing


async def test_the_doctor_sees_extraction_and_the_graph(run: Run, schema: str, database_url: str) -> None:
    def doctor(**environment: str) -> Awaitable[str]:
        return asyncio.to_thread(lambda: run("doctor", **environment).out)  # it has a loop of its own

    off = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "NEUROMEM_SCHEMA": schema}
    await asyncio.to_thread(lambda: run("graph", "relate", "Anna", "lives in", "Porto", **off))
    shown = await doctor(**off)
    assert "none: messages are stored and searched as they are" in shown
    assert "2 things, 1 relation" in shown
    assert "0 conversations waiting" in shown
    async with NeuroMemory(database_url, schema=schema, background=False, extraction=ExtractionPolicy()) as nm:
        await nm.ingest("anna", "user", "I moved.")
        async with nm._db.session() as session:  # as if it had waited since yesterday, and another had failed
            jobs = session.tables.jobs
            mine = update(jobs).where(jobs.c.kind == EXTRACT)
            await session.execute(mine.values(run_after=jobs.c.run_after - timedelta(days=1)))
        on = off | {"OPENAI_BASE_URL": "http://localhost:11434/v1", "NEUROMEM_LLM": "qwen3:8b"}
        shown = await doctor(**on)
        assert "qwen3:8b at http://localhost:11434/v1" in shown
        assert "1 conversation waiting, 1 for long" in shown
        assert "neuromem worker --llm-model" in shown
        async with nm._db.session() as session:
            await session.execute(mine.values(failed_at=jobs.c.created_at, last_error="ProviderError: prose"))
    assert "1: ProviderError: prose" in await doctor(**off)
    assert "neuromem extract retry --everyone" in await doctor(**off)


def test_the_doctor_of_an_embedded_server() -> None:
    with short_tmp_dir() as home:
        folder = f"embedded://{home}/pg"
        stored = command("kv", "set", "a", "1", "--database-url", folder)
        assert stored.code == 0, stored
        assert checks_of(command("doctor", "--json", "--database-url", folder))["schema"] == "ok"


def test_the_model_can_be_changed(run: Run, schema: str) -> None:
    remember(run, "Anna lives in Oslo", "--schema", schema)
    run("say", "I moved.", "--schema", schema)
    same = run("reembed", "--schema", schema)
    assert "already" in same.out
    with OpenAIServer(dims=8) as server:
        other = {
            "OPENAI_API_KEY": server.key,
            "OPENAI_BASE_URL": server.base_url,
            "NEUROMEM_SCHEMA": schema,
            "NEUROMEM_EMBEDDING": "openai:tiny@8",
        }
        refused = run("search", "Oslo", code=1, **other)
        assert "neuromem reembed" in refused.err
        done = run("reembed", "--json", **other).json
        assert (done["model_before"], done["model"], done["dims"]) == ("all-MiniLM-L6-v2", "tiny", 8)
        assert (done["memories"], done["messages"]) == (1, 1)
        assert run("search", "Oslo", "--json", **other).json["hits"]
        assert "stays with tiny" in run("reembed", "--abandon", **other).out
    assert "tiny" in run("search", "Oslo", "--schema", schema, code=1).err


def test_completion_prints_a_script() -> None:
    done = subprocess.run(
        [NEUROMEM, "--show-completion", "bash"],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "complete" in done.stdout
    assert "neuromem" in done.stdout


LONG = "x" * 1_000_001
WRONG: list[tuple[list[str], int, str]] = [
    (["recall"], 2, "query"),
    (["recall", "x", "--limit", "0"], 2, "limit=0"),
    (["recall", "x", "--limit", "-3"], 2, "limit=-3"),
    (["recall", "x", "--limit", "five"], 2, "--limit"),
    (["recall", " "], 2, "query"),
    (["recall", "a\udcffb"], 2, "query"),
    (["recall", "x", "--as-of", "2025-02-31"], 2, "--as-of '2025-02-31'"),
    (["recall", "x", "--as-of", "the day after never"], 2, "--as-of"),
    (["recall", "x", "--as-of", ""], 2, "--as-of"),
    (["recall", "x", "--as-of", "99999-01-01"], 2, "--as-of"),
    (["recall", "x", "--as-of", "01/02/2025 or so"], 2, "--as-of"),
    (["recall", "x", "--valid-at", "soonish"], 2, "--valid-at"),
    (["recall", "x", "--where", "{"], 2, "--where"),
    (["recall", "x", "--where", "[1]"], 2, "--where"),
    (["recall", "x", "--where", '{"metadata.a": {"like": 1}}'], 2, "like"),
    (["recall", "x", "--where", '{"colour": 1}'], 2, "colour"),
    (["recall", "x", "--where", "[" * 100_000], 2, "--where"),
    (["recall", "x", "--user", ""], 2, "user_id"),
    (["search", "x", "--type", ""], 2, "memory_types"),
    (["add", ""], 2, "content"),
    (["add", LONG], 2, "1,000,000"),
    (["add", "x", "--importance", "11"], 2, "importance"),
    (["add", "x", "--metadata", "[]"], 2, "--metadata"),
    (["add", "x", "--metadata", '{"a": NaN}'], 2, "metadata"),
    (["add", "x", "--metadata", '{"a": "\\u0000"}'], 2, "NUL"),
    (["add", "x", "--valid-from", "2025-01-02", "--valid-to", "2025-01-01"], 2, "valid_to"),
    (["add", "x", "--known-at", "2999-01-01"], 2, "known_at"),
    (["list", "--cursor", "nonsense"], 2, "cursor"),
    (["get", "abc"], 2, "four"),
    (["get", "xyzw"], 2, "no id"),
    (["get", "00000000"], 1, "no memory"),
    (["get", "00000000-0000-0000-0000-000000000000"], 1, "no memory"),
    (["history", "0000"], 1, "no memory"),
    (["update", "0000", "text"], 1, "no memory"),
    (["update", "0000"], 2, "nothing to update"),
    (["delete", "0000"], 1, "no memory"),
    (["revert", "0000", "1"], 1, "no memory"),
    (["revert", "0000"], 2, "version"),
    (["revert", "0000", "first"], 2, "version"),
    (["say", "x", "--role", ""], 2, "role"),
    (["messages", "--after", "-1"], 2, "after"),
    (["diff"], 2, "--from"),
    (["diff", "--from", "now", "--to", "yesterday"], 2, "before"),
    (["diff", "--from", "yesterday", "--limit", "0"], 2, "--limit"),
    (["rollback"], 2, "--to"),
    (["rollback", "--to", "2999-01-01"], 2, "future"),
    (["rollback", "--to", "yesterday"], 2, "--yes"),
    (["undo"], 2, "--origin"),
    (["undo", "--origin", ""], 2, "--origin"),
    (["kv", "get", ""], 2, "key"),
    (["kv", "set", "a"], 2, "value"),
    (["kv", "set", "a", '"\\u0000"'], 2, "NUL"),
    (["kv"], 2, "command"),
    (["stats", "--embedding", "gpt"], 2, "gpt"),
    (["stats", "--embedding", "local:x"], 2, "local:x"),
    (["stats", "--embedding", "openai:unheard-of"], 1, "OPENAI_API_KEY"),
    (["stats", "--embedding", "sentence-transformers:x"], 1, "sentence-transformers"),
    (["stats", "--schema", "pg_x"], 2, "pg_x"),
    (["reembed", "--schema", "nobody_has_this"], 1, "no schema"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), WRONG, ids=lambda value: str(value)[:60])
def test_what_is_asked_wrongly_gets_one_line(run: Run, arguments: list[str], code: int, says: str) -> None:
    done = run(*arguments, code=code, OPENAI_API_KEY="")
    assert done.out == ""
    assert done.err.startswith("neuromem: ")
    assert done.err.count("\n") == 1
    assert says in done.err


def test_the_number_of_dimensions_must_be_known(run: Run) -> None:
    unknown = run("stats", "--embedding", "openai:unheard-of", code=2, OPENAI_API_KEY="k")
    assert "@768" in unknown.err
    assert "dimensions" in run("stats", "--embedding", "openai:x@0", code=2, OPENAI_API_KEY="k").err


def test_a_missing_model_says_how_to_get_it(run: Run) -> None:
    with short_tmp_dir() as home:
        done = run("recall", "x", code=1, HOME=str(home))
    assert "neuromem model install" in done.err


def test_the_unexpected_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> Any:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("neuromem.cli.asking.read_filter", broken)
    done = run("recall", "x", code=1)
    assert done.err == "neuromem: unexpected ZeroDivisionError: surprise (NEUROMEM_DEBUG=1 shows where)\n"
    assert "Traceback" in run("recall", "x", code=1, NEUROMEM_DEBUG="1").err
    assert "Traceback" in run("--debug", "recall", "x", code=1, NEUROMEM_DEBUG="").err


def test_a_reader_who_has_seen_enough(run: Run, database_url: str, user: str) -> None:
    run("add", "-", stdin="\n".join(f"memory number {n} {'x' * 2000}" for n in range(100)).encode())
    environment = {**os.environ, "NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_USER": user}
    for options in ("--json", ""):
        done = subprocess.run(
            f"'{NEUROMEM}' list --limit 100 {options} | head -c 10",
            shell=True,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert len(done.stdout) == 10
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr


async def test_ctrl_c_is_one_line_and_130(database_url: str, user: str) -> None:
    environment = {**os.environ, "NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_USER": user}
    process = await asyncio.create_subprocess_exec(
        NEUROMEM, "add", "-", env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    await asyncio.sleep(1.5)
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.wait(), 30)  # with its input still open, as a terminal's is
    out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"neuromem: interrupted\n")


def test_ctrl_c_before_the_input_is_read_counts() -> None:
    program = """
import asyncio, os, signal
from neuromem.cli.shared import read_texts
async def main():
    os.kill(os.getpid(), signal.SIGINT)
    read_texts("-")
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.wait(20)  # with its input still open
            assert process.stdout.read() == "interrupted\n"
        finally:
            process.kill()


def test_text_cannot_steer_the_terminal(run: Run) -> None:
    key = remember(run, "red \x1b[31malert\x07 [bold]not bold[/bold]")
    for arguments in (["list"], ["get", key], ["recall", "alert"], ["history", key]):
        shown = run(*arguments).out
        assert "\x1b" not in shown
        assert "\x07" not in shown
        assert "[bold]not bold[/bold]" in shown
    assert json.loads(run("list", "--json").out)["items"][0]["content"].startswith("red \x1b")


def test_colour_is_for_terminals_that_want_it(run: Run) -> None:
    terminal = {"FORCE_COLOR": "1", "COLUMNS": "60"}
    remember(run, "Anna likes a very long walk along the river, every morning before the bakery opens its doors")
    coloured = run("list", **terminal).out
    assert "\x1b[" in coloured
    assert "\x1b[3" not in run("list", **terminal, NO_COLOR="1").out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", run("list", **terminal, NO_COLOR="1").out)
    assert max(map(len, plain.splitlines())) <= 60
    assert "\x1b[" not in run("list").out
    assert len(run("list").out.splitlines()) == 1


def test_help_is_quick() -> None:
    """Without SQLAlchemy and NumPy: they would take longer than all the rest."""
    code = "import sys, neuromem.cli; print(*({'sqlalchemy', 'numpy', 'asyncpg', 'dateparser'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
