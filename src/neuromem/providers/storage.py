"""Where the bytes of files are kept. Subclass `ObjectStorage` for your own."""

from abc import ABC, abstractmethod


class ObjectStorage(ABC):
    """Keeps bytes under keys of its own making. Raises ``UnavailableError`` when it cannot be reached now,
    ``ProviderError`` when it refuses, ``NotFoundError`` for a key it does not hold."""

    @abstractmethod
    async def init(self) -> None:
        """Makes what must be there before the first upload, such as a bucket; may be called again."""

    @abstractmethod
    async def upload(self, prefix: str, filename: str, data: bytes, content_type: str) -> str:
        """Stores `data` and returns its key, which begins with `prefix` and is given to nothing else."""

    @abstractmethod
    async def download(self, object_key: str) -> bytes:
        """The bytes stored under a key."""

    @abstractmethod
    async def delete(self, object_key: str) -> None:
        """Removes them; a key that is not there is no error."""

    @abstractmethod
    async def get_presigned_url(self, object_key: str, expires_in: int = 3600) -> str:
        """An address anybody can download them from for `expires_in` seconds."""

    async def close(self) -> None:  # noqa: B027 - overriding is optional
        """Release connections. Default: nothing to release."""
