"""What changing the embedding model asks of a vector index."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from omnimem.storage.base import VectorIndex


class VectorSuccessor(ABC):
    """The vectors of another model, made beside those in use until they take their place."""

    @property
    @abstractmethod
    def index(self) -> VectorIndex:
        """Takes in records. Nobody else searches it yet."""

    @abstractmethod
    async def progress(self) -> tuple[int, int]:
        """How many memories it is not behind with, and how many the index in use has."""

    @abstractmethod
    async def behind(self, *, after: str, limit: int) -> list[str]:
        """Ids of memories of which the index in use has something newer, or that they were removed; in order."""

    @abstractmethod
    async def switch(self, last: Callable[[], Awaitable[None]] | None = None) -> bool:
        """Takes the place of the index in use, whose users get a ModelMismatchError from then on; whether it did.

        Where it is behind it does not, unless `last` catches up, while nobody can use the other.
        """
