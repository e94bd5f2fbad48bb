"""What an embedding provider is, and the checks every provider's input and output pass."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from memground.errors import InvalidInputError, ProviderError

MIN_LENGTH, MAX_LENGTH = 1e-3, 6e4
"""Euclidean lengths a vector may have: they are kept in half precision, which holds at most 65,504."""


class EmbeddingProvider(ABC):
    """Turns texts into vectors of ``dims`` numbers, close to each other (by cosine) when the texts mean similar things.

    A provider of your own needs only ``dims`` and ``embed``::

        class MyEmbedding(EmbeddingProvider):
            @property
            def dims(self) -> int:
                return 768

            async def embed(self, text: str) -> list[float]:
                return await my_model(text)

    Override ``embed_batch`` when the model can take many texts in one call, ``batches`` when it cannot take any number,
    ``embed_query`` when it wants queries marked as such, and ``model_id`` when one class serves several models.
    """

    @property
    @abstractmethod
    def dims(self) -> int:
        """How many numbers a vector has."""

    @property
    def model_id(self) -> str:
        """The model's name, kept in the database: vectors of another model are refused. Default: the class name."""
        return type(self).__name__

    @abstractmethod
    async def embed(self, text: str) -> list[float]:
        """The vector of one text, ``dims`` floats.

        Raises ``InvalidInputError`` (not a text), ``ProviderError`` (the model refused, or answered with something
        unusable) or ``UnavailableError`` (it cannot be reached).
        """

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        """The vectors of many texts, in the order of the texts. Default: one ``embed`` after the other."""
        return [await self.embed(text) for text in texts]

    def batches(self, texts: list[str]) -> Iterable[list[str]]:
        """The texts apart, in order, into what the model takes in one call of ``embed_batch``. Default: all at once.

        Long work, such as a file of many pages, is embedded batch by batch, to show how far it is.
        """
        return [texts] if texts else []

    async def embed_query(self, text: str) -> list[float]:
        """The vector of a search query, for models that embed queries and passages differently. Default: ``embed``."""
        return await self.embed(text)

    async def close(self) -> None:  # noqa: B027 - overriding is optional
        """Release connections, threads and memory. Default: nothing to release."""


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what no model can read, by position. Raises ``InvalidInputError``."""
    for position, text in enumerate(texts):
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
            raise InvalidInputError(f"text {position} to embed is {type(text).__name__}, expected str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"text {position} to embed has a lone surrogate {text[error.start]!r} at character {error.start}; "
                "only text that UTF-8 can hold is accepted"
            ) from None


def check_vectors(vectors: Iterable[Iterable[float]], *, count: int, dims: int, model_id: str) -> list[list[float]]:
    """A provider's answer as ``count`` lists of ``dims`` finite floats, one per text, in order.

    Raises ``ProviderError`` saying what came back instead.
    """
    try:
        rows = list(vectors)
    except TypeError:
        raise ProviderError(f"{model_id} returned {str(vectors)[:80]} instead of {count} vectors") from None
    if len(rows) != count:
        raise ProviderError(f"{model_id} returned {len(rows)} vectors for {count} texts")
    return [_checked_vector(row, dims, f"{model_id}, text {position}") for position, row in enumerate(rows)]


def _checked_vector(vector: Iterable[float], dims: int, where: str) -> list[float]:
    try:
        numbers = list(map(float, vector))
    except (TypeError, ValueError, OverflowError):
        raise ProviderError(f"{where}: returned {str(vector)[:80]} instead of {dims} numbers") from None
    if len(numbers) != dims:
        raise ProviderError(f"{where}: returned a vector of {len(numbers)} numbers, expected {dims}")
    length = math.hypot(*numbers)  # which is not finite where one of them is not
    if not math.isfinite(length) and (wrong := [number for number in numbers if not math.isfinite(number)]):
        raise ProviderError(f"{where}: returned a vector containing {wrong[0]}, only finite numbers are usable")
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise ProviderError(
            f"{where}: returned a vector of length {length:g}, usable is {MIN_LENGTH:g} to {MAX_LENGTH:g}"
        )
    return numbers
