"""A storage made ready by its first use, that lets nothing but our errors out."""

import asyncio
from collections.abc import Awaitable, Callable

from memground.errors import MemoryStoreError, ProviderError
from memground.text import show
from neuromem.providers.storage import ObjectStorage

MAX_KEY = 500


class PreparedStorage(ObjectStorage):
    """Another storage, opened (`open`) and initialised before its first use: a mind that stores no files needs none."""

    def __init__(self, open: Callable[[], ObjectStorage]) -> None:
        self._open = open
        self._storage: ObjectStorage | None = None
        self._one_at_a_time = asyncio.Lock()

    async def init(self) -> None:
        await self._ready()

    async def upload(self, prefix: str, filename: str, data: bytes, content_type: str) -> str:
        key = await self._call(lambda storage: storage.upload(prefix, filename, data, content_type))
        if not isinstance(key, str) or not key.startswith(prefix) or len(key) > MAX_KEY:  # pyright: ignore[reportUnnecessaryIsInstance]
            name = type(self._storage).__name__
            raise ProviderError(
                f"{name} stored a file as {show(key)}; a key begins with {prefix!r}, of at most {MAX_KEY} characters"
            )
        return key

    async def download(self, object_key: str) -> bytes:
        return await self._call(lambda storage: storage.download(object_key))

    async def delete(self, object_key: str) -> None:
        await self._call(lambda storage: storage.delete(object_key))

    async def delete_prefix(self, prefix: str) -> None:
        await self._call(lambda storage: storage.delete_prefix(prefix))

    async def get_presigned_url(self, object_key: str, expires_in: int = 3600) -> str:
        return await self._call(lambda storage: storage.get_presigned_url(object_key, expires_in))

    async def close(self) -> None:
        if self._storage is not None:
            await self._storage.close()

    async def _call[T](self, call: Callable[[ObjectStorage], Awaitable[T]]) -> T:
        storage = await self._ready()
        try:
            return await call(storage)
        except MemoryStoreError:
            raise
        except Exception as error:  # a storage is the user's code and may raise anything
            raise _failed(storage, error) from error

    async def _ready(self) -> ObjectStorage:
        async with self._one_at_a_time:
            if self._storage is None:
                storage = self._open()
                try:
                    await storage.init()
                except MemoryStoreError:
                    raise
                except Exception as error:  # as above
                    raise _failed(storage, error) from error
                self._storage = storage
            return self._storage


def _failed(storage: ObjectStorage, error: Exception) -> ProviderError:
    return ProviderError(f"{type(storage).__name__} failed: {type(error).__name__}: {error}")
