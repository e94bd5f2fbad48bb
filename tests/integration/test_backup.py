"""A backup is a file of pg_dump's, and what comes back from it answers as before."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from memground.postgres.dump import dump, schema_in
from memground.postgres.embedded import EmbeddedPostgres
from neuromem import NeuroMemory
from support.calls import READS, World, call, settle
from support.command import Outcome, command
from support.embeddings import HashEmbedding

INDEXES = """
    SELECT indexname, replace(indexdef, schemaname, 's') AS made FROM pg_indexes WHERE schemaname = $1 ORDER BY 1
"""


async def asked(*arguments: str) -> Outcome:
    return await asyncio.to_thread(command, *arguments)


@pytest.fixture(scope="module")
async def source(server: EmbeddedPostgres) -> str:
    await server.ensure_database("backed_up")
    return server.url("backed_up")


async def new_database(server: EmbeddedPostgres, name: str) -> str:
    await server.ensure_database(name)
    return server.url(name)


async def answers(mind: NeuroMemory, world: World, moment: datetime) -> dict[str, Any]:
    """What every read says, now and earlier; as text, with ids and times."""
    told: dict[str, Any] = {}
    for name, arguments in READS.items():
        if name not in ("background_status", "extraction_status", "files.download_url"):  # there is no storage
            told[name] = str(await call(mind, name, arguments(world)))
    then = mind.as_of(world.between)
    told["then"] = str((await then.list_memories(world.user)).to_dict())
    told["kv then"] = str(await then.kv.get("profile", world.user, "city"))
    told["recall then"] = [hit.content for hit in (await then.recall(world.user, "Porto")).merged]
    return told


def only_what_lasts(told: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the moment of asking: scores fall with time."""
    return {name: value for name, value in told.items() if name not in ("recall", "search", "stats", "diff")}


async def indexes(url: str, schema: str) -> list[tuple[str, str]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(INDEXES, schema)]
    finally:
        await connection.close()


@pytest.mark.seed("9.2", "backup: one pg_dump holds vectors, graph, conversations, key-values and profiles")
async def test_what_comes_back_answers_as_before(
    server: EmbeddedPostgres, source: str, schema: str, tmp_path: Path
) -> None:
    file = tmp_path / "mind.dump"
    async with NeuroMemory(source, HashEmbedding(), schema=schema) as mind:
        world = await settle(mind, "anna")
        await mind.add_memories("anna", [f"memory number {n}" for n in range(300)])
        await mind.wait_idle(30)
        saved = await asked("backup", str(file), "--database-url", source, "--schema", schema, "--json")
        assert saved.code == 0, saved.err
        assert saved.json["bytes"] == file.stat().st_size > 10_000
        assert saved.json["objects_in_storage"] == 0
        assert file.stat().st_mode & 0o777 == 0o600
        await mind.add_memory("anna", "after the backup")
        moment = (await mind.get_memory("anna", world.memory_id)).recorded_at
        before = await answers(mind, world, moment)
    elsewhere = await new_database(server, f"back_{schema}")
    back = await asked("restore", str(file), "--database-url", elsewhere, "--schema", schema, "--json")
    assert back.code == 0, back.err
    async with NeuroMemory(elsewhere, HashEmbedding(), schema=schema) as mind:
        assert "after the backup" not in str(await answers(mind, world, moment))
        after = await answers(mind, world, moment)
        latest = [item.content for item in (await mind.list_memories("anna", limit=1_000)).items]
        assert len(latest) == 302  # with what `settle` put there: a memory, and a passage of a document
        # It goes on from there.
        changed = await mind.update_memory("anna", world.memory_id, content="lives in Lisbon")
        assert (await mind.history("anna", world.memory_id))[0].version == changed.version
        await mind.ingest("anna", "user", "and a new turn")
        await mind.wait_idle(30)
        assert (await mind.search("anna", "number 17", limit=1))[0].memory.content == "memory number 17"
    # What was written after the backup counts in these.
    for name in (
        "list_memories", "get_recent_memories", "get_memories_by_time_range", "memory_timeline", "preview_erasure",
        "files.search",
    ):  # fmt: skip
        del before[name], after[name]
    assert only_what_lasts(after) == only_what_lasts(before)
    made = await indexes(elsewhere, schema)
    assert made == await indexes(source, schema)
    assert {"idx_emb_vector"} <= {name for name, _ in made}
    assert any("USING gin" in statement for _, statement in made)


async def test_a_backup_is_one_moment_though_somebody_writes(
    server: EmbeddedPostgres, source: str, schema: str, tmp_path: Path
) -> None:
    file = tmp_path / "mind.dump"
    async with NeuroMemory(source, HashEmbedding(), schema=schema, background=False) as mind:

        async def write() -> None:
            for number in range(1_000_000):
                async with mind.transaction() as tx:
                    await tx.kv.set("profile", "anna", "left", number)
                    await tx.kv.set("profile", "anna", "right", number)

        await mind.kv.set("profile", "anna", "left", -1)
        await mind.kv.set("profile", "anna", "right", -1)
        writing = asyncio.create_task(write())
        await asyncio.sleep(0.2)
        saved = await asked("backup", str(file), "--database-url", source, "--schema", schema)
        assert (saved.code, saved.err) == (0, "")
        assert not writing.done()
        writing.cancel()
    elsewhere = await new_database(server, f"back_{schema}")
    assert (await asked("restore", str(file), "--database-url", elsewhere, "--schema", schema)).code == 0
    async with NeuroMemory(elsewhere, HashEmbedding(), schema=schema, background=False) as mind:
        assert (left := await mind.kv.get("profile", "anna", "left")) == await mind.kv.get("profile", "anna", "right")
        assert left is not None


