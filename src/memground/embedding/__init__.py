"""Embedding providers: one abstract class, one module per vendor. Importing this imports no vendor's package."""

from memground.embedding.base import EmbeddingProvider, check_texts, check_vectors
from memground.embedding.install import install_model
from memground.embedding.local import LocalEmbedding
from memground.embedding.openai import OpenAIEmbedding
from memground.embedding.sentence_transformer import SentenceTransformerEmbedding
from memground.embedding.siliconflow import SiliconFlowEmbedding

__all__ = [
    "EmbeddingProvider",
    "LocalEmbedding",
    "OpenAIEmbedding",
    "SentenceTransformerEmbedding",
    "SiliconFlowEmbedding",
    "check_texts",
    "check_vectors",
    "install_model",
]
