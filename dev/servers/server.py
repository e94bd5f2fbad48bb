"""What all servers for tests share: installed once, started on a free port, waited for, stopped."""

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neuromem-dev"
_START_SECONDS = 60
# Ends the server when standard input does, which happens when whoever started it is gone, killed or not.
_TIED = '"$@" & server=$!; cat >/dev/null; kill $server; wait $server'


class Server(ABC):
    """A server between ``start`` and ``stop``, or inside ``with``. It listens on 127.0.0.1:`port`."""

    name: str
    """Of the server and its version; of the folder it is installed in."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()

    @abstractmethod
    def install(self, folder: Path) -> None:
        """Puts the server's program into an empty folder."""

    @abstractmethod
    def command(self, program: Path, data: Path) -> list[str]:
        """How to start what was installed in `program`, on `self.port`, with its data in `data`."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves."""

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """What a client has to know, by names of environment variables."""

    def start(self) -> Self:
        program = self._installed()
        self._folder = Path(tempfile.mkdtemp(prefix=f"neuromem-{self.name}-"))
        data, self.port = self._folder / "data", _free_port()
        data.mkdir()
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", _TIED, "sh", *self.command(program, data)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if time.monotonic() > deadline:
                said = (self._folder / "log").read_text(errors="replace")[-2000:]
                self.stop()
                raise TimeoutError(f"{self.name} does not answer after {_START_SECONDS} s; it said:\n{said}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Ends the server and removes its data. May be called again."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(30)
            self._process = None
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _installed(self) -> Path:
        folder = CACHE / self.name
        with _locked(CACHE / f"{self.name}.lock"):
            if not folder.exists():
                scratch = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=CACHE))
                try:
                    self.install(scratch)
                    scratch.rename(folder)  # last: what is there is whole
                except BaseException:
                    shutil.rmtree(scratch, ignore_errors=True)
                    raise
        return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
