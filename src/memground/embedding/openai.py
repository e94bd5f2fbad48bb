"""Embeddings from OpenAI, or from any server that speaks its protocol."""

from collections.abc import Iterator
from typing import Any, ClassVar

from memground.embedding.base import EmbeddingProvider, check_texts, check_vectors
from memground.errors import InvalidInputError, ProviderError
from memground.openai_protocol import excerpt, naming_failures, open_client, report_usage

# OpenAI takes 2,048 texts and 300,000 tokens a request. No token is shorter than a byte, so counting bytes is safe.
_REQUEST_BYTES = 300_000


class OpenAIEmbedding(EmbeddingProvider):
    """A model behind ``POST {base_url}/embeddings``.

    ``dims`` is what the model produces; text-embedding-3 models are asked to produce that many, others have no choice.
    ``timeout`` is in seconds per attempt, ``max_retries`` how many attempts may follow the first, ``batch_size`` how
    many texts one request may carry. ``base_url`` defaults to OpenAI's.

    Raises ``ConfigurationError`` at once when the openai package is missing, ``InvalidInputError`` for an empty key.
    """

    _resizable: ClassVar[str] = "text-embedding-3"  # the models that take ``dimensions`` have this in their names

    def __init__(
        self,
        api_key: str,
        *,
        model: str = "text-embedding-3-small",
        dims: int = 1536,
        base_url: str | None = None,
        timeout: float = 30,
        max_retries: int = 3,
        batch_size: int = 2048,
    ) -> None:
        if dims < 1 or batch_size < 1:
            raise InvalidInputError(f"dims is {dims} and batch_size is {batch_size}, expected 1 or more")
        self._client = open_client(
            api_key, base_url=base_url or "https://api.openai.com/v1", timeout=timeout, max_retries=max_retries
        )
        self._model = model
        self._dims = dims
        self._batch_size = batch_size

    @property
    def dims(self) -> int:
        return self._dims

    @property
    def model_id(self) -> str:
        return self._model

    async def embed(self, text: str) -> list[float]:
        return (await self.embed_batch([text]))[0]

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        """The vectors in the order of the texts, by as few requests as the server's limits allow, one after another."""
        check_texts(texts)
        vectors: list[list[float]] = []
        for request in self.batches(texts):
            vectors += await self._ask(request)
        return vectors

    def batches(self, texts: list[str]) -> Iterator[list[str]]:
        """What one request each carries, by the server's limits."""
        request: list[str] = []
        size = 0
        for text in texts:
            length = len(text.encode())
            if request and (len(request) == self._batch_size or size + length > _REQUEST_BYTES):
                yield request
                request, size = [], 0
            request.append(text)
            size += length
        if request:
            yield request

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, texts: list[str]) -> list[list[float]]:
        from memground.embedding._openai_answer import Embeddings, ValidationError

        options: dict[str, Any] = {"dimensions": self._dims} if self._resizable in self._model else {}
        with naming_failures(self._model, self._client):
            response = await self._client.embeddings.with_raw_response.create(
                input=texts, model=self._model, encoding_format="float", **options
            )
        # Read here and not by the client, which believes whatever comes.
        content = response.http_response.content
        try:
            answer = Embeddings.model_validate_json(content)
        except ValidationError:
            found = excerpt(content.decode(errors="replace"), self._client)
            raise ProviderError(f"{self._model} did not answer with embeddings but with: {found}") from None
        report_usage(answer.usage)
        items = sorted(answer.data, key=lambda item: item.index)
        vectors = [item.embedding for item in items]
        checked = check_vectors(vectors, count=len(texts), dims=self._dims, model_id=self._model)
        if [item.index for item in items] != list(range(len(texts))):
            raise ProviderError(f"{self._model} numbered its {len(texts)} vectors wrongly, so they cannot be assigned")
        return checked
