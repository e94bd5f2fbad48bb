"""LocalStorage: files in a folder of this machine."""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from memground.errors import InvalidInputError, NotFoundError, ProviderError
from memground.text import show
from neuromem.providers.object_keys import check_content, check_key, check_seconds, new_key
from neuromem.providers.storage import ObjectStorage

_TRIES = 20


class LocalStorage(ObjectStorage):
    """Keeps files below `folder` (default ``~/.neuromem/files``), readable by this account only.

    A file is there whole or not at all, also after a crash. Any number of processes may share the folder. Where a
    folder is missing it is made.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        if folder is not None and (not isinstance(folder, str | os.PathLike) or not os.fspath(folder)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"folder={show(folder)} is not accepted; pass the path of a folder")
        self.folder = (
            Path(folder).expanduser().absolute() if folder is not None else Path.home() / ".neuromem" / "files"
        )

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.folder)!r})"

    async def init(self) -> None:
        await asyncio.to_thread(self._init)

    async def upload(self, prefix: str, filename: str, data: bytes, content_type: str) -> str:
        check_content(data, content_type)
        key = new_key(prefix, filename)
        await asyncio.to_thread(self._write, key, data)
        return key

    async def download(self, object_key: str) -> bytes:
        return await asyncio.to_thread(self._read, check_key(object_key))

    async def delete(self, object_key: str) -> None:
        await asyncio.to_thread(self._remove, check_key(object_key))

    async def delete_prefix(self, prefix: str) -> None:
        await asyncio.to_thread(self._remove_all, check_key(prefix))

    async def get_presigned_url(self, object_key: str, expires_in: int = 3600) -> str:
        """A ``file://`` address. It works on this machine only, for who may read the folder, and does not expire."""
        check_seconds(expires_in)
        return (await asyncio.to_thread(self._path, check_key(object_key))).as_uri()

    def _init(self) -> None:
        with self._naming_failures():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _write(self, key: str, data: bytes) -> None:
        self._init()
        for tries in range(1, _TRIES + 1):
            with self._naming_failures():
                path = self._path(key)
                try:
                    self._make_folders(path.parent)
                    _write_whole(path, data)
                except FileNotFoundError:  # somebody deleted the last other file of the folder in between
                    if tries == _TRIES:
                        raise
                else:
                    return

    def _make_folders(self, folder: Path) -> None:
        """As ``mkdir(parents=True)``, which makes all but the last by the umask."""
        if folder != self.folder:
            self._make_folders(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)

    def _read(self, key: str) -> bytes:
        with self._naming_failures(key):
            descriptor = os.open(self._path(key), os.O_RDONLY | _NOT_A_LINK)
            with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
                return file.read()

    def _remove(self, key: str) -> None:
        path = self._path(key)
        with self._naming_failures():
            path.unlink(missing_ok=True)
            self._remove_empty(path)

    def _remove_all(self, prefix: str) -> None:
        """Also what a write that was cut off left unfinished there."""
        path = self._path(prefix)
        with self._naming_failures():
            found = list(path.parent.iterdir()) if path.parent.is_dir() else []
            for entry in found:
                if entry.name.startswith(path.name):
                    if entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry)
                    else:
                        entry.unlink(missing_ok=True)
            self._remove_empty(path)

    def _remove_empty(self, path: Path) -> None:
        """The folders above a path that hold nothing any more."""
        with suppress(OSError):  # not empty, or gone already
            for folder in path.relative_to(self.folder).parents:
                if folder.name:
                    (self.folder / folder).rmdir()

    def _path(self, key: str) -> Path:
        """Where a key's file lies. Raises NotFoundError where a link leads out of the folder."""
        path = self.folder.joinpath(*key.split("/"))
        if path.parent.resolve() != self.folder.resolve() / path.parent.relative_to(self.folder):
            raise _not_found(key)
        return path

    @contextmanager
    def _naming_failures(self, key: str | None = None) -> Generator[None]:
        try:
            yield
        except OSError as error:
            if key is not None and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
                raise _not_found(key) from None
            raise ProviderError(f"the files in {self.folder} cannot be used: {error.strerror or error}") from error


_NOT_A_LINK = getattr(os, "O_NOFOLLOW", 0)


def _not_found(key: str) -> NotFoundError:
    return NotFoundError(f"no file is stored under object_key={show(key)}")


def _write_whole(path: Path, data: bytes) -> None:
    """All of the file or nothing, on disk when this returns."""
    descriptor, scratch = tempfile.mkstemp(prefix=".", dir=path.parent)  # readable by its owner only
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    for folder in (path.parent, path.parent.parent):
        _sync(folder)


def _sync(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):  # Windows knows no such thing
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