async def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    server: EmbeddedPostgres, source: str, schema: str, tmp_path: Path
) -> None:
    async with NeuroMemory(source, HashEmbedding(), schema=schema, background=False) as mind:
        await mind.add_memory("anna", "lives in Porto")
    file, there = tmp_path / "mind.dump", ("--database-url", source, "--schema", schema)
    assert (await asked("backup", str(file), *there)).code == 0
    nothing = await new_database(server, f"nothing_{schema}")
    prose = tmp_path / "prose.txt"
    prose.write_text("no backup")
    cases = {
        ("backup", str(file), *there): "exists already",
        ("backup", str(tmp_path / "no" / "where"), *there): "cannot be written",
        ("backup", str(tmp_path / "new"), "--database-url", nothing): "there is no schema 'neuromem'",
        ("backup", str(tmp_path / "new"), "--database-url", "postgresql://localhost:1/minds"): "cannot be reached",
        ("restore", str(file), *there): f"there is a schema '{schema}' already",
        ("restore", str(file), "--database-url", nothing): f"holds the schema '{schema}'",
        ("restore", str(prose), *there): "is no backup",
        ("restore", str(tmp_path / "gone"), *there): "is no backup",
    }
    for arguments, says in cases.items():
        told = await asked(*arguments)
        assert told.code in (1, 2), arguments
        assert says in told.err
        assert len(told.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mind.dump", "prose.txt"]


async def test_a_restore_that_fails_leaves_nothing(
    server: EmbeddedPostgres, source: str, schema: str, tmp_path: Path
) -> None:
    file = tmp_path / "mind.dump"
    async with NeuroMemory(source, HashEmbedding(), schema=schema, background=False) as mind:
        await mind.add_memories("anna", [f"memory {n} {os.urandom(200).hex()}" for n in range(500)])
    there = ("--schema", schema, "--database-url")
    assert (await asked("backup", str(file), *there, source)).code == 0
    broken = tmp_path / "broken.dump"
    broken.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    elsewhere = await new_database(server, f"broken_{schema}")
    told = await asked("restore", str(broken), *there, elsewhere)
    assert told.code == 1
    assert len(told.err.splitlines()) == 1
    assert await indexes(elsewhere, schema) == []
    assert (await asked("restore", str(file), *there, elsewhere)).code == 0


async def test_progress_is_told_and_the_password_is_in_no_argument(source: str, tmp_path: Path) -> None:
    schema = 'od"d Näme'
    async with NeuroMemory(source, HashEmbedding(), schema=schema, background=False) as mind:
        await mind.add_memory("anna", "lives in Porto")
        tables = len(mind._db.tables.metadata.tables) + 1
    told: list[tuple[int, int, str]] = []
    file = tmp_path / "odd.dump"
    address = source.replace("postgres@", "postgres:s3cret@") + "&pgbouncer=false"
    watching = asyncio.create_task(_arguments_of("pg_dump"))
    await dump(
        address,
        schema,
        file,
        tables=tables,
        environment=os.environ,
        progress=lambda done, total, what: told.append((done, total, what)),
    )
    assert [done for done, _, _ in told] == list(range(tables + 1))
    assert {total for _, total, _ in told} == {tables}
    assert "embeddings" in {what for _, _, what in told}
    assert await schema_in(file, environment=os.environ) == schema
    assert "s3cret" not in await watching


async def _arguments_of(program: str) -> str:
    for _ in range(200):
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"bin/{program} " in line:
                return line
        await asyncio.sleep(0.002)
    raise AssertionError(f"{program} was never seen")


async def test_a_cancelled_backup_leaves_no_file(source: str, schema: str, tmp_path: Path) -> None:
    opened = NeuroMemory(source, HashEmbedding(), schema=schema, background=False)
    async with opened as mind, mind._db.session() as session:  # which the dump waits for
        await session.execute(text(f"LOCK TABLE {schema}.embeddings IN ACCESS EXCLUSIVE MODE"))
        saving = asyncio.create_task(dump(source, schema, tmp_path / "x.dump", tables=1, environment=os.environ))
        await _arguments_of("pg_dump")
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_server_from_one_folder_to_another(tmp_path_factory: pytest.TempPathFactory) -> None:
    from support.embedded import short_tmp_dir

    with short_tmp_dir() as folder:
        first, second, file = f"embedded://{folder}/a", f"embedded://{folder}/b", str(folder / "mind.dump")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100"}
        steps = (
            ("add", "plays the cello", "--database-url", first),
            ("backup", file, "--database-url", first),
            ("restore", file, "--database-url", second, "--json"),
            ("list", "--json", "--database-url", second),
        )
        for step in steps:
            done = subprocess.run(
                [sys.executable, "-c", "from neuromem.cli import main; main()", *step],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        assert [item["content"] for item in json.loads(done.stdout)["items"]] == ["plays the cello"]
