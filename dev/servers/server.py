"""What all servers for tests share: installed once, started on ports of their own, waited for, broken, stopped."""

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Self

import psutil
from dev.servers import tied

from memground.postgres._host import SYSTEM_FOLDER, Account, nobody

_START_SECONDS = 240  # far beyond what an idle machine needs
_STOP_SECONDS = 30
# Below what systems take the near end of a connection from: a port that a stopped server left stays free for it.
_PORTS = range(20_000, 32_000)


def _cache() -> Path:
    """Where servers are installed; for root with a closed home, where other accounts may enter, too."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neuromem-dev"
    if os.geteuid() == 0 and nobody().blocked_by(folder) is not None:
        return Path("/var/cache/neuromem-dev")
    return folder


CACHE = _cache()


class Server(ABC):
    """A server between ``start`` and ``close``, or inside ``with``. It listens on 127.0.0.1:`port`.

    In between it may be stopped, killed or frozen; started again it has the same port and the same data. Both lie in
    `folder`: a given one is kept, a temporary one is removed by ``close``. It ends with the process that started it.
    """

    name: ClassVar[str]
    """Of the server and its version; of the folder it is installed in."""
    fetches: ClassVar[str] = ""
    """How much is fetched to install it, as a person reads it."""
    port_count: ClassVar[int] = 1
    refuses_root: ClassVar[bool] = False
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path | None = None) -> None:
        self.ports: list[int] = []
        self._watcher: subprocess.Popen[bytes] | None = None
        self._given = folder
        self._folder: Path | None = None

    @property
    def port(self) -> int:
        return self.ports[0]

    def install(self, folder: Path) -> None:
        """Puts the server's program into an empty folder. Raises `RuntimeError` saying what is missing."""
        raise NotImplementedError

    def program(self) -> Path:
        """The folder with the server's program, installed when it is not."""
        return _installed(self)

    def prepare(self, program: Path, data: Path) -> None:
        """Makes what the server needs in its new, empty data folder; most need nothing."""
        return

    @abstractmethod
    def command(self, program: Path, data: Path) -> list[str]:
        """How to start what was installed in `program`, on `self.ports`, with its data in `data`."""

    def environment(self, program: Path, data: Path) -> dict[str, str]:
        """Environment variables it is started with, besides those of this process."""
        return {}

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves."""

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """What a client has to know, by names of environment variables."""

    @classmethod
    def attached(cls, ports: list[int]) -> Self:
        """A server that another process started: to be talked to, not to be stopped."""
        server = cls()
        server.ports = ports
        return server

    @property
    def account(self) -> Account:
        """The account the server runs as."""
        if self.refuses_root and os.geteuid() == 0:
            return nobody()
        return Account(os.geteuid(), os.getegid(), str(os.geteuid()), switch=False)

    def start(self) -> Self:
        """Returns when it answers. Raises `TimeoutError` or `RuntimeError` with what it said when it does not."""
        assert self._watcher is None, f"{self.name} was started already"
        program = self.program()
        if self._folder is None:
            self._folder = self._make_folder()
        data = self._data(program, self._folder)
        with (self._folder / "log").open("ab") as log:
            self._watcher = subprocess.Popen(
                [sys.executable, tied.__file__, *self._as_account(), *self.command(program, data)],
                env={**os.environ, **self.environment(program, data)},
                cwd=data,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # no Ctrl-C of this terminal
            )
        try:
            self._wait(self._folder / "log")
        except BaseException:
            self.kill()
            self.close()
            raise
        return self

    def stop(self) -> None:
        """Ends the server as it wants to be ended; kills it when that takes too long. May be called again."""
        if (root := self._root()) is not None:
            tied.thaw(root)
            with suppress(psutil.NoSuchProcess):
                root.send_signal(self.stop_signal)
            assert self._watcher is not None
            with suppress(subprocess.TimeoutExpired):
                self._watcher.wait(_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Ends the server and all its processes at once, without a warning (SIGKILL). May be called again."""
        if self._watcher is None:
            return
        assert self._watcher.stdin is not None
        if (root := self._root()) is not None:
            tied.kill(root)
        self._watcher.stdin.close()
        self._watcher.wait(_STOP_SECONDS)
        self._watcher = None

    def freeze(self) -> None:
        """Stops all its processes where they are (SIGSTOP): connections stay open and nothing answers."""
        root = self._root()
        assert root is not None, f"{self.name} does not run"
        tied.freeze(root)

    def thaw(self) -> None:
        """Lets a frozen server go on."""
        root = self._root()
        assert root is not None, f"{self.name} does not run"
        tied.thaw(root)

    def memory(self) -> int:
        """Bytes its processes hold, shared pages counted once in each half (PSS) where the system says so."""
        root = self._root()
        processes = [] if root is None else [root, *root.children(recursive=True)]
        return sum(getattr(info, "pss", info.rss) for info in (process.memory_full_info() for process in processes))

    def close(self) -> None:
        """Stops the server, and removes its data unless they lie in a given folder. May be called again."""
        self.stop()
        if self._given is None and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _root(self) -> psutil.Process | None:
        """The server's first process, or None when there is none."""
        if self._watcher is not None:
            with suppress(psutil.NoSuchProcess):
                return next(iter(psutil.Process(self._watcher.pid).children()), None)
        return None

    def _make_folder(self) -> Path:
        if self._given is None:
            folder = Path(tempfile.mkdtemp(prefix=f"neuromem-{self.name}-"))
            folder.chmod(0o711)
        else:
            folder = self._given
            folder.mkdir(parents=True, exist_ok=True)
        if (blocker := self.account.blocked_by(folder)) is not None:
            raise RuntimeError(
                f"{self.name} refuses to run as root, so it runs as '{self.account.name}', who cannot enter {blocker}: "
                f"choose a folder open to all, such as {SYSTEM_FOLDER}"
            )
        known = folder / "ports"
        if known.exists():  # some servers write their address into their data
            self.ports = json.loads(known.read_text())
        else:
            self.ports = _free_ports(self.port_count)
            known.write_text(json.dumps(self.ports))
        return folder

    def _data(self, program: Path, folder: Path) -> Path:
        """The data folder, made at the first start, whole or not at all."""
        data = folder / "data"
        if not data.exists():
            scratch = folder / "data.new"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(mode=0o700)
            self.account.own(scratch)
            self.prepare(program, scratch)
            scratch.rename(data)
        return data

    def _as_account(self) -> list[str]:
        if not self.account.switch:
            return []
        return ["setpriv", f"--reuid={self.account.uid}", f"--regid={self.account.gid}", "--clear-groups"]

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        assert self._watcher is not None
        while not self.answers():
            ended = self._watcher.poll() is not None
            if ended or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-3000:]
                if ended:
                    raise RuntimeError(f"{self.name} ended by itself; it said:\n{said}")
                raise TimeoutError(f"{self.name} does not answer after {_START_SECONDS} s; it said:\n{said}")
            time.sleep(0.05)


def _installed(server: Server) -> Path:
    """The folder with the server's program, fetched by the first process that asks; others wait for it."""
    folder = CACHE / server.name
    with locked(CACHE / f"{server.name}.lock"):
        if not folder.exists():
            print(f"fetching {server.name} {server.fetches}".rstrip(), file=sys.stderr, flush=True)
            began = time.monotonic()
            scratch = Path(tempfile.mkdtemp(prefix=f"{server.name}-", dir=CACHE))
            try:
                server.install(scratch)
                _open_to_all(scratch)
                scratch.rename(folder)  # last: what is there is whole
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
            print(f"fetched {server.name} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; a killed one lets the next in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _open_to_all(folder: Path) -> None:
    """A server may run as another account than the one that installed it."""
    for part in [folder, *folder.rglob("*")]:
        if not part.is_symlink():
            mode = part.stat().st_mode
            part.chmod(mode | (0o555 if part.is_dir() or mode & 0o100 else 0o444))


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} ports are free between {_PORTS.start} and {_PORTS.stop}")
