"""Where the bytes of files are kept. Subclass `ObjectStorage` for your own."""

from abc import ABC, abstractmethod

from memground.errors import UnsupportedError


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

    async def delete_prefix(self, prefix: str) -> None:
        """Removes everything whose key begins with `prefix`, which is the beginning of the prefix of some `upload`.

        That is how what an upload left is found when its program was killed before it could tell the key. A storage
        that does not offer this keeps such an object, and the job that should remove it shows this error.
        """
        raise UnsupportedError(
            f"{type(self).__name__} has no delete_prefix, so what an upload that was cut off may have left under "
            f"{prefix!r} stays there; write one, or remove it by hand"
        )

    async def close(self) -> None:  # noqa: B027 - overriding is optional
        """Release connections. Default: nothing to release."""
