"""Any sentence-transformers model, run by PyTorch on this machine."""

import asyncio
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from itertools import batched
from typing import Any

from memground.embedding._worker import PriorityWorker
from memground.embedding.base import EmbeddingProvider, check_texts, check_vectors
from memground.errors import ConfigurationError
from memground.extras import missing_package

_QUERY, _SINGLE, _BATCH = 0, 1, 2
_RUN_TEXTS = 32


class SentenceTransformerEmbedding(EmbeddingProvider):
    """A model by its name on the Hugging Face hub or by its folder; by default BAAI/bge-m3, good at Chinese.

    ``device`` is PyTorch's name ("cpu", "cuda", "mps"; default: the best there is). The constructor loads the
    model, and downloads it the first time: that takes seconds to minutes, so construct it before the event loop has
    work, or by ``asyncio.to_thread``. Texts are embedded in a thread of the provider's own, queries first.

    Raises ``ConfigurationError`` when the package is missing or the model cannot be loaded.
    """

    def __init__(self, model: str = "BAAI/bge-m3", *, device: str | None = None) -> None:
        try:
            package: Any = import_module("sentence_transformers")  # optional, so its types may be absent
        except ImportError:
            raise missing_package("sentence-transformers", "sentence-transformers") from None
        try:
            self._model = package.SentenceTransformer(model, device=device)
        except Exception as error:  # the hub, the file formats and PyTorch each raise types of their own
            raise ConfigurationError(f"the model {model!r} cannot be loaded: {error}") from error
        dims: int | None = self._model.get_sentence_embedding_dimension()
        if dims is None:
            raise ConfigurationError(f"the model {model!r} does not say how many dimensions its vectors have")
        self._name = model
        self._dims = dims
        self._query_prompt = "query" if "query" in self._model.prompts else None
        self._worker = PriorityWorker("neuromem-embedding")

    @property
    def dims(self) -> int:
        return self._dims

    @property
    def model_id(self) -> str:
        return self._name

    async def embed(self, text: str) -> list[float]:
        check_texts([text])
        return (await self._encode([text], _SINGLE))[0]

    async def embed_query(self, text: str) -> list[float]:
        """The vector of a search query, with the model's own query prompt if it has one."""
        check_texts([text])
        return (await self._encode([text], _QUERY, self._query_prompt))[0]

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        check_texts(texts)
        runs = [self._encode(list(run), _BATCH) for run in batched(texts, _RUN_TEXTS)]
        return [vector for vectors in await asyncio.gather(*runs) for vector in vectors]

    def batches(self, texts: list[str]) -> Iterable[list[str]]:
        """Runs of what the model takes at once."""
        return (list(run) for run in batched(texts, _RUN_TEXTS))

    async def close(self) -> None:
        """Finish what was begun and end the thread. The provider cannot be used afterwards."""
        await asyncio.to_thread(self._worker.close)

    async def _encode(self, texts: list[str], priority: int, prompt: str | None = None) -> list[list[float]]:
        job = partial(self._model.encode, texts, prompt_name=prompt, show_progress_bar=False)
        vectors = await asyncio.wrap_future(self._worker.submit(priority, job))
        return check_vectors(vectors.tolist(), count=len(texts), dims=self._dims, model_id=self._name)
