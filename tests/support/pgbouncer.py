"""A real PgBouncer in front of a server, from Debian's packages, without anything installed beforehand.

Its programs are unpacked once into a folder of the account's cache; several processes may ask at the same time.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dev.servers.server import CACHE, locked

from support.embedded import short_tmp_dir

PACKAGES = ("pgbouncer", "libevent-2.1-7", "libc-ares2")


@dataclass(frozen=True)
class PgBouncer:
    """A running one. `pid` is its process."""

    port: int
    pid: int

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


@asynccontextmanager
async def pgbouncer(sockets: Path, *, server_connections: int = 3, **settings: object) -> AsyncGenerator[PgBouncer]:
    """One in transaction mode in front of the server whose socket lies in `sockets`.

    Every database of the server goes by its own name, with so many connections to the server for each.
    """
    program, libraries = _program()
    with short_tmp_dir() as folder:
        port = _free_port()
        written = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": server_connections,
            "max_client_conn": 200,
            "server_login_retry": 1,
            "logfile": folder / "log",
            **settings,
        }
        lines = [
            f"[databases]\n* = host={sockets} user=postgres",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in written.items()),
        ]
        (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        # It refuses to run as root; the server's socket is nobody's then.
        account = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        if account:
            shutil.chown(folder, "nobody")
        process = subprocess.Popen(
            [program, folder / "pgbouncer.ini"],
            env={"LD_LIBRARY_PATH": str(libraries)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **account,
        )
        try:
            await _answering(port, process, folder / "log")
            yield PgBouncer(port, process.pid)
        finally:
            process.terminate()  # at once, whoever is connected
            process.wait(10)


async def _answering(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(500):
        if process.poll() is not None:
            break
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        return
    raise RuntimeError(f"pgbouncer did not start: {log.read_text() if log.exists() else process.poll()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program() -> tuple[Path, Path]:
    """PgBouncer, and the folder of the libraries it needs: the machine's own where it is installed."""
    if (installed := shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")) is not None:
        return Path(installed), Path("/usr/lib")
    target = CACHE / "pgbouncer"
    with locked(CACHE / "pgbouncer.lock"):
        if not target.exists():
            scratch = Path(tempfile.mkdtemp(dir=CACHE))
            _download(scratch)
            for package in scratch.glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, scratch], check=True)
            scratch.chmod(0o755)
            scratch.rename(target)
    return target / "usr/sbin/pgbouncer", next(target.glob("usr/lib/*-linux-gnu"))


def _download(folder: Path) -> None:
    command = ["apt-get", "download", "-o", "APT::Sandbox::User=root", *PACKAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0 and os.geteuid() == 0:
        subprocess.run(["apt-get", "update"], capture_output=True, check=True)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the tests need PgBouncer (apt-get install pgbouncer): {done.stderr}")
