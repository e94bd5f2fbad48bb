"""Folders an embedded PostgreSQL can live in, also when the tests run as root."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def short_tmp_dir() -> Iterator[Path]:
    """A temporary folder with a short path (sockets) that every account may enter (root's server runs as nobody)."""
    folder = Path(tempfile.mkdtemp(prefix="nm-", dir="/tmp")).resolve()
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
