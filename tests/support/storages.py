"""A storage of one's own, as a user would write it: a folder, with all that the base class offers."""

import asyncio
import uuid
from pathlib import Path

from memground.errors import NotFoundError, UnavailableError
from neuromem.providers.storage import ObjectStorage


class FolderStorage(ObjectStorage):
    """Keeps objects as files; `away`: as if the server were down; `slow`: seconds every upload takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.away = False
        self.slow = 0.0
        self.calls: list[str] = []

    @property
    def keys(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}

    async def init(self) -> None:
        self._called("init")
        self.folder.mkdir(parents=True, exist_ok=True)

    async def upload(self, prefix: str, filename: str, data: bytes, content_type: str) -> str:
        self._called("upload")
        key = f"{prefix}/{uuid.uuid4().hex}/{filename}"
        path = self.folder / key
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        await asyncio.sleep(self.slow)
        self._called("uploaded")
        return key

    async def download(self, object_key: str) -> bytes:
        self._called("download")
        if object_key not in self.keys:
            raise NotFoundError(f"no object {object_key}")
        return (self.folder / object_key).read_bytes()

    async def delete(self, object_key: str) -> None:
        self._called("delete")
        (self.folder / object_key).unlink(missing_ok=True)

    async def delete_prefix(self, prefix: str) -> None:
        self._called("delete_prefix")
        for key in self.keys:
            if key.startswith(prefix):
                (self.folder / key).unlink(missing_ok=True)

    async def get_presigned_url(self, object_key: str, expires_in: int = 3600) -> str:
        self._called("get_presigned_url")
        return (self.folder / object_key).as_uri()

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.away:
            raise UnavailableError("the storage does not answer")
