"""Embedding providers, under the path the documentation names. Subclass `EmbeddingProvider` for your own."""

from memground.embedding import (
    EmbeddingProvider,
    LocalEmbedding,
    OpenAIEmbedding,
    SentenceTransformerEmbedding,
    SiliconFlowEmbedding,
)

__all__ = [
    "EmbeddingProvider",
    "LocalEmbedding",
    "OpenAIEmbedding",
    "SentenceTransformerEmbedding",
    "SiliconFlowEmbedding",
]
