"""`neuromem import`: once whatever happens, as of then, taken back and brought back."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import OpenMind
from memground.postgres.embedded import EmbeddedPostgres
from neuromem import InvalidInputError, NeuroMemory, NewMemory
from neuromem.importers import Export, Report, load
from support.embeddings import HashEmbedding
from support.importing import Bench, kill_round, write_talk
from support.killing import State
from support.openai_server import OpenAIServer, slow
from support.sound import check_sound

TURNS = 1_000


@pytest.fixture(scope="module")
async def bench(server: EmbeddedPostgres) -> AsyncIterator[Bench]:
    await server.ensure_database("imports")
    with OpenAIServer(dims=8) as embeddings:
        bench = Bench(server.url("imports"), "imports", embeddings)
        async with bench.mind():  # so that the schema is there
            yield bench


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_talk(tmp_path_factory.mktemp("talk") / "talk.jsonl", TURNS)


@pytest.fixture(scope="module")
async def expected(bench: Bench, talk: Path) -> State:
    code, out, complaint = await bench.run("import", talk, "--user", "undisturbed", "--json")
    assert code == 0, complaint
    report = json.loads(out)
    assert (report["messages"], report["there"], report["conversations"]) == (TURNS, 0, 40)
    assert (report["embedded"], report["waiting"]) == (TURNS, 0)
    return await bench.state("undisturbed")


async def imported(mind: NeuroMemory, user: str, *paths: Path, **options: Any) -> Report:
    export = Export(paths)
    return await load(mind, user, export.items(only=options.pop("only", None)), origin=export.origin, **options)


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


# ---------------------------------------------------------------- once


def test_an_undisturbed_import_is_whole(expected: State) -> None:
    assert "nothing waits" in expected
    rows = [turn for turns in expected.values() for turn in turns]
    assert len(rows) == TURNS
    assert {len(turn[-1]) for turn in rows} == {1}
    for turns in expected.values():
        assert [turn[0] for turn in turns] == list(range(1, len(turns) + 1))
        assert [turn[5] for turn in turns] == sorted(turn[5] for turn in turns)


@pytest.mark.parametrize("seed", range(4))
async def test_killed_and_started_again_is_as_if_nothing_had_happened(
    bench: Bench, talk: Path, expected: State, seed: int
) -> None:
    assert await kill_round(bench, talk, TURNS, seed, expected) == []


async def test_ctrl_c_says_that_the_same_command_continues(bench: Bench, talk: Path, expected: State) -> None:
    bench.embeddings.fail_next(*[slow(60)] * 100)  # so that the import is not over before the signal
    process = await bench.start("import", talk, "--user", "interrupted")
    async with bench.mind() as mind:
        while not await mind.conversations.list_sessions("interrupted"):
            assert process.returncode is None
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        bench.embeddings.reset()
    assert process.returncode == 130
    assert out == b""
    assert err == b"neuromem: interrupted; what was stored stays, the same command continues\n"
    code, _, _ = await bench.run("import", talk, "--user", "interrupted")
    assert code == 0
    assert await bench.state("interrupted") == expected


async def test_two_at_the_same_time(bench: Bench, talk: Path, expected: State) -> None:
    both = await asyncio.gather(*(bench.run("import", talk, "--user", "twins", "--json") for _ in range(2)))
    assert [code for code, _, _ in both] == [0, 0], both
    assert await bench.state("twins") == expected


async def test_again_adds_nothing_and_more_lines_add_only_themselves(
    bench: Bench, talk: Path, expected: State, tmp_path: Path
) -> None:
    code, out, _ = await bench.run("import", talk, "--user", "undisturbed", "--json")
    report = json.loads(out)
    assert (code, report["messages"], report["there"], report["waiting"]) == (0, 0, TURNS, 0)
    assert await bench.state("undisturbed") == expected
    longer = tmp_path / "talk.jsonl"
    longer.write_text(talk.read_text() + '{"role": "user", "content": "one more", "session": "s1"}\n')
    _, out, _ = await bench.run("import", longer, "--user", "undisturbed", "--json", "--session-prefix", "")
    report = json.loads(out)
    assert (report["messages"], report["there"]) == (1, TURNS)


# ---------------------------------------------------------------- what it says


async def test_what_a_person_reads(bench: Bench, tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", [{"role": "user", "content": "I moved to Porto", "time": 17e8}, {"content": ""}])
    code, out, err = await bench.run("import", file, "--user", "reader", "--dry-run")
    assert (code, err) == (0, "")
    assert out.startswith("Found 1 message in 1 conversation for reader\n")
    code, out, err = await bench.run("import", file, "--user", "reader", "--no-wait")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Imported 1 new message in 1 conversation for reader"
    assert any(" ".join(line.split()) == "left out 1 × empty (first: a.json: message 2)" for line in lines)
    assert any("neuromem worker makes them" in line for line in lines)
    undo = next(line for line in lines if "take back" in line)
    command = undo.partition("neuromem ")[2].split()
    code, out, err = await bench.run(*command, "--yes")
    assert code == 0, err
    async with bench.mind() as mind:
        assert await mind.conversations.get_session_messages("reader", "a") == []


async def test_standard_input(bench: Bench) -> None:
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("neuromem"),
        *("import", "-", "--user", "piped", "--json"),
        env=bench.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(b'{"role": "user", "content": "hello"}\n' * 3)
    assert json.loads(out)["messages"] == 3


@pytest.mark.parametrize(
    ("content", "options", "code", "says"),
    [
        ("", [], 2, "is empty"),
        ("<html>", [], 2, "is no JSON"),
        ('{"content": "x"}', ["--format", "xml"], 2, "accepted: jsonl"),
        ('[{"content": "x"}', [], 1, "ends too early"),
        ('[{"memory": "x", "user_id": "a"}, {"memory": "y", "user_id": "b"}]', [], 2, "choose one with --only"),
        ('{"content": "x"}', ["--user", ""], 2, "user_id"),
    ],
)
async def test_a_wrong_file_is_one_line_and_a_code(
    bench: Bench, tmp_path: Path, content: str, options: list[str], code: int, says: str
) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)
    done, _, err = await bench.run("import", file, "--user", "wrong", "--json", *options)
    assert done == code
    assert err.startswith("neuromem: ")
    assert err.count("\n") == 1
    assert says in err


# ---------------------------------------------------------------- time


async def test_an_imported_year_can_be_travelled(open_mind: OpenMind, user: str, talk: Path) -> None:
    mind = await open_mind(embedding=HashEmbedding(8), background=False)
    await imported(mind, user, talk)
    middle = datetime(2023, 1, 1, 12, tzinfo=UTC)
    then = mind.as_of(middle)
    sessions = await then.conversations.list_sessions(user)
    assert sum(session.message_count for session in sessions) == 12 * 60 + 1
    found = await mind.recall(user, "turn900", as_of=middle)
    assert all(hit.at <= middle for hit in found.merged)
    assert (await mind.recall(user, "turn900", limit=8)).merged[0].content.startswith("turn900 ")


async def test_taken_back_and_imported_again(open_mind: OpenMind, user: str, talk: Path) -> None:
    mind = await open_mind(embedding=HashEmbedding(8), background=False)
    origin = Export([talk]).origin
    await imported(mind, user, talk)
    undone = await mind.undo(user, origin=origin)
    assert undone.ended == {"message": TURNS}
    assert await mind.conversations.list_sessions(user) == []
    gone = undone.at + timedelta(microseconds=1)
    again = await imported(mind, user, talk)
    assert (again.messages, again.there) == (TURNS, 0)
    assert sum(session.message_count for session in await mind.conversations.list_sessions(user)) == TURNS
    then = await mind.as_of(datetime(2023, 1, 1, 12, tzinfo=UTC)).conversations.list_sessions(user)
    assert sum(session.message_count for session in then) == 12 * 60 + 1
    assert len(await mind.conversations.get_session_messages(user, "s1")) == TURNS / 40
    assert gone < datetime.now(UTC)
    await mind.undo(user, origin=origin)
    assert await mind.conversations.list_sessions(user) == []


# ---------------------------------------------------------------- memories


def remembered(name: str, text: str, updated: str | None = None) -> dict[str, Any]:
    times = {"created_at": "2024-01-01T00:00:00Z", "updated_at": updated}
    return {"id": name, "memory": text, "user_id": "alice", "categories": ["x"], **times}


async def test_memories_are_imported_once_and_renewed(open_mind: OpenMind, user: str, tmp_path: Path) -> None:
    model = HashEmbedding(8)
    mind = await open_mind(embedding=model, background=False)
    memories = [remembered(str(n), f"fact {n}") for n in range(150)]
    file = write(tmp_path / "mem0.json", {"results": memories})
    first = await imported(mind, user, file)
    assert (first.memories, first.there, first.changed) == (150, 0, 0)
    calls = model.calls
    again = await imported(mind, user, file)
    assert (again.memories, again.there, again.changed) == (0, 150, 0)
    assert model.calls == calls  # nothing was embedded in vain
    (hit, *_) = await mind.search(user, "fact 7", limit=3)
    assert hit.memory.known_from == datetime(2024, 1, 1, tzinfo=UTC)
    assert await mind.as_of(datetime(2023, 1, 1, tzinfo=UTC)).search(user, "fact 7") == []

    memories[7] = remembered("7", "fact 7, told better", updated="2024-06-01T00:00:00Z")
    memories[8] = remembered("8", "fact 8, told better", updated="2024-06-01T00:00:00Z")
    mine = next(hit.memory for hit in await mind.search(user, "fact 8") if hit.memory.content == "fact 8")
    await mind.update_memory(user, mine.memory_id, content="fact 8, as I know it")
    renewed = await imported(mind, user, write(file, {"results": memories}))
    assert (renewed.memories, renewed.there, renewed.changed) == (0, 149, 1)
    history = await mind.history(user, hit.memory.memory_id)
    assert [version.content for version in history] == ["fact 7, told better", "fact 7"]
    assert history[0].known_from == datetime(2024, 6, 1, tzinfo=UTC)
    assert (await mind.get_memory(user, mine.memory_id)).content == "fact 8, as I know it"  # type: ignore[union-attr]
    await check_sound(mind)


async def test_memories_taken_back_come_back_under_the_same_id(open_mind: OpenMind, user: str, tmp_path: Path) -> None:
    mind = await open_mind(embedding=HashEmbedding(8), background=False)
    file = write(tmp_path / "mem0.json", [remembered("1", "Likes tea")])
    await imported(mind, user, file)
    (hit,) = await mind.search(user, "tea")
    await mind.undo(user, origin=Export([file]).origin)
    assert await mind.search(user, "tea") == []
    assert (await imported(mind, user, file)).memories == 1
    (again,) = await mind.search(user, "tea")
    assert again.memory.memory_id == hit.memory.memory_id
    assert len(await mind.history(user, hit.memory.memory_id)) == 2
    await check_sound(mind)


async def test_an_external_id_names_one_memory_of_one_user(open_mind: OpenMind, user: str) -> None:
    mind = await open_mind(embedding=HashEmbedding(8), background=False)
    new = NewMemory("Likes tea", external_id="x")
    first, same, other = await mind.add_memories(user, [new, NewMemory("Likes rain", external_id="x"), "Likes sun"])
    assert first == same
    assert other.content == "Likes sun"
    (theirs,) = await mind.add_memories(f"not-{user}", [new])
    assert theirs.memory_id != first.memory_id
    stored = await asyncio.gather(
        *(mind.add_memories(user, [NewMemory("Likes fog", external_id="y")]) for _ in range(8))
    )
    assert len({memory.memory_id for (memory,) in stored}) == 1
    assert len((await mind.list_memories(user)).items) == 3
    await check_sound(mind)


async def test_a_memory_from_the_future_is_known_from_now(open_mind: OpenMind, user: str, tmp_path: Path) -> None:
    mind = await open_mind(embedding=HashEmbedding(8), background=False)
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    report = await imported(mind, user, write(tmp_path / "m.json", [remembered("1", "Likes tea", updated=soon)]))
    assert report.memories == 1


async def test_a_file_that_breaks_off_leaves_what_stands_before(open_mind: OpenMind, user: str, tmp_path: Path) -> None:
    mind = await open_mind(embedding=HashEmbedding(8), background=False)
    file = tmp_path / "a.json"
    file.write_text('[{"content": "one"}, {"content": "two"}, {"cont')
    report = await imported(mind, user, file)
    assert report.messages == 2
    assert "ends too early" in str(report.broken)
    file.write_text("[")
    with pytest.raises(InvalidInputError, match="no known format"):
        await imported(mind, user, file)


# ---------------------------------------------------------------- size


async def test_memory_does_not_grow_with_the_file(bench: Bench, tmp_path: Path) -> None:
    """Ten times the turns, and the process stays as large: nothing of what was read is kept."""

    async def peak(turns: int) -> int:
        file = write_talk(tmp_path / f"{turns}.jsonl", turns)
        process = await bench.start("import", file, "--user", f"size-{turns}", "--no-wait")
        looked, highest = psutil.Process(process.pid), 0
        while process.returncode is None:
            try:
                highest = max(highest, looked.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            await asyncio.sleep(0.02)
        await process.communicate()
        assert process.returncode == 0
        return highest

    small, large = await peak(1_000), await peak(10_000)
    assert large - small < 30_000_000
