"""A small deterministic embedding for tests in which meaning does not matter and speed does."""

import hashlib
import math

from memground.embedding import EmbeddingProvider


class HashEmbedding(EmbeddingProvider):
    """Words hashed into buckets and normalised: texts that share words are near each other."""

    def __init__(self, dims: int = 32, name: str = "hash") -> None:
        self._dims = dims
        self._name = name
        self.calls = 0

    @property
    def dims(self) -> int:
        return self._dims

    @property
    def model_id(self) -> str:
        return f"{self._name}-{self._dims}"

    async def embed(self, text: str) -> list[float]:
        self.calls += 1
        return self._vector(text)

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        vector = [0.01] * self._dims
        for word in text.lower().split():
            digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
            vector[int.from_bytes(digest[:4]) % self._dims] += 1.0 if digest[4] % 2 else -1.0
        length = math.sqrt(sum(x * x for x in vector))
        return [x / length for x in vector]
