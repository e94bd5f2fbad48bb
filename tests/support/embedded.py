"""Folders an embedded PostgreSQL can live in, also when the tests run as root."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from dev.servers.postgres import NOT_DURABLE

from memground.postgres import _cluster
from memground.postgres.embedded import EmbeddedPostgres

_MEMORY, _ROOM = Path("/dev/shm"), 8_000_000_000


@contextmanager
def short_tmp_dir(parent: str = "/tmp") -> Iterator[Path]:
    """A temporary folder with a short path (sockets) that every account may enter (root's server runs as nobody)."""
    folder = Path(tempfile.mkdtemp(prefix="nm-", dir=parent)).resolve()
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def hasty_server() -> AsyncIterator[EmbeddedPostgres]:
    """The embedded server with its own settings, but that thousands of small databases come and go quickly.

    It does not wait for the disk, is in memory where that has room, and has few buffers: all are looked through when a
    database is dropped.
    """
    settings = _cluster.settings
    hasty = NOT_DURABLE | {"shared_buffers": "128MB", "max_wal_size": "256MB"}
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
    with short_tmp_dir(str(_MEMORY) if roomy else "/tmp") as folder:
        _cluster.settings = lambda sockets: settings(sockets) | hasty
        try:
            server = await EmbeddedPostgres.open(folder / "pg")
        finally:
            _cluster.settings = settings
        yield server
        await server.close()
