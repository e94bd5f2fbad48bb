"""A PostgreSQL of our own, with pgvector: no server to install, no docker, no port.

The first user starts it, later ones (of any process, event loop or thread) find it, the last one stops it. It listens
on a socket in a folder that only its owner can enter; a killed user leaves it running for the next.
"""

import asyncio
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from memground.errors import InvalidInputError, UnsupportedError

if TYPE_CHECKING:
    from memground.postgres._cluster import Membership

_MAX_NAME_BYTES = 63


def default_data_dir() -> Path:
    """Where the embedded PostgreSQL keeps its data unless told: ``~/.neuromem/postgres``.

    Under root with a home that others cannot enter: ``/var/lib/neuromem/<name of that home>/postgres``, because
    PostgreSQL must run as another account.
    """
    _check_platform()
    from memground.postgres import _host

    return _host.default_data_dir()


class EmbeddedPostgres:
    """One user's hold on a running embedded PostgreSQL. Get one by `open`, give it back by `close`.

    A hold that is forgotten is given back when it is collected or when the process exits.
    """

    def __init__(self, membership: "Membership") -> None:
        self._membership = membership
        self._forgotten = weakref.finalize(self, membership.abandon)

    @classmethod
    async def open(cls, data_dir: Path | None = None, *, timeout: float = 60.0) -> "EmbeddedPostgres":
        """Find the server of a data folder (`default_data_dir` when None), or start it; `timeout` in seconds.

        A new or empty folder is made a data folder, mode 0700. Raises `ConfigurationError` when the wheel with
        PostgreSQL is not installed, or the folder cannot be used or was made by another major version;
        `UnavailableError` with the last lines of the log when the server does not start in time; `UnsupportedError`
        on Windows.
        """
        _check_platform()
        from memground.postgres._cluster import Cluster
        from memground.postgres._locks import Patience

        def join() -> "Membership":
            folder = data_dir.expanduser() if data_dir is not None else default_data_dir()
            return Cluster(folder.resolve()).join(patience)

        patience = Patience(timeout)
        joining = asyncio.ensure_future(asyncio.to_thread(join))
        try:
            membership = await asyncio.shield(joining)
        except asyncio.CancelledError:
            patience.cancel()
            await asyncio.wait([joining])
            if joining.exception() is None:
                await asyncio.to_thread(joining.result().leave, timeout)
            raise
        return cls(membership)

    @property
    def data_dir(self) -> Path:
        """The data folder, absolute."""
        return self._membership.folder

    @property
    def socket_dir(self) -> Path:
        """The folder of the server's socket."""
        return self._membership.sockets

    def url(self, database: str = "postgres") -> str:
        """A URL for asyncpg and, with its driver put in the scheme, SQLAlchemy. It does not create the database."""
        host = quote(str(self.socket_dir))
        # The port is in the URL because a driver would otherwise take the one in the environment.
        return f"postgresql://postgres@/{quote(database, safe='')}?host={host}&port=5432"

    async def ensure_database(self, name: str) -> None:
        """Create a database unless it exists. Raises `InvalidInputError` for a name PostgreSQL cannot hold."""
        size = len(name.encode(errors="ignore"))  # lone surrogates, which have no encoding, show by the round trip
        if not 0 < size <= _MAX_NAME_BYTES or "\0" in name or name.encode(errors="ignore").decode() != name:
            raise InvalidInputError(f"database name {name!r}: 1 to {_MAX_NAME_BYTES} bytes of UTF-8 without NUL")
        connection = await cast("Any", asyncpg).connect(self.url())
        try:
            if await connection.fetchval("select 1 from pg_database where datname = $1", name) is None:
                # Two at once: the loser of the race reads either error.
                with suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                    await connection.execute('create database "{}"'.format(name.replace('"', '""')))
        finally:
            await connection.close()

    async def close(self, *, timeout: float = 60.0) -> None:
        """Give the hold back; the last one stops the server and waits for its end, at most `timeout` seconds.

        Calling it again does nothing. Raises `UnavailableError` when the server is still shutting down at the limit.
        """
        if self._forgotten.detach() is not None:
            await asyncio.to_thread(self._membership.leave, timeout)


def _check_platform() -> None:
    if sys.platform == "win32":
        raise UnsupportedError("the embedded PostgreSQL needs Linux or macOS: on Windows pass a database_url")
