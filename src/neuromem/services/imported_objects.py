"""The bytes of an import's files, from the export to the storage."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from memground.errors import ConfigurationError
from memground.postgres.queue import JobPolicy
from neuromem.db import Session
from neuromem.documents import FileLimits
from neuromem.providers.storage import ObjectStorage
from neuromem.services.object_records import NamedObject, Piece
from neuromem.services.uploads import Uploads


@dataclass(frozen=True)
class Destination:
    """Where files go: to `storage`, each within `limits`; while they are on their way jobs of `policy` guard them."""

    storage: ObjectStorage | None
    policy: JobPolicy
    limits: FileLimits

    def refuse_without_storage(self, objects: int | None) -> None:
        if objects and self.storage is None:
            raise ConfigurationError(
                f"the export holds {objects:,} files and there is nowhere to keep them: pass storage=LocalStorage("
                "'/a/folder') or storage=S3Storage(…) to NeuroMemory, or leave their bytes out with objects=False "
                "(--no-objects)"
            )


class ObjectSpool:
    """Bytes of objects in a temporary file that only this process sees, one object after the other."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="neuromem-import-")  # noqa: SIM115 - closed by `close`
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0

    def append(self, piece: Piece) -> None:
        start, size = self._places.get(piece.key, (self._end, 0))
        self._places[piece.key] = start, size + len(piece.data)
        self._end += len(piece.data)
        self._file.write(piece.data)

    def bytes_of(self, key: str) -> bytes:
        start, size = self._places[key]
        self._file.seek(start)
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()


@asynccontextmanager
async def put_there(
    session: Session,
    destination: Destination | None,
    user_id: str,
    spool: ObjectSpool,
    *,
    named: Mapping[str, NamedObject],
    progress: Callable[[str, int, int | None], None],
) -> "AsyncGenerator[tuple[Uploads | None, Mapping[str, str]]]":
    """Uploads all objects, for the block to keep: the uploads, and the key of each by its key in the export.

    Nothing is uploaded without objects or a destination. One object at a time is in memory.
    """
    if destination is None or destination.storage is None or not named:
        yield None, {}
        return
    keys: dict[str, str] = {}
    async with Uploads(session, destination.storage, destination.policy, user_id) as uploads:
        for key, about in named.items():
            data = await asyncio.to_thread(spool.bytes_of, key)
            keys[key] = await uploads.put(about.file_type, data)
            progress("uploading", len(keys), len(named))
        yield uploads, keys
